"""What muP is: the network and the rates of each width."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.transfer.parametrization import activations, maximal_update, standard
from experiments.transfer.run import _sensitivity

KEY = jax.random.key(0)
BASE = 16


@pytest.fixture(autouse=True)
def standard_promotion():
    """As optax's Adam needs it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def drawn(way):
    params, _ = way.network.init(KEY, (-1, 8))
    return params


def first_update(way, rate):
    params = drawn(way)
    tx = way.adam(rate)
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    return {name: float(-np.mean(update)) for name, update in updates.items()}


def test_at_the_base_width_both_are_the_same_network():
    standard_params, mup_params = drawn(standard(BASE, 3)), drawn(maximal_update(BASE, 3, BASE))
    for name, kernel in standard_params.items():
        np.testing.assert_array_equal(kernel, mup_params[name])
    updates = first_update(maximal_update(BASE, 3, BASE), 0.1)
    assert updates == pytest.approx(first_update(standard(BASE, 3), 0.1))


@pytest.mark.parametrize("times", [2, 8])
def test_rates_of_all_kernels_but_the_first_fall_with_the_width(times):
    updates = first_update(maximal_update(times * BASE, 3, BASE), 0.1)
    assert updates["first"] == pytest.approx(0.1, rel=1e-3)
    assert updates["second"] == pytest.approx(0.1 / times, rel=1e-3)
    assert updates["outputs"] == pytest.approx(0.1 / times, rel=1e-3)


@pytest.mark.parametrize("times", [4, 16])
def test_the_last_kernel_begins_smaller_than_the_standard_one(times):
    width = times * BASE
    wide, plain = drawn(maximal_update(width, 64, BASE)), drawn(standard(width, 64))
    assert np.std(wide["outputs"]) / np.std(plain["outputs"]) == pytest.approx(
        times**-0.5, rel=1e-3
    )
    assert np.std(plain["second"]) == pytest.approx(width**-0.5, rel=0.05)
    np.testing.assert_array_equal(wide["second"], plain["second"])


def test_the_network_gives_its_last_activations():
    way = standard(BASE, 3)
    x = jax.random.normal(KEY, (5, 8))
    outputs = way.network.apply(drawn(way), x)
    assert outputs.shape == (5, 3)
    np.testing.assert_array_equal(outputs, activations(drawn(way), x)["outputs"])


def test_adam_is_optax_adam_on_each_kernel():
    way = maximal_update(2 * BASE, 3, BASE)
    params = drawn(way)
    grads = jax.tree.map(jnp.sin, params)
    tx, plain = way.adam(0.1), optax.adam(0.05)
    updates, _ = tx.update(grads, tx.init(params), params)
    expected, _ = plain.update(grads, plain.init(params), params)
    np.testing.assert_allclose(updates["second"], expected["second"], rtol=1e-6)


def test_sensitivity_is_the_mean_excess_over_the_best():
    assert _sensitivity(np.array([2.0, 0.5, 1.0])) == pytest.approx((1.5 + 0 + 0.5) / 3)
