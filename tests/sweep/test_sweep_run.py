import json
from dataclasses import replace
from itertools import product

import pytest

from fbp import InputError
from fbp.config import (
    MLP,
    Config,
    Data,
    Halving,
    Optimizer,
    RandomSearch,
    Range,
    Sweep,
    Train,
)
from fbp.records import (
    add_to_environment,
    append_records,
    create_run,
    read_environment,
    read_records,
)
from fbp.report.run_directory import read_run
from fbp.sweep import load_problem, summary_table, sweep
from fbp.sweep.sampling import sample_settings
from fbp.verify import Agreement

CONFIG = Config(
    name="demo",
    data=Data("digits"),
    network=MLP((8,)),
    optimizer=Optimizer("sgd"),
    train=Train(steps=25, batch_size=16, evaluate_every=10, target=0.2),
    sweep=Sweep((0.1, 0.5, 1e4), 2),
)
PROBLEM = load_problem(CONFIG)
RATE_RANGE = {"learning_rate": Range(0.01, 1.0)}
CHECK = Agreement(0.5, "params['w']", 1.0, 1.0, 2.0, 1e-7)


@pytest.fixture
def directory(tmp_path):
    create_run(tmp_path / "run", 'name = "demo"\n[train]\ntarget = 0.2\n')
    return tmp_path / "run"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tmp_path_factory.mktemp("finished") / "run"
    create_run(run, 'name = "demo"\n')
    return run, sweep(CONFIG, PROBLEM, run, CHECK)


def rows(run, kind):
    return [row for row in read_records(run) if row["kind"] == kind]


def test_every_measurement_has_a_row(finished):
    run, _ = finished
    steps = {kind: sorted({row["step"] for row in rows(run, kind)}) for kind in ("train", "eval")}
    assert steps == {"train": [10, 20, 25], "eval": [0, 10, 20, 25]}
    assert len(rows(run, "train")) == 4 * 3
    assert len(rows(run, "eval")) == 6 + 4 * 3
    assert {row["trial"] for row in rows(run, "diverged")} == {4, 5}
    assert all(1 <= row["step"] < 10 for row in rows(run, "diverged"))


def test_rows_name_their_trial(finished):
    run, _ = finished
    for row in read_records(run):
        assert row["learning_rate"] == (0.1, 0.5, 1e4)[row["trial"] // 2]
        assert row["seed"] == row["trial"] % 2


def test_only_the_best_rates_trials_are_tested_and_once(finished):
    run, summary = finished
    tested = rows(run, "test")
    best = summary["best"]["learning_rate"]
    assert [(row["learning_rate"], row["seed"]) for row in tested] == [(best, 0), (best, 1)]
    mean = sum(row["accuracy"] for row in tested) / 2
    assert summary["best"]["test_accuracy"]["mean"] == pytest.approx(mean)


def test_summary_has_speed_and_gradient_check_and_is_what_the_report_reads(finished):
    run, summary = finished
    assert summary["trial_steps_per_second"] > 0
    assert summary["gradient_check"] == {
        "max_ulps": 0.5,
        "leaf": "params['w']",
        "raw_max_ulps": 2.0,
        "reference": "jax.grad",
        "rounding": [],
    }
    assert json.loads((run / "summary.json").read_text()) == summary
    assert read_run(run).complete


def test_table_has_a_line_for_each_rate_and_marks_the_best(finished):
    _, summary = finished
    head, *lines = summary_table(summary).splitlines()
    assert "learning rate" in head
    assert [line.strip().split()[0 if line[0] == " " else 1] for line in lines] == [
        "0.1",
        "0.5",
        "1e+04",
    ]
    marked = [line for line in lines if line.startswith("*")]
    assert len(marked) == 1
    assert f"{summary['best']['learning_rate']:.3g}" in marked[0]


def interrupting(call, error):
    """append_records, but its `call`-th call fails."""
    calls = []

    def append(directory, rows):
        calls.append(directory)
        if len(calls) == call:
            raise error
        append_records(directory, rows)

    return append


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("no space left on device")])
def test_run_that_ends_early_leaves_what_it_measured(directory, monkeypatch, error):
    monkeypatch.setattr("fbp.sweep.training.append_records", interrupting(3, error))
    config = replace(CONFIG, train=replace(CONFIG.train, steps=20))
    with pytest.raises(type(error)):
        sweep(config, PROBLEM, directory, CHECK)
    assert {row["step"] for row in rows(directory, "eval")} == {0, 10}
    run = read_run(directory)
    assert not run.complete
    assert [entry["trials"] for entry in run.summary["rates"]] == [2, 2, 2]


