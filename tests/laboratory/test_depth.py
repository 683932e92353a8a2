"""The depth experiment's own mathematics: stacked blocks, and the theory of their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.depth import signal
from experiments.depth.networks import stacked
from fbp.nn import dense, serial, tanh


def test_stacked_blocks_are_the_blocks_one_after_another():
    block = serial(dense=dense(3), tanh=tanh())
    params, _ = stacked(block, 4).init(jax.random.key(0), (2, 3))
    x = jax.random.normal(jax.random.key(1), (2, 3))
    expected = x
    for i in range(4):
        expected = block.apply(jax.tree.map(lambda leaf: leaf[i], params), expected)
    np.testing.assert_allclose(stacked(block, 4).apply(params, x), expected, rtol=1e-6)
    assert not np.array_equal(params["dense"]["kernel"][0], params["dense"]["kernel"][1])


@pytest.mark.parametrize("gain", [1.0, 2.0, 3.0])
def test_relu_multiplies_the_squared_gradient_by_half_the_gain(gain):
    factors = signal.predicted("ReLU", gain, 6)
    np.testing.assert_allclose(factors[:-1] / factors[1:], gain / 2, rtol=1e-12)


def test_tanh_with_a_small_signal_is_linear():
    factors = signal.predicted("tanh", 1e-6, 3)
    np.testing.assert_allclose(factors[1] / factors[2], 1e-6, rtol=1e-5)


def test_a_wide_random_network_behaves_as_predicted():
    with jax.numpy_rank_promotion("allow"):
        measured = signal.measured("ReLU", 1.0, depth=6, width=256, seeds=8)
    np.testing.assert_allclose(measured, signal.predicted("ReLU", 1.0, 6), rtol=0.35)


def test_layer_norms_are_those_of_each_blocks_gradient():
    params = {"blocks": {"w": jnp.array([[3.0, 4.0], [0.0, 1.0]])}}
    actual = signal.layer_norms(lambda p: jnp.sum(p["blocks"]["w"] ** 2) / 2, params)
    np.testing.assert_allclose(actual["w"], [5.0, 1.0], rtol=1e-6)
