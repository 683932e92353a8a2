"""What cannot be mapped over trials is told with its line, and trained without vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbp import InputError
from fbp.nn import mlp
from fbp.records import read_environment, read_records
from fbp.sweep import Problem, run
from fbp.train.objective import objective_for

X = np.linspace(-1, 1, 32, dtype=np.float32)
TRAIN = {"steps": 4, "batch_size": 8, "evaluate_every": 2}
SWEEP = {"learning_rate": [0.01, 0.1], "seeds": 1}
DATA = {"train": X, "validation": X}


def unmapped(x):
    """A callback that vmap refuses."""
    x = jax.lax.stop_gradient(x)
    return jax.pure_callback(lambda x: np.asarray(x), jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def loss(w, batch, key):
    return jnp.mean((w * batch - 3 * unmapped(batch + 0 * w)) ** 2)


PROBLEM = Problem(DATA, lambda key: jnp.zeros(()), loss, optimizer=optax.sgd)


def test_loss_that_fails_under_vmap_is_told_and_trained_in_turn(tmp_path, capsys):
    summary = run(PROBLEM, out=tmp_path / "run", train=TRAIN, sweep=SWEEP)
    told = capsys.readouterr().err
    assert "under vmap over the axis 'trials'" in told
    assert "test_vmapping.py:" in told
    assert read_environment(tmp_path / "run")["trials"]["0"]["kind"] == "map"
    assert summary["best"]["learning_rate"] == 0.1
    assert len([r for r in read_records(tmp_path / "run") if r["kind"] == "train"]) == 4


def test_vmap_that_the_config_asks_for_is_refused_with_the_line(tmp_path):
    with pytest.raises(InputError, match=r"axis 'trials', loss fails at .*test_vmapping\.py:\d+"):
        run(PROBLEM, out=tmp_path / "run", train=TRAIN, sweep={**SWEEP, "trials": "vmap"})


def test_init_that_fails_under_vmap_is_told_and_drawn_in_turn(tmp_path, capsys):
    init = lambda key: 0 * jnp.sum(unmapped(jax.random.normal(key, (2,))))
    problem = Problem(
        DATA, init, lambda w, batch, key: jnp.mean((w * batch - 3) ** 2), optimizer=optax.sgd
    )
    run(problem, out=tmp_path / "run", train=TRAIN, sweep=SWEEP)
    told = capsys.readouterr().err
    assert "under vmap over the axis 'trials', init fails at" in told
    assert "test_vmapping.py:" in told
    assert read_environment(tmp_path / "run")["trials"]["0"]["kind"] == "map"


GROWING = optax.GradientTransformation(
    lambda params: jnp.zeros((), int), lambda updates, state, params: (updates, state.astype(float))
)


def broken(w, batch, key):
    return jnp.mean(w @ jnp.ones((2, 3)) * jnp.sum(batch))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": broken}, r"loss fails at .*test_vmapping\.py:\d+: \w+Error"),
        ({"init": lambda key: key + "a"}, r"init fails at .*test_vmapping\.py:\d+: "),
        ({"init": lambda key: jnp.int32(1)}, r"params is int32\[\]: parameters must be floats"),
        ({"loss": lambda w, batch, key: w * batch}, r"the loss is float32\[8\]: .* one real num"),
        ({"loss": lambda w, batch, key: (w, 1)}, "the loss is of type tuple: .* has_aux or has_st"),
        ({"loss": lambda w, batch: w}, r"loss fails.*TypeError"),
        ({"loss": lambda w, b, key: w * jnp.nan}, "nan before the first step, in every trial"),
        ({"metrics": lambda w, batch: {"m": w * batch}}, r"metric m is float32\[32\]: give one r"),
        (
            {"metrics": lambda w, batch: {"m": jax.lax.complex(w, w)}},
            r"metric m is complex64\[\]: give one real",
        ),
        ({"metrics": lambda w, batch: {"m": w > 0}}, r"metric m is bool\[\]: give one real"),
        ({"metrics": lambda w, batch: {"m": "w"}}, "metric m is a str: give one real number"),
        ({"metrics": lambda w, batch: {"m": None}}, "metric m is a NoneType: give one real number"),
        ({"metrics": lambda w, batch: {"m": [w]}}, "metric m is a list: give one real number"),
        ({"metrics": lambda w, batch: {1: w}}, "metrics: 1 is a int: give names as strings"),
        (
            {"metrics": lambda w, batch: {"seed": w, "learning_rate": w}},
            "learning_rate, seed: a",
        ),
        ({"metrics": lambda w, batch: w}, "metrics returns a .*: give a dictionary"),
        ({"metrics": lambda w, batch: {"m": w}, "metric": "f1"}, "metric f1 is not measured: give"),
        ({"optimizer": lambda rate: optax.sgd(rate)}, "optimizer fails.*learning_rate"),
        ({"optimizer": lambda learning_rate: 3}, "optimizer returns a int: give an optax"),
        (
            {"optimizer": lambda learning_rate: GROWING},
            r"state changes in a step: .* is int32",
        ),
        ({"optimizer": None}, "optimizer: this is missing"),
        ({"eval_params": lambda state, params: 1 / 0}, r"eval_params fails at .*ZeroDivisionError"),
        ({"init": lambda key: {}}, "params have no entries: there is nothing to train"),
        (
            {"init": lambda key: jnp.ones(()) * jnp.nan},
            "validation loss is nan before the",
        ),
        (
            {"loss": lambda w, b, key: jnp.exp(1000 * w)},
            "validation loss is inf before the",
        ),
        ({"has_state": True}, r"init returns a .*: with has_state it returns \(params, carried\)"),
        ({"has_aux": True}, r"the loss must return \(loss, aux\), not"),
        ({"data": {"train": X}}, "data has no part validation"),
        ({"data": {"train": X, "validation": X[:0]}}, r"validation'\] has shape \[0\]"),
        ({"data": {"train": X[:4], "validation": X}}, "batch_size is 8, but data has only 4"),
        ({"data": {"train": [(X, X[:3])], "validation": X}}, r"has shape \[3\], but .* \[32\]"),
        ({"data": {"train": {"x": X, "n": "a"}, "validation": X}}, "is a str: give arrays"),
        ({"data": {"train": np.array(["a"] * 9), "validation": X}}, "is of type <U1: give numbers"),
        ({"data": {"trian": X}}, "give a Dataset, or a dictionary with the keys train, validation"),
        ({"data": {"train": lambda: iter(()), "validation": X}}, "yields no batch"),
    ],
    ids=lambda value: None,
)
def test_what_cannot_be_trained_is_told_in_a_line_and_leaves_no_run(changes, message, tmp_path):
    own = {"optimizer": optax.sgd, "init": lambda key: jnp.ones(()), "data": DATA}
    plain = lambda w, batch, key: jnp.mean((w * batch) ** 2)
    out = tmp_path / "run"
    train = dict(TRAIN)
    if callable(changes.get("data", {}).get("train")):
        del train["batch_size"]
    with pytest.raises(InputError, match=message):
        run(Problem(**{"loss": plain, **own, **changes}), out=out, train=train, sweep=SWEEP)
    assert not (out / "summary.json").exists()


def test_batches_of_unequal_shapes_are_refused(tmp_path):
    batches = lambda: iter([X[:8], X[:5]])
    problem = Problem(
        {"train": batches, "validation": X},
        lambda key: jnp.ones(()),
        lambda w, batch, key: jnp.mean((w * batch) ** 2),
        optimizer=optax.sgd,
    )
    with pytest.raises(InputError, match="batches of steps 0 to 2 differ"):
        run(problem, out=tmp_path / "run", train={"steps": 4, "evaluate_every": 2}, sweep=SWEEP)


def test_iterator_that_can_be_read_once_is_remembered(tmp_path):
    def losses(train, directory):
        problem = Problem(
            {"train": train, "validation": X},
            lambda key: jnp.ones(()),
            lambda w, batch, key: jnp.mean((w * batch) ** 2),
            optimizer=optax.sgd,
        )
        run(problem, out=directory, train={"steps": 5, "evaluate_every": 2}, sweep=SWEEP)
        return [row["loss"] for row in read_records(directory)]

    batches = [X[:8], X[8:16]]
    once = losses(iter(batches), tmp_path / "once")
    assert once == losses(lambda: iter(batches), tmp_path / "again")


ROWS = np.ones((32, 2), np.float32)


@pytest.mark.parametrize(
    ("y", "classes", "message"),
    [
        (
            np.ones((32, 1), np.float32),
            0,
            r"train: y has shape \[32, 1\]: give one of",
        ),
        (np.ones(32, np.float32), 2, "train: y is of type float32: give the classes as integers"),
        (np.full(32, 7), 2, "train: y goes from 7 to 7: with 2 outputs give integers from 0 to 1"),
        (np.full(32, -1), 2, "train: y goes from -1 to -1: with 2 outputs"),
    ],
    ids=["column", "floats", "beyond", "negative"],
)
def test_targets_that_are_none_are_refused(y, classes, message, tmp_path):
    task = "classification" if classes else "regression"
    objective = objective_for(task, classes)
    part = ROWS, y
    data = {"train": part, "validation": part}
    problem = Problem(data, mlp([objective.outputs]), objective, optimizer=optax.sgd)
    with pytest.raises(InputError, match=message):
        run(problem, out=tmp_path / "run", train=TRAIN, sweep=SWEEP)
