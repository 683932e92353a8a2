"""Runs are listed with their state and their best setting; their records are a table."""

import json

import pytest

from fbp import InputError, cli
from fbp.records import create_run, locked, table
from fbp.report.runs import list_runs
from fbp.report.summary import summarize
from tests.support.synthetic_run import CONFIG, ENVIRONMENT, records


def write(directory, complete):
    directory.mkdir(parents=True)
    rows = records()
    (directory / "config.toml").write_text(CONFIG)
    (directory / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (directory / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if complete:
        summary = summarize(rows, "demo", "classification", "accuracy", 0.7)
        (directory / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def runs(tmp_path):
    write(tmp_path / "runs" / "a", complete=True)
    write(tmp_path / "runs" / "deep" / "b", complete=False)
    write(tmp_path / "runs" / "c", complete=False)
    write(tmp_path / "runs" / "damaged", complete=True)
    (tmp_path / "runs" / "damaged" / "summary.json").write_text("{")
    create_run(tmp_path / "runs" / "empty", CONFIG)
    return tmp_path / "runs"


def test_states_of_runs(runs, capsys):
    with locked(runs / "c"):
        listed = {run.path.relative_to(runs).as_posix(): run for run in list_runs(runs)}
    states = {name: run.state for name, run in listed.items()}
    assert states == {
        "a": "complete",
        "c": "running",
        "damaged": "damaged",
        "deep/b": "interrupted",
        "empty": "interrupted",
    }
    assert listed["a"].step == 30
    assert listed["a"].best.endswith("at learning rate 0.1")
    assert cli.main(["runs", str(runs)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_directory_that_is_missing_is_told(tmp_path):
    with pytest.raises(InputError, match="no such directory"):
        list_runs(tmp_path / "none")


def test_records_are_a_table_with_a_row_each(runs):
    frame = table(runs / "a")
    assert len(frame) == len(records())
    assert {"kind", "trial", "learning_rate", "seed", "step", "loss"} <= set(frame.columns)
    with pytest.raises(InputError, match="cannot be read"):
        table(runs / "none")
