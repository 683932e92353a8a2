"""The way to run trials is settled after their first steps, which count unless another is taken."""

import jax
import numpy as np
import optax
import pytest

from fbp.records import read_environment, read_records
from fbp.sweep import Problem, autotuning, run, runner

X = np.linspace(-1, 1, 32, dtype=np.float32)
PROBLEM = Problem(
    {"train": X, "validation": X},
    lambda key: jax.random.normal(key),
    lambda w, batch, key: ((w * batch - 3 * batch) ** 2).mean(),
    optimizer=optax.sgd,
)
TRAIN = {"steps": 10, "batch_size": 8, "evaluate_every": 2}
SWEEP = {"learning_rate": [0.01, 0.1], "seeds": 2}


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Every study is measured; `loop` has the speed that is given, the others none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(autotuning, "MEASURE_FROM", 0.0)
    monkeypatch.setattr(autotuning, "BUDGET", 1e9)
    tried, compiled = [], []
    speeds = {}

    def attempt(study, way, states):
        tried.append(way.kind)
        return speeds.get(way.kind, 1e-9), 1e-3

    make = runner.make_program

    def counted(study, parallelism):
        compiled.append(parallelism.kind)
        return make(study, parallelism)

    monkeypatch.setattr(autotuning, "_time_candidate", attempt)
    monkeypatch.setattr(runner, "make_program", counted)
    return speeds, tried, compiled


def test_steps_of_the_way_that_is_fastest_are_made_once(measured, tmp_path):
    _, tried, compiled = measured
    run(PROBLEM, out=tmp_path / "run", train=TRAIN, sweep=SWEEP)
    assert compiled == ["vmap"]
    assert "vmap" not in tried
    assert "loop" in tried
    choice = read_environment(tmp_path / "run")["trials"]["0"]
    assert choice["kind"] == "vmap"
    assert choice["trial_steps_per_second"]["vmap"] > 0


def test_run_that_changes_its_way_is_bit_for_bit_one_of_that_way(measured, tmp_path):
    speeds, _, compiled = measured
    speeds["loop"] = 1e12
    changed = run(PROBLEM, out=tmp_path / "changed", train=TRAIN, sweep=SWEEP)
    assert compiled == ["vmap", "loop"]
    assert read_environment(tmp_path / "changed")["trials"]["0"]["kind"] == "loop"
    plain = run(PROBLEM, out=tmp_path / "plain", train=TRAIN, sweep={**SWEEP, "trials": "loop"})
    assert read_records(tmp_path / "changed") == read_records(tmp_path / "plain")
    assert changed["best"] == plain["best"]


def test_second_run_takes_the_remembered_way_from_its_first_step(measured, tmp_path):
    speeds, tried, compiled = measured
    speeds["loop"] = 1e12
    for name in ("first", "second"):
        run(PROBLEM, out=tmp_path / name, train=TRAIN, sweep=SWEEP)
        times = len(tried)
        if name == "first":
            before = times
    assert times == before > 0
    assert compiled == ["vmap", "loop", "loop"]


def test_run_that_is_interrupted_as_its_way_is_measured_ends_as_one_that_was_not(
    measured, monkeypatch, tmp_path
):
    speeds, _, _ = measured
    speeds["loop"] = 1e12
    run(PROBLEM, out=tmp_path / "whole", train=TRAIN, sweep=SWEEP)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    attempt = autotuning._time_candidate

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(autotuning, "_time_candidate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(PROBLEM, out=tmp_path / "run", train=TRAIN, sweep=SWEEP)
    assert read_environment(tmp_path / "run").get("trials", {}) == {}
    monkeypatch.setattr(autotuning, "_time_candidate", attempt)
    run(PROBLEM, out=tmp_path / "run", train=TRAIN, sweep=SWEEP, resume=True)
    assert read_records(tmp_path / "run") == read_records(tmp_path / "whole")