def test_sweep_of_diverging_trials_alone_ends_early_and_names_no_best(directory):
    config = replace(CONFIG, sweep=Sweep((1e4,), 1))
    summary = sweep(config, PROBLEM, directory, CHECK)
    assert summary["best"] is None
    assert max(row["step"] for row in read_records(directory)) < 10
    assert rows(directory, "test") == []


def test_regression_has_r2_and_other_hyperparameters_are_columns(directory):
    config = replace(
        CONFIG,
        data=Data("diabetes"),
        train=Train(steps=4, batch_size=16, evaluate_every=2),
        sweep=Sweep((0.01,), 1, {"momentum": (0.0, 0.5)}),
    )
    summary = sweep(config, load_problem(config), directory, CHECK)
    assert all({"r2", "momentum"} <= row.keys() for row in rows(directory, "eval"))
    assert [entry["momentum"] for entry in summary["rates"]] == [0.0, 0.5]
    assert summary["metric"] == "r2"
    assert len(rows(directory, "test")) == 1


def test_axes_are_columns_of_one_run_and_the_best_is_of_all(directory):
    axes = {"network.activation": ("relu", "tanh"), "train.batch_size": (16, 32)}
    train = Train(steps=4, batch_size=16, evaluate_every=2)
    config = replace(CONFIG, train=train, sweep=Sweep((0.1, 1.0), 2, axes=axes))
    summary = sweep(config, PROBLEM, directory, CHECK)
    actual = {
        (row["trial"], row["network.activation"], row["train.batch_size"], row["learning_rate"])
        for row in rows(directory, "eval")
    }
    expected = product(("relu", "tanh"), (16, 32), (0.1, 1.0), (0, 1))
    assert actual == {(i, *setting[:3]) for i, setting in enumerate(expected)}
    assert len(summary["rates"]) == 8
    best = {key: summary["best"][key] for key in ("learning_rate", *axes)}
    tested = rows(directory, "test")
    assert [row["seed"] for row in tested] == [0, 1]
    assert all(row.items() >= best.items() for row in tested)


def test_halving_trains_the_best_settings_further_and_tests_the_last(directory):
    rates = (1e-4, 0.1, 0.3, 1e-3, 1e4)
    train = Train(steps=20, batch_size=16, evaluate_every=5)
    config = replace(CONFIG, train=train, sweep=Sweep(rates, 2, search=Halving(eta=2)))
    summary = sweep(config, PROBLEM, directory, CHECK)
    by_step = {}
    for row in rows(directory, "eval"):
        by_step.setdefault(row["step"], set()).add(row["learning_rate"])
    assert [len(by_step[step]) for step in (0, 5, 10, 15, 20)] == [5, 4, 2, 1, 1]
    at_5 = {}
    for row in rows(directory, "eval"):
        if row["step"] == 5:
            at_5.setdefault(row["learning_rate"], []).append(row["accuracy"])
    assert by_step[10] == set(sorted(at_5, key=lambda rate: -sum(at_5[rate]))[:2])
    assert {summary["best"]["learning_rate"]} == by_step[20]
    assert len(rows(directory, "test")) == 2


def test_random_search_trains_what_is_drawn(directory):
    train = Train(steps=2, batch_size=16, evaluate_every=2)
    search = RandomSearch(trials=3, seed=5)
    config = replace(CONFIG, train=train, sweep=Sweep(Range(0.01, 1.0), 2, search=search))
    sweep(config, PROBLEM, directory, CHECK)
    actual = {(row["learning_rate"], row["seed"]) for row in rows(directory, "eval")}
    drawn = [setting["learning_rate"] for setting in sample_settings(RATE_RANGE, 3, 5)]
    assert actual == set(product(drawn, (0, 1)))


def test_way_in_which_trials_ran_is_recorded_and_taken_again(directory):
    train = Train(steps=2, batch_size=16, evaluate_every=2)
    add_to_environment(directory, {"trials": {"0": {"kind": "map", "batch_size": 2, "devices": 3}}})
    sweep(replace(CONFIG, train=train), PROBLEM, directory, CHECK)
    assert read_environment(directory)["trials"]["0"]["devices"] == 3
    again = directory.with_name("again")
    create_run(again, "")
    sweep(replace(CONFIG, train=train), PROBLEM, again, CHECK)
    way = {"kind": "vmap", "batch_size": 1, "devices": 6, "seeds": 1}
    assert read_environment(again)["trials"] == {"0": way | {"trial_steps_per_second": {}}}


def test_complete_run_is_not_touched(finished):
    run, _ = finished
    before = (run / "records.jsonl").read_bytes()
    with pytest.raises(InputError, match="this run is complete"):
        sweep(CONFIG, PROBLEM, run, CHECK)
    assert (run / "records.jsonl").read_bytes() == before
