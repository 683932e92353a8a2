import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import fbp
from fbp.cli import main
from fbp.records import create_run, locked, read_records, write_summary
from tests.support.demo_config import TEXT


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "demo.toml"
    path.write_text(TEXT)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache is another one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_sweep_records_and_prints_the_answer(config, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["sweep", str(config), "--out", str(run)]) == 0
    out, err = capsys.readouterr()
    assert re.search(
        r"gradient: largest difference from jax\.grad: .* ULPs, at params\['1_den", out
    )
    assert out.startswith("device: 8 x cpu, JAX ")
    assert "Learning rate 1 trained best" in out
    assert "warning: The best rate lies at the edge of the grid" in err
    assert "warning" not in out
    assert (run / "config.toml").read_text() == TEXT
    assert json.loads((run / "summary.json").read_text())["name"] == "demo"

    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == f"report: {run / 'report.html'}"
    assert (run / "report.html").exists()


def test_seeds_and_settings_replace_the_configs_and_are_recorded(
    config, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    argv = ["sweep", str(config), "--seeds", "1", "--set", "sweep.learning_rate=[0.5]"]
    assert main([*argv, "--set", "train.steps=1", "--quiet", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["best"]["learning_rate"] == 0.5
    assert all(line.startswith("warning: ") for line in err.splitlines())
    assert "with one seed: there are no intervals" in err
    records = read_records(Path("runs/demo"))
    assert {(row["learning_rate"], row["seed"]) for row in records} == {(0.5, 0)}
    again = ["sweep", "runs/demo/config.toml", "--out", "again"]
    assert main(again) == 0
    assert read_records(Path("again")) == records


def test_check_prints_the_largest_difference(config, capsys):
    assert main(["check", str(config)]) == 0
    assert re.fullmatch(
        r"gradient: largest difference from jax\.grad: \S+ ULPs, at params\S+ \(jax .*, fbp .*\)\n",
        capsys.readouterr().out,
    )


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fbp {fbp.__version__}\n"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.stepz = 3", "train.stepz: unknown key: did you mean steps?"),
        ("train.steps = '3'", "train.steps: expected an integer, got '3'"),
        ("sweep.learning_rate = [-0.1]", "sweep.learning_rate[0]: must be positive, got -0.1"),
        ("sweep.learning_rate = []", "sweep.learning_rate: must be at least one number"),
        ("data.name = 'digitz'", "no data set is called 'digitz'"),
        ("train.batch_size = 5000", "train.batch_size is 5000, but digits has only"),
        ("train.metric = 'r2'", "train.metric is r2, but digits is a classification"),
        ("data.name = 'missing.csv'", "missing.csv"),
        ("network = 'mlp'", "network: expected a table"),
    ],
)
def test_bad_config_is_one_line_and_status_2(fbp_fails, config, tmp_path, setting, message):
    assert message in fbp_fails("sweep", config, "--set", setting, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_nan_in_the_data_is_one_line_and_status_2(fbp_fails, config, tmp_path):
    file = tmp_path / "data.npz"
    x = np.ones((30, 3), np.float32)
    x[4, 1] = np.nan
    np.savez(file, x=x, y=np.arange(30) % 2)
    message = fbp_fails("check", with_data(config, file))
    assert str(file) in message


def test_damaged_data_is_one_line_and_status_2(fbp_fails, config, tmp_path):
    file = tmp_path / "data.npz"
    file.write_bytes(b"PK\x03\x04 not a zip file")
    assert str(file) in fbp_fails("check", with_data(config, file))


def with_data(config, file):
    config.write_text(TEXT.replace('name = "digits"', f'name = "{file}"'))
    return config


def test_missing_config_is_one_line_and_status_2(fbp_fails, tmp_path):
    assert "nowhere.toml: No such file" in fbp_fails("sweep", tmp_path / "nowhere.toml")


def test_missing_run_is_one_line_and_status_2(fbp_fails, tmp_path):
    assert "nowhere" in fbp_fails("report", tmp_path / "nowhere")


def test_existing_run_is_preserved_unless_overwritten(fbp_fails, config, tmp_path):
    (tmp_path / "records.jsonl").write_text('{"mine": 1}\n')
    assert "holds a run already" in fbp_fails("sweep", config, "--out", tmp_path)
    assert read_records(tmp_path) == [{"mine": 1}]


def test_directory_that_cannot_be_created_is_one_line_and_status_2(config, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["sweep", str(config), "--out", str(tmp_path / "file" / "run")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_full_disk_is_one_line_and_status_2(config, tmp_path, capsys, monkeypatch):
    open_file = Path.open

    def full_open(path, mode="r", **kwargs):
        full = path.name == "records.jsonl" and mode == "a"
        return open_file(Path("/dev/full") if full else path, mode, **kwargs)

    monkeypatch.setattr(Path, "open", full_open)
    assert main(["sweep", str(config), "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"fbp: .*run: No space left on device: free some space; .*\n", err)


def test_run_of_another_config_is_not_resumed(fbp_fails, config, tmp_path):
    create_run(tmp_path / "run", TEXT.replace("seeds = 2", "seeds = 3"))
    message = fbp_fails("sweep", config, "--resume", "--out", tmp_path / "run")
    assert "config.toml: the run there is of another config" in message


def test_resume_and_overwrite_exclude_each_other(fbp_fails, config):
    assert "give one of them" in fbp_fails("sweep", config, "--resume", "--overwrite")


def test_two_sweeps_do_not_write_into_one_directory(fbp_fails, config, tmp_path):
    with locked(tmp_path / "run"):
        message = fbp_fails("sweep", config, "--resume", "--out", tmp_path / "run")
    assert "another sweep is writing here" in message


def test_complete_run_is_left_as_it_is_by_resume(config, tmp_path, capsys):
    run = tmp_path / "run"
    create_run(run, TEXT)
    write_summary(run, {"name": "demo"})
    before = {path: path.read_bytes() for path in run.iterdir()}
    assert main(["sweep", str(config), "--resume", "--out", str(run)]) == 0
    assert "this run is complete, nothing was done" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.slow
def test_full_disk_ends_with_status_2_and_a_run_that_resumes(config, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "fbp", "sweep", str(config), "--resume", "--out", str(run)]
    command += ["--set", "train.steps=300"]

    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false", "JAX_NUM_CPU_DEVICES": "8"}
    small_files = ["sh", "-c", 'ulimit -f 32; exec "$@"', "sh"]
    full = subprocess.run([*small_files, *command], env=environment, capture_output=True, text=True)
    assert full.returncode == 2
    assert re.fullmatch(
        r"fbp: \S+run: File too large: free some space; what was recorded before stays readable, "
        r"and --resume goes on",
        full.stderr.splitlines()[-1],
    )
    assert "Traceback" not in full.stderr
    assert max(row["step"] for row in read_records(run)) >= 5
    assert main(["report", str(run)]) == 0
    assert main(command[3:]) == 0
    assert max(row["step"] for row in read_records(run)) == 300


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "Expected one of {sweep, "),
        (["swep"], "Unrecognized options: swep"),
        (["sweep"], "Missing from fbp sweep: CONFIG"),
        (["sweep", "x.toml", "--seedz", "3"], "--seeds N"),
        (["sweep", "x.toml", "--seeds", "three"], "Error parsing --seeds"),
    ],
)
def test_wrong_command_line_is_one_line_and_status_2(fbp_fails, argv, message):
    assert message in fbp_fails(*argv)


def test_missing_rule_is_one_line_and_status_2(fbp_fails, config, monkeypatch):
    def without_rules(loss_fn, *args):
        return fbp.grad(loss_fn, rules=fbp.Rules())(*args)

    monkeypatch.setattr("fbp.sweep.problem.compare_with_jax", without_rules)
    assert "no rule for the primitive" in fbp_fails("check", config)


def test_ctrl_c_ends_with_130_and_keeps_what_was_measured(config, tmp_path):
    run = tmp_path / "run"
    # A job that a shell runs in the background ignores SIGINT, and so would its children.
    script = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('fbp', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", script, "sweep", str(config), "--out", str(run)]
    with subprocess.Popen(
        [*command, "--set", "train.steps=1000000", "--set", "train.evaluate_every=100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            records = run / "records.jsonl"
            deadline = time.monotonic() + 600
            while not (records.exists() and '"step": 200' in records.read_text()):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert out.startswith(f"device: {len(os.sched_getaffinity(0))} x cpu, JAX {jax.__version__}\n")
    assert err.splitlines()[-1].startswith("fbp: interrupted")
    assert "Traceback" not in err
    assert max(row["step"] for row in read_records(run)) >= 200
    assert main(["report", str(run)]) == 0
