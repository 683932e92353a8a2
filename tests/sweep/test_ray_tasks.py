"""Ray trains the parts of a sweep: what is killed is retried, and the records are the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="fbp-jax[ray] brings it")

TEXT = """
name = "demo"
problem = {{ import = "tests.support.dying:problem", directory = "{directory}" }}
train = {{ steps = 20, batch_size = 16, evaluate_every = 5 }}
[sweep]
learning_rate = {{ low = 0.001, high = 1.0, count = 16 }}
seeds = 3
trials = "{trials}"
"""

MAIN = """
import sys
import ray
from fbp import cli

ray.init(num_cpus=4, object_store_memory=100_000_000, include_dashboard=False, log_to_driver=False)
sys.exit(cli.main(sys.argv[1:]))
"""

RAY = ("--ray", "--task-cpus", 2, "--parts")


def config(tmp_path, trials, rates=()):
    bombs = tmp_path / "bombs"
    bombs.mkdir(exist_ok=True)
    for rate in rates:
        (bombs / rate).touch()
    path = tmp_path / "demo.toml"
    path.write_text(TEXT.format(directory=bombs, trials=trials))
    return path, bombs


def fbp(*argv, program=("-m", "fbp"), expected=0):
    """Runs a command with two devices, as Ray's tasks of two cores have."""
    done = subprocess.run(
        [sys.executable, *program, *map(str, argv)],
        capture_output=True,
        text=True,
        timeout=2400,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "2", "RAY_worker_niceness": "0"},
    )
    assert done.returncode == expected, done.stderr
    return done.stdout + done.stderr


def records(directory):
    return (Path(directory) / "records.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("trials", ["vmap", "loop"])
def test_sixteen_parts_of_which_three_are_killed_have_the_records_of_one_process(tmp_path, trials):
    path, bombs = config(tmp_path, trials)
    one, ray = tmp_path / "one", tmp_path / "ray"
    fbp("sweep", path, "--parts", 16, "--out", one)
    config(tmp_path, trials, ["0.001", "0.01", "0.1"])
    text = fbp("sweep", path, *RAY, 16, "--out", ray, program=("-c", MAIN))
    assert not list(bombs.iterdir())
    assert records(ray) == records(one)
    assert text.count("trial-steps in") == 16
    if trials == "loop":
        fbp("sweep", path, "--out", tmp_path / "undivided")
        assert records(ray) == records(tmp_path / "undivided")


@pytest.mark.slow
def test_part_that_is_lost_for_good_is_named_and_trained_later(tmp_path):
    path, bombs = config(tmp_path, "map", ["0.1"])
    (bombs / "0.1").unlink()
    (bombs / "0.1").mkdir()  # it is never used up
    out = tmp_path / "run"
    text = fbp("sweep", path, *RAY, 4, "--out", out, program=("-c", MAIN), expected=2)
    assert "lost parts: 2 of 4; part 2: its process died" in text
    assert "2 (lost after step 10)" in fbp("merge", out, expected=2)
    (bombs / "0.1").rmdir()
    fbp("sweep", path, "--part", "2/4", "--out", out, "--resume")
    fbp("merge", out)
    fbp("sweep", path, "--out", tmp_path / "one")
    assert records(out) == records(tmp_path / "one")
    assert json.loads((out / "summary.json").read_text())["parts"] == 4
