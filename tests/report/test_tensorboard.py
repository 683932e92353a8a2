"""TensorBoard's events say what the records say, trial by trial."""

import struct
import sys

import pytest
from tensorboardX.proto.event_pb2 import Event

from fbp.cli import main
from fbp.errors import InputError
from fbp.report.tensorboard import write_events
from tests.support import synthetic_run


def events(directory):
    """The events of a directory, read as TensorBoard does: length, checksum, event, checksum."""
    (path,) = directory.glob("events.out.tfevents.*")
    content, at = path.read_bytes(), 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        yield Event.FromString(content[at + 12 : at + 12 + length])
        at += length + 16


def scalars(directory):
    """Tag, step and value of every scalar."""
    return [
        (value.tag, event.step, pytest.approx(value.simple_value))
        for event in events(directory)
        for value in event.summary.value
        if value.WhichOneof("value") == "simple_value"
    ]


@pytest.fixture
def written(tmp_path):
    rows = synthetic_run.records(rates=[0.1, 1.0], seeds=2, extra=({"schedule": "cosine"},))
    run = synthetic_run.write(tmp_path / "run", rows)
    return run, write_events(run, tmp_path / "events")


def test_every_trial_has_a_directory_named_by_its_setting(written):
    _, directory = written
    assert sorted(path.name for path in directory.iterdir()) == [
        "000 learning_rate=0.1 schedule=cosine seed=0",
        "001 learning_rate=0.1 schedule=cosine seed=1",
        "002 learning_rate=1 schedule=cosine seed=0",
        "003 learning_rate=1 schedule=cosine seed=1",
    ]


def test_the_scalars_are_those_of_the_records(written):
    _, directory = written
    rows = synthetic_run.records(rates=[0.1], seeds=1)
    actual = scalars(directory / "000 learning_rate=0.1 schedule=cosine seed=0")
    for part, kind, column in (
        ("training", "train", "loss"),
        ("validation", "eval", "loss"),
        ("validation", "eval", "accuracy"),
    ):
        expected = [(f"{part}/{column}", r["step"], r[column]) for r in rows if r["kind"] == kind]
        assert [scalar for scalar in actual if scalar[0] == f"{part}/{column}"] == expected
    assert [(tag, step) for tag, step, _ in actual if tag.startswith("test")] == [
        ("test/loss", 30),
        ("test/accuracy", 30),
    ]


def test_a_diverged_trial_ends_where_it_did(written):
    _, directory = written
    actual = scalars(directory / "002 learning_rate=1 schedule=cosine seed=0")
    assert {step for _, step, _ in actual} == {10}


def test_hyperparameters_are_written_for_the_hparams_page(written):
    _, directory = written
    tags = [
        value.tag
        for event in events(directory / "000 learning_rate=0.1 schedule=cosine seed=0")
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    ]
    assert tags == [
        "_hparams_/experiment",
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    ]


def test_a_directory_that_holds_something_is_refused(written):
    with pytest.raises(InputError, match="holds something: give a new directory"):
        write_events(*written)


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    run = synthetic_run.write(tmp_path / "run")
    with pytest.raises(InputError, match="give another directory"):
        write_events(run, run / "config.toml" / "events")


def test_a_missing_tensorboardx_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError, match=r"pip install 'fbp-jax\[tensorboard\]'"):
        write_events(synthetic_run.write(tmp_path / "run"), tmp_path / "events")


def test_the_command_writes_events(tmp_path, capsys):
    run = synthetic_run.write(tmp_path / "run", synthetic_run.records(rates=[0.1], seeds=1))
    directory = tmp_path / "events"
    assert main(["report", str(run), "--tensorboard", str(directory)]) == 0
    assert capsys.readouterr().out == f"report: {directory}\n"
    assert len(list(directory.iterdir())) == 1
