"""An own problem goes on bit for bit; what changed since a run began is named, not trained."""

import json
import shutil
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbp import InputError
from fbp.report.run_directory import read_run
from fbp.sweep import Batches, Problem, run
from tests.support.interruption import killed_in_the_third_segment

X = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5], np.float32)).astype(np.float32)
DATA = {"train": (X[:48], Y[:48]), "validation": (X[48:], Y[48:])}
TRAIN = {"steps": 8, "batch_size": 16, "evaluate_every": 2}
SWEEP = {"learning_rate": [0.01, 0.1], "seeds": 2, "trials": "map"}
SCALE = 1.0


def init(key):
    return {"w": jax.random.normal(key, (3,))}, {"steps": jnp.int32(0)}


def loss(params, state, batch, key, scale=1.0):
    noise = scale * 0.1 * jax.random.normal(key, batch[1].shape)
    value = jnp.mean((batch[0] @ params["w"] - batch[1] + noise) ** 2)
    return value, {"steps": state["steps"] + 1}


def metrics(params, state, batch):
    return {"steps": state["steps"], "size": jnp.sum(jnp.abs(params["w"]))}


def optimizer(learning_rate):
    return optax.sgd(learning_rate, 0.9)


PROBLEM = Problem(DATA, init, loss, optimizer=optimizer, metrics=metrics, has_state=True)


@pytest.fixture(autouse=True)
def _always_due(monkeypatch):
    monkeypatch.setattr("fbp.checkpoints.SAVING", float("inf"))


def interrupt(problem, directory, monkeypatch, train=TRAIN):
    """Ends with a segment recorded that no checkpoint has, after two of them."""
    with killed_in_the_third_segment(monkeypatch):
        run(problem, out=directory, train=train, sweep=SWEEP)


def batches():
    for i in range(3):
        yield X[16 * i : 16 * (i + 1)], Y[16 * i : 16 * (i + 1)]


@pytest.mark.parametrize("source", ["arrays", "batches"])
def test_own_problem_goes_on_bit_for_bit(tmp_path, monkeypatch, source):
    """State, noise, momentum; from arrays and from batches that are read again."""
    problem, train = PROBLEM, TRAIN
    if source == "batches":
        problem = replace(PROBLEM, data={**DATA, "train": Batches(batches)})
        train = {k: v for k, v in TRAIN.items() if k != "batch_size"}
    run(problem, out=tmp_path / "whole", train=train, sweep=SWEEP)
    interrupt(problem, tmp_path / "run", monkeypatch, train)
    run(problem, out=tmp_path / "run", train=train, sweep=SWEEP, resume=True)
    whole, again = ((tmp_path / n / "records.jsonl").read_bytes() for n in ("whole", "run"))
    assert again == whole
    assert json.loads(whole.splitlines()[-1])["steps"] == 8


@pytest.fixture(scope="module")
def interrupted_once(tmp_path_factory):
    directory = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("fbp.checkpoints.SAVING", float("inf"))
        interrupt(PROBLEM, directory, monkeypatch)
    return directory


@pytest.fixture
def interrupted(interrupted_once, tmp_path):
    """A copy that a test may alter."""
    return shutil.copytree(interrupted_once, tmp_path / "run")


def resume(problem, directory, train=TRAIN, sweep=SWEEP):
    return run(problem, out=directory, train=train, sweep=sweep, resume=True)


