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


def normed(params, x):
    hidden = x @ params["w"] + params["b"][None, :]
    centered = hidden - hidden.mean(0, keepdims=True)
    scaled = centered / jnp.sqrt((centered**2).mean(0, keepdims=True) + 1e-5)
    return jnp.mean(jnp.tanh(scaled * params["scale"][None, :]) ** 2)


def attention(params, x):
    scores = (x @ params["w"]) @ (x @ params["scale"] + params["b"][None, :]).T
    return jnp.sum((jax.nn.softmax(scores) @ x) ** 2)


def draw(shapes, seed):
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    pairs = zip(shapes.items(), keys, strict=True)
    return {name: jax.random.normal(key, shape) for (name, shape), key in pairs}


OF_ZERO_BIAS = pytest.mark.parametrize(
    ("loss", "shapes"),
    [
        (normed, {"w": (8, 16), "b": (16,), "scale": (16,)}),
        (attention, {"w": (8, 8), "b": (8,), "scale": (8, 8)}),
    ],
    ids=["a bias before a batch norm", "a bias of the keys of attention"],
)


@OF_ZERO_BIAS
@pytest.mark.parametrize("seed", range(3))
def test_gradient_of_which_a_leaf_is_rounding_alone_agrees(loss, shapes, seed):
    params, x = draw(shapes, seed), jax.random.normal(jax.random.key(99), (32, 8))
    agreement = compare_with_jax(loss, params, x)
    assert agreement.agrees, agreement
    assert agreement.rounding == ("params['b']",)
    assert agreement.leaf != "params['b']"
    assert agreement.max_ulps <= 64
    assert "nothing but rounding: params['b']" in str(agreement)


@OF_ZERO_BIAS
@pytest.mark.parametrize("leaf", ["w", "b", "scale"])
def test_wrong_gradient_beside_rounding_is_found(loss, shapes, leaf, monkeypatch):
    def wrong(fun):
        def gradient(params, *args):
            grads = fbp.grad(fun)(params, *args)
            largest = jnp.max(jnp.abs(jnp.concatenate([g.ravel() for g in grads.values()])))
            grads[leaf] = grads[leaf].at[0].add(0.001 * largest)
            return grads

        return gradient

    monkeypatch.setattr("fbp.verify.agreement.grad", wrong)
    x = jax.random.normal(jax.random.key(9), (32, 8))
    agreement = compare_with_jax(loss, draw(shapes, 0), x)
    assert not agreement.agrees
    assert agreement.leaf == f"params['{leaf}']"


def test_small_leaf_that_is_wrong_is_no_rounding(monkeypatch):
    small = lambda p: jnp.sum(jnp.sin(p["large"])) + 1e-9 * jnp.sum(jnp.sin(p["small"]))

    def wrong(fun):
        def gradient(params):
            grads = fbp.grad(fun)(params)
            return grads | {"small": 2 * grads["small"]}

        return gradient

    monkeypatch.setattr("fbp.verify.agreement.grad", wrong)
    agreement = compare_with_jax(small, {"large": jnp.ones(3), "small": jnp.ones(3)})
    assert (agreement.agrees, agreement.leaf) == (False, "params['small']")


def test_wrong_leaf_of_low_precision_is_found_beside_one_of_high(monkeypatch):
    params = {"high": jnp.ones(3), "low": jnp.ones(3, jnp.bfloat16)}
    factors = {"high": 1 + 1e-5, "low": 1.2}

    def wrong(fun):
        def gradient(params):
            grads = fbp.grad(fun)(params)
            return {
                name: (grads[name].astype(jnp.float32) * factor).astype(grads[name].dtype)
                for name, factor in factors.items()
            }

        return gradient

    monkeypatch.setattr("fbp.verify.agreement.grad", wrong)
    agreement = compare_with_jax(
        lambda p: jnp.sum(p["high"]) + jnp.sum(p["low"].astype(jnp.float32)), params
    )
    assert (agreement.agrees, agreement.leaf) == (False, "params['low']")


def looped(params, x):
    def step(carry):
        hidden, count = carry
        return jnp.tanh(hidden @ params["w"] + params["b"].real[None, :]), count + 1

    hidden, _ = jax.lax.while_loop(lambda c: c[1] < jnp.sum(x) ** 2 + 3, step, (x, 0))
    scale = params["scale"].astype(jnp.float32)
    return jnp.sum(hidden**2 * scale[None, :]) + jnp.sum(params["b"].imag ** 2)


LOOPED = {
    "w": jnp.eye(4) / 2,
    "b": jnp.full(4, 0.1 + 0.3j),
    "scale": jnp.arange(4, dtype=jnp.bfloat16),
}


def test_loop_that_jax_cannot_differentiate_is_compared_along_directions():
    x = jax.random.normal(jax.random.key(1), (8, 4))
    agreement = compare_with_jax(looped, LOOPED, x)
    assert agreement.agrees, agreement
    assert "largest difference from jax.jvp along a random direction" in str(agreement)


@pytest.mark.parametrize("leaf", LOOPED)
def test_wrong_gradient_of_a_loop_is_found(leaf, monkeypatch):
    def wrong(fun):
        def gradient(params, *args):
            grads = fbp.grad(fun)(params, *args)
            return grads | {leaf: grads[leaf] * jnp.asarray(1.25, grads[leaf].dtype)}

        return gradient

    monkeypatch.setattr("fbp.verify.agreement.grad", wrong)
    agreement = compare_with_jax(looped, LOOPED, jax.random.normal(jax.random.key(1), (8, 4)))
    assert (agreement.agrees, agreement.leaf) == (False, f"params['{leaf}']")


def test_no_parameters_raise():
    with pytest.raises(ValueError, match="no entries"):
        compare_with_jax(lambda p: jnp.float32(0.0), {})
