"""A sweep of real processes on the loopback, two devices each, beside one of one process."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest

TEXT = """
name = "demo"
data = { name = "digits" }
network = { kind = "mlp", widths = [4] }
optimizer = { name = "sgd" }
train = { steps = 20, batch_size = 16, evaluate_every = 5 }
[sweep]
learning_rate = [0.01, 0.1, 1e4]
seeds = 2
trials = "map"
search = { kind = "halving", eta = 2 }
"""

KILLED = """
import os, signal, sys
from fbp import checkpoints, cli
from fbp.sweep import training

checkpoints.SAVING = float("inf")
run_segment, dies_at = training._run_segment, int(sys.argv[1])


def killed(segment, progress, runner):
    if progress.segments == dies_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return run_segment(segment, progress, runner)


training._run_segment = killed
sys.exit(cli.main(sys.argv[2:]))
"""
NEVER = "-1"


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a sweep of some processes, one of which may be killed before a segment."""
    home = tmp_path_factory.mktemp("home")
    (home / "demo.toml").write_text(TEXT)
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "2",
        "JAX_COMPILATION_CACHE_DIR": str(home / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def run(directory, count, killed=None):
        with socket.create_server(("127.0.0.1", 0)) as server:
            coordinator = f"127.0.0.1:{server.getsockname()[1]}"
        sweep = ["sweep", home / "demo.toml", "--resume", "--out", directory]
        joins = ["--coordinator", coordinator, "--num-processes", str(count), "--process-id"]
        return [
            subprocess.Popen(
                [sys.executable, "-c", KILLED, "2" if number == killed else NEVER, *sweep]
                + ([*joins, str(number)] if count > 1 else []),
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(count)
        ]

    return run


@pytest.fixture(scope="module")
def alone(start, tmp_path_factory):
    """The directory of a sweep of one process."""
    directory = tmp_path_factory.mktemp("alone") / "run"
    assert ends(start(directory, 1))[0][0] == 0
    return directory


def ends(processes):
    """Status, stdout and stderr of each."""
    told = [process.communicate(timeout=600) for process in processes]
    return [(p.returncode, *texts) for p, texts in zip(processes, told, strict=True)]


def lasting(directory):
    """The records as they are on the disk, and the summary but for its times."""
    summary = json.loads((directory / "summary.json").read_text())
    times = ("seconds", "compile_seconds", "trial_steps_per_second")
    summary = {key: value for key, value in summary.items() if key not in times}
    return (directory / "records.jsonl").read_bytes(), summary


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_sweep_of_many_processes_has_the_records_of_one_and_tells_them_once(
    start, alone, tmp_path, count
):
    outcome = ends(start(tmp_path / "run", count))
    assert [status for status, _, _ in outcome] == [0] * count, outcome
    assert lasting(tmp_path / "run") == lasting(alone)
    assert ["records: " in out for _, out, _ in outcome] == [True] + [False] * (count - 1)


def test_what_stops_the_first_process_is_told_by_all(start, alone, tmp_path):
    shutil.copytree(alone, tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace("seeds = 2", "seeds = 3"))
    for status, _, err in ends(start(tmp_path / "run", 2)):
        assert status == 2
        assert "the run there is of another config" in err


@pytest.mark.slow
@pytest.mark.parametrize(("count", "killed", "then"), [(2, 1, 1), (2, 0, 2), (4, 2, 2), (2, 1, 4)])
def test_process_that_dies_ends_the_others_and_any_number_goes_on(
    start, alone, tmp_path, count, killed, then
):
    outcome = ends(start(tmp_path / "run", count, killed))
    statuses = [status for status, _, _ in outcome]
    assert statuses.pop(killed) == -signal.SIGKILL
    assert all(statuses), outcome
    messages = [err for number, (_, _, err) in enumerate(outcome) if number != killed]
    for message in messages:
        assert "--resume goes on" in message or "another task died" in message, message
    assert not (tmp_path / "run" / "summary.json").exists()
    assert any((tmp_path / "run" / "checkpoints").iterdir())
    outcome = ends(start(tmp_path / "run", then))
    assert [status for status, _, _ in outcome] == [0] * then, outcome
    assert lasting(tmp_path / "run") == lasting(alone)
