from dataclasses import replace

import jax
import numpy as np
import optax
import pytest

from fbp import InputError
from fbp.data import load
from fbp.nn import dense, relu, serial
from fbp.train import loop, train
from fbp.train.resume import Measurement, RunCheckpoints

DIGITS = load("digits")
NETWORK = serial(hidden=dense(8), out=dense(10))


class Killed(Exception):
    """The run ends here."""


@pytest.fixture(scope="module", autouse=True)
def _always_due():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fbp.checkpoints.SAVING", float("inf"))
        yield


def run(directory=None, *, devices=1, network=NETWORK, data=DIGITS, rate=0.2, seed=3, **options):
    """Its validation loss is lowest after 28 steps of 48."""
    return train(
        network,
        data,
        optax.sgd(rate, momentum=0.9),
        key=jax.random.key(seed),
        mesh=jax.make_mesh((devices,), ("data",), devices=jax.devices()[:devices]),
        checkpoints=directory,
        **{"steps": 48, "batch_size": 16, "evaluate_every": 4, **options},
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("finished") / "run"
    return directory, run(directory)


def interrupt(directory, monkeypatch, after, **options):
    """A run that ends before so many measurements are kept."""
    save, calls = RunCheckpoints.maybe_save, []

    def killed(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == after:
            raise Killed
        save(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoints, "maybe_save", killed)
        with pytest.raises(Killed):
            run(directory, **options)


def bits(outcome):
    """All of a state, and the history, where NaN equals itself."""
    state = outcome.state
    arrays = (state.params, state.opt_state, state.step, jax.random.key_data(state.key))
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(arrays)]
    return leaves, str(outcome.history), outcome.stopped


def numbers(directory):
    return {int(path.name) for path in directory.iterdir()}


def test_interrupted_run_goes_on_bit_for_bit(tmp_path, monkeypatch, finished):
    interrupt(tmp_path, monkeypatch, 6)
    assert max(numbers(tmp_path)) == 20
    assert bits(run(tmp_path)) == bits(finished[1])


def test_best_state_and_patience_outlast_an_interruption(tmp_path, monkeypatch):
    complete = run(patience=2)
    assert complete.stopped == "patience"
    assert (int(complete.state.step), complete.history[-1].step) == (28, 36)
    interrupt(tmp_path, monkeypatch, 9, patience=2)
    assert max(numbers(tmp_path)) == 32
    assert bits(run(tmp_path, patience=2)) == bits(complete)


def test_last_two_checkpoints_and_that_of_the_lowest_loss_are_preserved(finished):
    assert numbers(finished[0]) == {28, 44, 48}


def test_steps_that_are_saved_are_not_repeated(monkeypatch, finished):
    directory, outcome = finished
    monkeypatch.setattr(loop, "Measurement", lambda step, *_: Measurement(step, 1.0, 9.0, 0.0))
    assert bits(run(directory)) == bits(outcome)


def test_run_goes_on_on_another_number_of_devices(tmp_path, monkeypatch, finished):
    interrupt(tmp_path, monkeypatch, 3, steps=16)
    resumed = run(tmp_path, devices=4, steps=16)
    assert len(jax.tree.leaves(resumed.state.params)[0].sharding.device_set) == 4
    expected = [each.loss for each in finished[1].history[:5]]
    np.testing.assert_allclose([each.loss for each in resumed.history], expected, rtol=1e-4)


def relabeled(part):
    """The digits where each label of a part is the next example's."""
    split = getattr(DIGITS, part)
    return replace(DIGITS, **{part: replace(split, y=np.roll(split.y, 1))})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("batch_size", {"batch_size": 8}),
        ("evaluate_every", {"evaluate_every": 8}),
        ("key", {"seed": 4}),
        ("data.train", {"data": relabeled("train")}),
        ("data.validation", {"data": relabeled("validation")}),
        ("the network, the loss or the optimizer", {"rate": 0.3}),
        (
            "the network, the loss or the optimizer",
            {"network": serial(hidden=dense(8), act=relu(), out=dense(10))},
        ),
    ],
    ids=["batch_size", "evaluate_every", "key", "labels", "validation", "rate", "network"],
)
def test_another_call_does_not_go_on_from_these_checkpoints(finished, name, options):
    """It is refused before a step is taken, what differs is named, and nothing is lost."""
    directory, _ = finished
    with pytest.raises(InputError, match=rf"the run there has {name} = .*: give the same, or"):
        run(directory, **options)
    assert numbers(directory) == {28, 44, 48}
