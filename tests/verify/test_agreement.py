import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fbp
from fbp.verify import compare_with_jax


def loss_fn(params, x):
    hidden = jnp.tanh(x @ params["hidden"]["w"] + params["hidden"]["b"][None, :])
    return jnp.mean((hidden @ params["out"]["w"]) ** 2)


@pytest.fixture
def params():
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "hidden": {"w": jax.random.normal(keys[0], (5, 4)), "b": jnp.zeros(4)},
        "out": {"w": jax.random.normal(keys[1], (4, 2))},
    }


@pytest.fixture
def x():
    return jax.random.normal(jax.random.key(9), (7, 5))


def test_right_gradient_agrees_to_few_ulps(params, x):
    agreement = compare_with_jax(loss_fn, params, x)
    assert agreement.agrees
    assert agreement.max_ulps <= 8


def test_wrong_gradient_is_found_and_its_leaf_named(params, x, monkeypatch):
    def wrong(fun):
        def gradient(params, *args):
            grads = fbp.grad(fun)(params, *args)
            grads["hidden"]["w"] = grads["hidden"]["w"].at[2, 1].multiply(1.01)
            return grads

        return gradient

    monkeypatch.setattr("fbp.verify.agreement.grad", wrong)
    agreement = compare_with_jax(loss_fn, params, x)
    assert not agreement.agrees
    assert agreement.leaf == "params['hidden']['w']"
    assert agreement.got == pytest.approx(1.01 * agreement.expected, rel=1e-5)
    assert "params['hidden']['w']" in str(agreement)


def test_entries_of_cancellation_count_at_the_leafs_scale_and_raw_at_their_own(monkeypatch):
    def rounded(fun):
        def gradient(params, *args):
            return fbp.grad(fun)(params, *args) + jnp.array([0.0, 2.0**-24])

        return gradient

    monkeypatch.setattr("fbp.verify.agreement.grad", rounded)
    agreement = compare_with_jax(lambda p: jnp.sum(p * jnp.array([1.0, 1e-6])), jnp.ones(2))
    assert agreement.max_ulps == 0.5
    assert agreement.raw_max_ulps > 1e5
    assert agreement.agrees


def test_nan_where_jax_has_a_number_never_agrees(monkeypatch):
    monkeypatch.setattr(
        "fbp.verify.agreement.grad", lambda fun: lambda p: jax.tree.map(lambda x: x * jnp.nan, p)
    )
    agreement = compare_with_jax(lambda p: jnp.sum(p), jnp.ones(3))
    assert np.isinf(agreement.max_ulps)
    assert not agreement.agrees


def test_no_parameters_raise():
    with pytest.raises(ValueError, match="no entries"):
        compare_with_jax(lambda p: jnp.float32(0.0), {})
