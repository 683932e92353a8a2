"""Optuna says what to try, a batch at a time; a sweep that goes on asks it the same."""

import json

import numpy as np
import pytest

from fbp.config import LogGrid, OptunaSearch, Range, Sweep
from fbp.config_file import problem_config
from fbp.errors import InputError
from fbp.sweep import run
from fbp.sweep.optuna_search import asked_settings
from tests.support.interruption import killed_in_the_third_segment
from tests.support.line import line_problem

pytest.importorskip("optuna", reason="fbp-jax[optuna] brings it")

TRAIN = {"steps": 10, "batch_size": 8, "evaluate_every": 5}
SEARCH = {"kind": "optuna", "trials": 10, "ask": 4}
SWEEP = {
    "learning_rate": {"low": 1e-3, "high": 1e3},
    "seeds": 2,
    "trials": "vmap",
    "search": SEARCH,
}


def sweep_line(out, **options):
    return run(line_problem(), out=out, train=TRAIN, sweep=SWEEP, **options)


def test_optuna_that_is_missing_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("fbp.sweep.optuna_search.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'fbp-jax\[optuna\]'"):
        sweep_line(tmp_path / "run")
    assert not (tmp_path / "run" / "records.jsonl").exists()


def test_sweep_trains_what_optuna_says_and_goes_on_bit_for_bit(tmp_path, monkeypatch):
    summary = sweep_line(tmp_path / "whole")
    records = (tmp_path / "whole" / "records.jsonl").read_bytes()
    rows = [json.loads(line) for line in records.splitlines()]
    rates = {row["trial"] // 2: row["learning_rate"] for row in rows}
    assert len(rates) == len(set(rates.values())) == len(summary["rates"]) == 10
    assert {row["trial"] for row in rows if row["kind"] == "diverged"}  # Optuna is told of them
    assert {row["kind"] for row in rows} >= {"train", "eval", "test"}

    monkeypatch.setattr("fbp.checkpoints.SAVING", float("inf"))
    with killed_in_the_third_segment(monkeypatch):
        sweep_line(tmp_path / "killed")
    sweep_line(tmp_path / "killed", resume=True)
    assert (tmp_path / "killed" / "records.jsonl").read_bytes() == records


def test_what_is_told_changes_what_is_asked_and_no_more():
    ranges = {"momentum": Range(0.0, 1.0, "linear"), "decay": LogGrid(0.1, 10.0, 3)}
    sweep = Sweep(Range(1e-4, 1.0), 1, ranges, search=OptunaSearch(trials=40, ask=12, seed=3))
    low, high = [[[sign * i for i in range(12)]] * 3 for sign in (1.0, -1.0)]
    first, second, third, last = asked_settings(sweep, low)
    assert [len(batch) for batch in (first, second, third, last)] == [12, 12, 12, 4]
    assert asked_settings(sweep, low[:1]) == [first, second]
    assert asked_settings(sweep, high[:1])[0] == first
    assert asked_settings(sweep, high[:1])[1] != second
    for setting in [*first, *last]:
        assert 1e-4 <= setting["learning_rate"] <= 1.0
        assert 0 <= setting["momentum"] <= 1
        assert setting["decay"] in (0.1, 1.0, 10.0)


def test_search_that_is_told_of_infinity_goes_on():
    sweep = Sweep(Range(1e-4, 1.0), 1, search=OptunaSearch(trials=30, ask=15))
    told = [[-np.inf if i % 2 else float(i) for i in range(15)]]
    assert len(asked_settings(sweep, told)[1]) == 15


def test_axes_and_parts_are_refused(tmp_path):
    with pytest.raises(InputError, match="optuna takes none"):
        Sweep((0.1,), 1, axes={"network.widths": ((4,),)}, search=OptunaSearch(4))
    with pytest.raises(InputError, match="ask: must be at least 1"):
        problem_config(
            {"name": "a", "train": TRAIN, "sweep": SWEEP | {"search": SEARCH | {"ask": 0}}}, ""
        )
    with pytest.raises(InputError, match="told of all trials before it says"):
        sweep_line(tmp_path / "run", part="0/2")
