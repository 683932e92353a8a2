"""Steps over the batch size, and the noise scale of a network out of its parameters'."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.noise_scale.batch_sizes import (
    Hyperbola,
    fit_hyperbola,
    steps_to,
    trace_and_square,
)
from fbp.gallery import gradient_noise_scale
from fbp.train import initial_state
from fbp.train.recorder import Recorder, recorded_update

SIZES = np.array([4, 16, 64, 256])


def test_the_critical_batch_needs_twice_the_fewest_steps_and_twice_the_fewest_examples():
    hyperbola = Hyperbola(fewest_steps=30.0, critical=40.0)
    steps = float(hyperbola.steps(np.array([40.0]))[0])
    assert steps == 60
    assert 40 * steps == 2 * (30 * 40)


def test_steps_and_examples_lie_on_a_hyperbola():
    steps = Hyperbola(30.0, 40.0).steps(SIZES)
    product = (steps / 30 - 1) * (steps * SIZES / (30 * 40) - 1)
    np.testing.assert_allclose(product, 1)


@pytest.mark.parametrize("critical", [2.0, 50.0, 1000.0])
def test_a_fit_finds_the_hyperbola_again(critical):
    fitted = fit_hyperbola(SIZES, Hyperbola(30.0, critical).steps(SIZES))
    np.testing.assert_allclose(fitted, (30.0, critical), rtol=1e-4)


def test_steps_to_a_target_lie_on_the_line_of_the_logarithms():
    times, losses = np.array([10, 20, 30]), np.array([[1.0, 0.5, 0.125], [0.2, 0.1, 0.3]])
    np.testing.assert_allclose(steps_to(0.25, times, losses), [25, 10])
    np.testing.assert_array_equal(steps_to(0.01, times, losses), np.inf)


def test_a_loss_that_is_not_finite_reaches_nothing():
    losses = np.array([[2.0, np.nan, np.inf]])
    np.testing.assert_array_equal(steps_to(0.5, np.array([1, 2, 3]), losses), np.inf)


def test_recorded_parameters_give_the_noise_of_the_whole_gradient():
    x = jax.random.normal(jax.random.key(0), (32, 5))
    params = {"w": jax.random.normal(jax.random.key(1), (5,)), "b": jnp.ones(())}
    loss = lambda params, x: jnp.mean((jnp.tanh(x @ params["w"]) + params["b"]) ** 2)
    tx = optax.sgd(0.1)
    update = recorded_update(lambda params, x, key: loss(params, x), tx, Recorder(noise_scale=True))
    _, (_, measures) = jax.jit(update)(initial_state(params, tx, jax.random.key(2)), x)
    parts = [
        trace_and_square(measures["gradient_norm"][name], measures["noise_scale"][name], 32)
        for name in params
    ]
    expected = jax.jit(gradient_noise_scale(loss))(params, x)
    trace, square = np.sum(parts, axis=0)
    np.testing.assert_allclose(trace, expected.trace, rtol=1e-4)
    np.testing.assert_allclose(square, expected.squared_gradient, rtol=1e-4)
