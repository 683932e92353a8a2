"""What the number of a pair of learning rates says."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.trainability_boundary.training import convergence_speed

STEPS = 30


@pytest.fixture(scope="module")
def speeds():
    pairs = jnp.array([[0.0, 0.0], [0.01, 0.01], [0.1, 0.1], [0.01, 300.0], [0.01, 3000.0]])
    return np.asarray(convergence_speed(width=4, steps=STEPS, seed=0, at_once=2)(pairs))


def test_without_a_rate_the_loss_stays_and_the_run_has_not_converged(speeds):
    np.testing.assert_allclose(speeds[0], -STEPS, rtol=1e-6)


def test_small_rates_converge_and_larger_ones_faster(speeds):
    assert STEPS > speeds[1] > speeds[2] > 0


def test_large_rates_diverge_and_larger_ones_faster(speeds):
    assert -STEPS < speeds[3] < speeds[4] < 0


def test_an_infinite_loss_counts_as_the_largest(speeds):
    assert np.isfinite(speeds).all()