def flipped():
    labels = Y[:48].copy()
    labels[3] = -labels[3]
    return {**DATA, "train": (X[:48], labels)}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"data": flipped()}, "data.train"),
        ({"data": {**DATA, "validation": (X[48:] + 1, Y[48:])}}, "data.validation"),
        ({"loss": lambda *args: loss(*args, scale=2.0)}, "loss"),
        ({"init": lambda key: jax.tree.map(lambda leaf: 2 * leaf, init(key))}, "init"),
        ({"optimizer": lambda learning_rate: optax.sgd(learning_rate, 0.8)}, "optimizer"),
        ({"metrics": lambda *args: {**metrics(*args), "size": jnp.float32(0)}}, "metrics"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_changed_since_a_run_began_is_named(interrupted, changes, key):
    before = (interrupted / "records.jsonl").read_bytes()
    with pytest.raises(InputError, match=rf"run: {key}(, metrics)? changed since this run began"):
        resume(replace(PROBLEM, **changes), interrupted)
    assert (interrupted / "records.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("train", "sweep", "key"),
    [
        ({**TRAIN, "steps": 10}, SWEEP, "train.steps is 8 there and 10 here"),
        (TRAIN, {**SWEEP, "learning_rate": [0.01, 0.2]}, "sweep.learning_rate is"),
    ],
)
def test_other_config_is_refused_by_its_key(interrupted, train, sweep, key):
    with pytest.raises(InputError, match=key):
        resume(PROBLEM, interrupted, train, sweep)


def test_config_that_was_altered_in_the_run_is_told(interrupted):
    path = interrupted / "config.toml"
    path.write_text(path.read_text() + "# a remark\n")
    with pytest.raises(InputError, match="run: config changed since"):
        resume(PROBLEM, interrupted)


def shortened(path):
    path.write_bytes(path.read_bytes()[:200])


def one_digit(path):
    content = bytearray(path.read_bytes())
    place = content.index(b'"loss": ') + 10
    content[place] = ord("1") if content[place] != ord("1") else ord("2")
    path.write_bytes(bytes(content))


def lengthened(path):
    path.write_bytes(path.read_bytes() + b"not a record\n")


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (shortened, r"records\.jsonl: shortened to 200 bytes"),
        (one_digit, r"records\.jsonl: altered before byte"),
        (lengthened, r"records\.jsonl: what follows byte \d+ is no record"),
    ],
)
def test_altered_records_are_told_before_anything_trains(interrupted, alter, message, monkeypatch):
    alter(interrupted / "records.jsonl")
    before = (interrupted / "records.jsonl").read_bytes()
    with pytest.raises(InputError, match=message):
        resume(PROBLEM, interrupted)
    assert (interrupted / "records.jsonl").read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, '{"fingerprints": 3}'])
def test_broken_environment_is_told(interrupted, content):
    (interrupted / "environment.json").write_text(content)
    with pytest.raises(InputError, match=r"environment\.json"):
        resume(PROBLEM, interrupted)


@pytest.mark.parametrize("content", ["", "{", "3"])
def test_broken_summary_is_told(interrupted, content):
    resume(PROBLEM, interrupted)
    assert resume(PROBLEM, interrupted)["name"] == "sweep"
    (interrupted / "summary.json").write_text(content)
    with pytest.raises(InputError, match=r"summary\.json: damaged"):
        resume(PROBLEM, interrupted)


def cut_by_a_line(path):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))


def repeated(path):
    content = path.read_bytes()
    path.write_bytes(content + content.splitlines(keepends=True)[-1])


@pytest.fixture(scope="module")
def complete_once(tmp_path_factory):
    directory = tmp_path_factory.mktemp("complete") / "run"
    run(PROBLEM, out=directory, train=TRAIN, sweep=SWEEP)
    return directory


@pytest.fixture
def complete(complete_once, tmp_path):
    return shutil.copytree(complete_once, tmp_path / "run")


@pytest.mark.parametrize("alter", [shortened, cut_by_a_line, one_digit, repeated])
@pytest.mark.parametrize("read", [partial(resume, PROBLEM), read_run])
def test_altered_records_of_a_complete_run_are_told(complete, alter, read):
    read(complete)
    alter(complete / "records.jsonl")
    with pytest.raises(InputError, match=r"records\.jsonl: altered since the run was complete"):
        read(complete)


@pytest.mark.parametrize("content", ["", "{", "3"])
def test_broken_environment_of_a_complete_run_is_told(complete, content):
    (complete / "environment.json").write_text(content)
    with pytest.raises(InputError, match=r"environment\.json: damaged"):
        resume(PROBLEM, complete)


def test_parallelism_that_was_altered_is_told(interrupted):
    path = interrupted / "environment.json"
    facts = json.loads(path.read_text())
    for wrong in ({"kind": "warp"}, {"kind": "map", "batch_size": "two"}, 3):
        facts["trials"] = {"0": wrong}
        path.write_text(json.dumps(facts))
        with pytest.raises(InputError, match=r"environment\.json: trials"):
            resume(PROBLEM, interrupted)
