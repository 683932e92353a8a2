"""A trial has diverged by a criterion that one hard batch cannot meet."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbp.sweep import Problem, run
from fbp.sweep.divergence import check_validation, monitored, with_divergence_check
from fbp.train.state import initial_state


def diverged_at(losses, start=1.0, factor=100.0, validation=None):
    """The step at which a trial with these training losses is marked; -1 if it is not."""
    state = initial_state(jnp.zeros(()), optax.sgd(0.1), jax.random.key(0))
    trial = monitored(state, jnp.float32(start), factor)

    def update(state, loss):
        return type(state)(state.params, state.opt_state, state.step + 1, state.key), loss

    step = jax.jit(with_divergence_check(update, factor))
    for loss in losses:
        trial, _ = step(trial, jnp.float32(loss))
    if validation is not None:
        trial = check_validation(trial, jnp.float32(validation))
    return int(trial.diverged_at)


@pytest.mark.parametrize("size", [1e3, 1e30])
def test_one_hard_batch_is_no_divergence_however_hard(size):
    assert diverged_at([1.0, 1.0, size, 1.0, 1.0]) == -1
    assert diverged_at([size, *[1.0] * 20]) == -1


def test_losses_that_stay_above_the_limit_are_divergence_within_seven_steps():
    assert diverged_at([1.0] * 5 + [1e4] * 10) == 12


@pytest.mark.parametrize("size", [np.nan, np.inf, -np.inf])
def test_loss_that_is_not_finite_is_divergence_at_once(size):
    assert diverged_at([1.0, size, 1.0]) == 2


def test_heavy_tails_are_no_divergence():
    """A tenth of the batches is 300 times as hard as the others, at random."""
    hard = np.random.default_rng(0).random(3000) < 0.1
    assert diverged_at(np.where(hard, 300.0, 1.0)) == -1


def test_validation_loss_above_the_limit_is_divergence():
    assert diverged_at([1.0], validation=99.0) == -1
    assert diverged_at([1.0], validation=101.0) == 1


@pytest.mark.parametrize("start", [-5.0, 0.0])
def test_losses_that_are_negative_or_start_at_zero_have_a_limit_above_them(start):
    falling = [start - 0.1 * i - 0.1 for i in range(50)]
    assert diverged_at(falling, start=start, validation=falling[-1]) == -1
    assert diverged_at([*falling, *[1e4] * 10], start=start) > 50


def test_losses_that_are_zero_at_first_have_no_size_and_no_limit():
    """As where the parameters start at zero and the loss is linear in them."""
    assert diverged_at([0.0, *[5.0] * 30], start=0.0, validation=5.0) == -1
    assert diverged_at([0.0, 5.0, np.inf], start=0.0) == 3
    assert diverged_at([0.0], start=0.0, validation=np.nan) == 1


def test_targets_with_a_far_outlier_in_the_first_batch_train_at_small_rates(tmp_path):
    """The first example is 12.8 standard deviations off, at batch size 1."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)).astype(np.float32)
    y = (x @ np.float32([1.0, -1.0])).astype(np.float32)
    batches = [(x[i : i + 1], y[i : i + 1]) for i in range(200)]
    batches[0] = (batches[0][0], np.float32([128.0]))
    loss = lambda w, batch, key: jnp.mean((batch[0] @ w - batch[1]) ** 2)
    problem = Problem(
        {"train": lambda: iter(batches), "validation": (x, y)},
        lambda key: jnp.zeros(2),
        loss,
        optimizer=optax.sgd,
    )
    summary = run(
        problem,
        out=tmp_path / "run",
        train={"steps": 100, "evaluate_every": 50},
        sweep={"learning_rate": [1e-3, 1e-2, 1e3], "seeds": 1},
    )
    assert [entry["diverged"] for entry in summary["rates"]] == [0, 0, 1]


def test_negative_losses_are_swept_and_the_lowest_is_best(tmp_path):
    """A log-likelihood as a loss: its minimum is at w = 3, far below zero."""
    x = np.zeros((32, 1), np.float32)
    loss = lambda w, batch, key: (w - 3) ** 2 - 50 + 0 * jnp.sum(batch)
    problem = Problem(
        {"train": x, "validation": x}, lambda key: jnp.zeros(()), loss, optimizer=optax.sgd
    )
    summary = run(
        problem,
        out=tmp_path / "run",
        train={"steps": 20, "batch_size": 8, "evaluate_every": 10},
        sweep={"learning_rate": [0.01, 0.3, 10.0], "seeds": 1},
    )
    assert summary["best"]["learning_rate"] == 0.3
    assert summary["best"]["validation_loss"]["mean"] == pytest.approx(-50, abs=1e-3)
    assert [entry["diverged"] for entry in summary["rates"]] == [0, 0, 1]
