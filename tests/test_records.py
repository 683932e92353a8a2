import errno
import json
import os
from pathlib import Path

import pytest

from fbp import InputError
from fbp.records import (
    add_to_environment,
    append_records,
    create_run,
    environment,
    locked,
    read_environment,
    read_records,
    sync_records,
    truncate_records,
    write_atomic,
    write_summary,
)

ROWS = [
    {"kind": "train", "trial": 0, "learning_rate": 0.1, "seed": 0, "step": 5, "loss": 1.5},
    {"kind": "eval", "trial": 0, "learning_rate": 0.1, "seed": 0, "step": 5, "loss": 2.5},
]


@pytest.fixture
def run(tmp_path):
    create_run(tmp_path / "run", "name = 'demo'")
    return tmp_path / "run"


@pytest.fixture
def full_disk(monkeypatch):
    """Files may be opened, but nothing more fits on the disk."""
    open_file = Path.open

    def full_open(path, mode="r", *args, **kwargs):
        writes = "a" in mode or "w" in mode
        return open_file(Path("/dev/full") if writes else path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full_open)


def test_rows_are_read_as_they_were_written(run):
    append_records(run, ROWS[:1])
    append_records(run, ROWS[1:])
    assert read_records(run) == ROWS


def test_numbers_that_are_not_finite_become_null(run):
    append_records(run, [{"loss": float("inf"), "accuracy": float("nan")}])
    assert read_records(run) == [{"loss": None, "accuracy": None}]
    write_summary(run, {"best": {"loss": float("nan"), "rates": [float("inf"), 1.0]}})
    summary = json.loads((run / "summary.json").read_text())
    assert summary == {"best": {"loss": None, "rates": [None, 1.0]}}


def test_last_row_that_was_cut_off_is_left_out(run):
    append_records(run, ROWS)
    with (run / "records.jsonl").open("a") as file:
        file.write('{"kind": "tr')
    assert read_records(run) == ROWS


def test_config_is_copied_byte_for_byte(tmp_path):
    text = "# a comment\nname = 'dämo'\n"
    create_run(tmp_path / "run", text)
    assert (tmp_path / "run" / "config.toml").read_bytes() == text.encode()


def test_environment_says_what_numbers_may_depend_on():
    actual = environment()
    assert actual["versions"].keys() >= {"python", "jax", "jaxlib", "optax", "fbp-jax"}
    assert actual["device"]["count"] >= 1
    assert json.loads(json.dumps(actual)) == actual


def test_run_is_not_overwritten_unless_asked(run):
    append_records(run, ROWS)
    with pytest.raises(InputError, match="holds a run already"):
        create_run(run, "name = 'other'")
    assert read_records(run) == ROWS
    assert (run / "config.toml").read_text() == "name = 'demo'"


def test_overwriting_removes_what_the_run_wrote_and_nothing_else(run):
    append_records(run, ROWS)
    write_summary(run, {})
    (run / "notes.txt").write_text("mine")
    create_run(run, "name = 'other'", overwrite=True)
    assert read_records(run) == []
    assert not (run / "summary.json").exists()
    assert (run / "notes.txt").read_text() == "mine"


def test_directory_of_other_files_is_never_used(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="files that are not a run's"):
        create_run(tmp_path, "", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_directory_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/run: Not a directory: give a directory"):
        create_run(tmp_path / "file" / "run", "")


def test_directory_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def denied(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(InputError, match="run: Permission denied: give a directory that can"):
        create_run(tmp_path / "run", "")


def test_full_disk_loses_no_record_written_before(run, request):
    append_records(run, ROWS)
    request.getfixturevalue("full_disk")
    with pytest.raises(InputError, match="No space left on device: free some space"):
        append_records(run, ROWS)
    with pytest.raises(InputError, match="No space left on device: free some space"):
        write_summary(run, {"name": "demo"})
    assert read_records(run) == ROWS


def test_records_are_cut_to_the_length_that_they_had(run):
    append_records(run, ROWS[:1])
    length = sync_records(run)
    append_records(run, ROWS[1:])
    truncate_records(run, length)
    assert read_records(run) == ROWS[:1]


def test_facts_are_added_to_the_environment(run):
    before = read_environment(run)
    add_to_environment(run, {"trials": {"0": "vmap"}})
    assert read_environment(run) == {**before, "trials": {"0": "vmap"}}


def test_file_that_is_half_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fails(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("fbp.records.os.fsync", fails)
    with pytest.raises(InputError, match="No space left on device: free some space"):
        write_atomic(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_run_that_was_killed_before_its_first_record_is_no_obstacle(tmp_path):
    run = tmp_path / "run"
    with locked(run):
        (run / "config.toml.part").write_text("na")
    create_run(run, "name = 'demo'")
    assert read_records(run) == []


def test_lock_is_held_by_one_and_released(tmp_path):
    run = tmp_path / "run"
    with locked(run), pytest.raises(InputError, match="run: another sweep is writing here"):  # noqa: SIM117
        with locked(run):
            pass
    with locked(run):
        pass
