"""A sweep that is killed at any moment ends, when resumed, with the records of one that was not."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow

TEXT = """
name = "demo"
data = { name = "digits" }
network = { kind = "mlp" }
optimizer = { name = "sgd" }
train = { steps = 40, batch_size = 16, evaluate_every = 10 }
[sweep]
learning_rate = [0.01, 0.1, 1e4]
seeds = 2
search = { kind = "halving", eta = 2 }
axes.network.widths = [[4], [8]]
"""

KILLER = """
import importlib, os, signal, sys
from fbp import checkpoints, cli

checkpoints.SAVING = float("inf")  # one after each segment, so that there is one to lose

module, name, call, *argv = sys.argv[1:]
owner = importlib.import_module(module)
*path, name = name.split(".")
for part in path:
    owner = getattr(owner, part)
wrapped, calls = getattr(owner, name), []


def dies(*args, **kwargs):
    calls.append(args)
    if len(calls) == int(call):
        if name == "append_records":
            with (args[0] / "records.jsonl").open("a") as file:
                file.write('{"kind": "eval", "tri')
        os.kill(os.getpid(), signal.SIGKILL)
    return wrapped(*args, **kwargs)


setattr(owner, name, dies)
sys.exit(cli.main(argv))
"""

MOMENTS = {
    "before the first record": ("fbp.sweep.training", "append_records", 1),
    "a row half written": ("fbp.sweep.training", "append_records", 3),
    "while settings are dropped": ("fbp.sweep.training", "ranking", 1),
    "records ahead of the checkpoint": ("fbp.sweep.training", "save_progress", 3),
    "a checkpoint half written": ("fbp.checkpoints", "_checksums", 2),
    "after training": ("fbp.sweep.recorded", "append_records", 1),
    "before the summary": ("fbp.sweep.recorded", "write_summary", 1),
}
TIMES = ("seconds", "compile_seconds", "trial_steps_per_second")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "demo.toml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def start(config, tmp_path):
    """Starts `python *argv sweep CONFIG --resume --out DIR`; programs are compiled but once."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_NUM_CPU_DEVICES": "2",
    }

    def run(directory, *argv):
        command = [sys.executable, *argv, "sweep", str(config), "--resume", "--out", directory]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    return run


def ends(process):
    _, err = process.communicate(timeout=600)
    return process.returncode, err


def outcome(directory):
    """The records as they are on the disk, and the summary but for its times."""
    summary = json.loads((directory / "summary.json").read_text())
    lasting = {key: value for key, value in summary.items() if key not in TIMES}
    return (directory / "records.jsonl").read_bytes(), lasting


def test_killed_and_resumed_sweep_has_the_records_of_one_that_was_not(start, tmp_path):
    assert ends(start(tmp_path / "whole", "-m", "fbp"))[0] == 0
    for moment, (module, name, call) in MOMENTS.items():
        process = start(tmp_path / "killed", "-c", KILLER, module, name, str(call))
        assert ends(process)[0] == -signal.SIGKILL, moment
    assert ends(start(tmp_path / "killed", "-m", "fbp"))[0] == 0
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    left = {path.name for path in (tmp_path / "killed").iterdir()}
    assert left == {"config.toml", "environment.json", "lock", "records.jsonl", "summary.json"}


def test_sweep_killed_again_and_again_arrives(start, tmp_path):
    assert ends(start(tmp_path / "whole", "-m", "fbp"))[0] == 0
    wait, kills = 1.0, 0
    while True:
        process = start(tmp_path / "killed", "-m", "fbp")
        time.sleep(wait)
        process.kill()
        if ends(process)[0] == 0:
            break
        wait, kills = wait * 1.1, kills + 1
    assert kills >= 3
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
