"""States that no memory holds are refused in a line, before anything is allocated."""

import jax
import numpy as np
import optax
import pytest

from fbp import InputError
from fbp.config import MLP, Config, Data, Optimizer, Sweep, Train
from fbp.sweep import capacity, run
from fbp.sweep.capacity import check_memory, state_bytes
from fbp.sweep.study import studies_of

CONFIG = Config(
    "demo", Data("digits"), MLP((8,)), Optimizer("adam"), Train(10, 16, 10), Sweep((0.1, 1.0), 3)
)
(STUDY,) = studies_of(CONFIG)


def test_bytes_are_those_of_the_state_of_a_trial():
    network, tx = STUDY.problem.init, optax.inject_hyperparams(optax.adam)(0.1)
    params = network.init(jax.random.key(0), (16, 64))[0]
    moments = tx.init(params)
    sizes = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves((params, moments)))
    assert state_bytes(STUDY) == pytest.approx(sizes, abs=100)


def test_all_trials_count(monkeypatch):
    monkeypatch.setattr(capacity, "memory_bytes", lambda: 6 * state_bytes(STUDY))
    check_memory([STUDY])
    monkeypatch.setattr(capacity, "memory_bytes", lambda: 6 * state_bytes(STUDY) - 1)
    with pytest.raises(InputError, match=r"the states of all trials take .* GiB of memory: give a"):
        check_memory([STUDY])


def test_memory_that_is_unknown_refuses_nothing(monkeypatch):
    monkeypatch.setattr(capacity, "memory_bytes", lambda: None)
    check_memory([STUDY])


def test_limit_of_a_container_counts(monkeypatch, tmp_path):
    (tmp_path / "max").write_text("1048576\n")
    (tmp_path / "none").write_text("max\n")
    monkeypatch.setattr(capacity, "CGROUP_LIMITS", (str(tmp_path / "max"), str(tmp_path / "none")))
    assert capacity.memory_bytes() == 1048576
    monkeypatch.setattr(capacity, "CGROUP_LIMITS", (str(tmp_path / "none"), str(tmp_path / "gone")))
    assert capacity.memory_bytes() > 1048576


def test_network_far_beyond_memory_leaves_no_run(tmp_path):
    wide = ["network.widths = [1_000_000_000]"]
    with pytest.raises(InputError, match="the states of all trials take"):
        run("digits_mlp", out=tmp_path / "run", settings=wide)
    assert not (tmp_path / "run").exists()
