"""A run's directory: what is whole is read, an interrupted one too, and damage is named."""

import pytest

from fbp.errors import InputError
from fbp.report.run_directory import read_run
from tests.support import synthetic_run


def test_a_complete_run_is_read_as_it_was_written(tmp_path):
    run = read_run(synthetic_run.write(tmp_path))
    assert run.complete
    assert run.config == synthetic_run.CONFIG
    assert run.environment == synthetic_run.ENVIRONMENT
    assert run.summary["best"]["learning_rate"] == 0.1
    assert run.records[0]["kind"] == "train"


def test_an_interrupted_run_is_summarized_from_its_records(tmp_path):
    run = read_run(synthetic_run.write(tmp_path, complete=False))
    assert not run.complete
    assert run.summary["name"] == "made <run>"
    assert run.summary["target"] == 0.7
    assert run.summary["metric"] == "accuracy"
    assert run.summary["best"]["learning_rate"] == 0.1
    assert "test_accuracy" not in run.summary["best"]


def test_an_interrupted_regression_is_recognized(tmp_path):
    run = read_run(synthetic_run.write(tmp_path, synthetic_run.records(score="r2"), complete=False))
    assert (run.summary["task"], run.summary["metric"]) == ("regression", "r2")


def test_the_metric_of_an_interrupted_run_is_its_config_s(tmp_path):
    synthetic_run.write(tmp_path, complete=False)
    (tmp_path / "config.toml").write_text('name = "x"\n[train]\nmetric = "loss"\n')
    assert read_run(tmp_path).summary["metric"] == "loss"


def test_a_last_record_that_was_cut_off_is_left_out(tmp_path):
    synthetic_run.write(tmp_path, complete=False)
    complete = len(read_run(tmp_path).records)
    with (tmp_path / "records.jsonl").open("a") as stream:
        stream.write('{"kind": "eval", "tri')
    assert len(read_run(tmp_path).records) == complete


@pytest.mark.parametrize("name", ["config.toml", "environment.json", "records.jsonl"])
def test_a_missing_file_is_named(tmp_path, name):
    synthetic_run.write(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"{name}: missing: give a directory that fbp sweep"):
        read_run(tmp_path)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such directory"):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("environment.json", "{", r"environment\.json: damaged"),
        ("environment.json", "[]", r"environment\.json: damaged, it holds no object"),
        ("summary.json", '{"name"', r"summary\.json: damaged"),
        ("summary.json", '{"name": "x"}', r"summary\.json: damaged, it lacks one of best"),
        ("records.jsonl", "", r"records\.jsonl: no record, nothing was measured"),
        ("records.jsonl", '{"kind"', r"records\.jsonl: one cut off record, nothing was measured"),
        ("records.jsonl", "{\n", r"records\.jsonl: line 1 is damaged"),
        ("records.jsonl", "3\n", r"records\.jsonl: line 1 is no record"),
        ("records.jsonl", '{"kind": "eval"}\n', r"records\.jsonl: line 1 is no record, it needs"),
        ("config.toml", "\udcff", r"config\.toml: cannot be read"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, text, message):
    synthetic_run.write(tmp_path)
    (tmp_path / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(InputError, match=message):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"kind": "guess"}, {"kind": None}, {"step": "ten"}, {"learning_rate": None}, {"loss": "low"}],
)
def test_a_record_of_the_wrong_shape_is_named_by_its_line(tmp_path, change):
    rows = synthetic_run.records()
    synthetic_run.write(tmp_path, [rows[0], rows[1] | change], complete=False)
    with pytest.raises(InputError, match=r"records\.jsonl: line 2 is no record"):
        read_run(tmp_path)


def test_a_damaged_config_of_an_interrupted_run_is_named(tmp_path):
    synthetic_run.write(tmp_path, complete=False)
    (tmp_path / "config.toml").write_text("name =")
    with pytest.raises(InputError, match=r"config\.toml: damaged"):
        read_run(tmp_path)
