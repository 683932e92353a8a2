"""Elementwise functions where JAX gives NaN, loses digits or raises; types of cotangents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fbp
from tests.support.agreement import assert_same

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("x", [0.0, -0.0, 2.0, NAN, INF])
@pytest.mark.parametrize("y", [0.0, -0.0])
def test_zeroth_power_has_slope_zero_in_its_base(x, y):
    assert fbp.grad(lax.pow)(x, y) == 0
    assert fbp.grad(lambda x: lax.pow(x, y))(x) == 0


@pytest.mark.parametrize("y", [0.0, 1.0, 2.0])
def test_powers_of_zero_have_second_derivatives(y):
    slope = fbp.grad(lax.pow, (0, 1))
    assert np.isfinite(jax.tree.leaves(fbp.grad(lambda x, y: sum(slope(x, y)))(0.0, y))).all()


@pytest.mark.parametrize("x", [0.25, 4.0])
def test_a_power_near_the_zeroth_has_its_mixed_second_derivative(x):
    mixed = fbp.grad(fbp.grad(lax.pow), 1)(x, 0.0), fbp.grad(fbp.grad(lax.pow, 1))(x, 0.0)
    assert mixed == (1 / x, 1 / x)


ACCURATE = {
    "acosh": (lax.acosh, [1.0001, 1e30], lambda x: 1 / (np.sqrt(x - 1) * np.sqrt(x + 1))),
    "asin": (lax.asin, [0.999, -0.9999, 1e-20], lambda x: 1 / np.sqrt((1 - x) * (1 + x))),
    "acos": (lax.acos, [0.999, -0.9999, 1e-20], lambda x: -1 / np.sqrt((1 - x) * (1 + x))),
    "atanh": (lax.atanh, [0.999, -0.9999, 1e-20], lambda x: 1 / ((1 - x) * (1 + x))),
    "expm1": (lax.expm1, [-20.0, -80.0, 1e-20], np.exp),
    "log1p": (lax.log1p, [-0.9999, 1e-20, 1e30], lambda x: 1 / (1 + x)),
    "erfc": (lax.erfc, [5.0, 9.0, -3.0], lambda x: -2 / np.sqrt(np.pi) * np.exp(-x * x)),
}


@pytest.mark.parametrize("name", ACCURATE)
def test_derivatives_are_accurate_where_digits_are_easily_lost(name):
    fun, points, slope = ACCURATE[name]
    got = jax.vmap(fbp.grad(fun))(np.float32(points))
    want = slope(np.float32(points).astype(np.float64))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=0)


def test_slope_of_tanh_has_all_digits_of_its_value():
    x = np.float32([-6, -3, -0.5, 0.5, 3, 6])
    y, pullback = fbp.vjp(lax.tanh, x)
    value = np.asarray(y, np.float64)
    (got,) = pullback(jnp.ones_like(y))
    np.testing.assert_allclose(got, 1 - value**2, rtol=4 * np.finfo(np.float32).eps, atol=0)


def test_scalar_bounds_of_clamp_get_the_sum_of_what_they_cut():
    x = jnp.array([-3.0, -1.0, 0.0, 2.0, 5.0])
    low, inside, high = fbp.grad(lambda *args: jnp.sum(lax.clamp(*args)), (0, 1, 2))(-2.0, x, 1.0)
    assert (low, high) == (1, 2)
    np.testing.assert_array_equal(inside, [0, 1, 1, 0, 0])


def test_quotient_of_equals_is_exactly_constant():
    assert (fbp.grad(lambda x: jnp.sum(x / x))(jnp.linspace(0.1, 3, 50)) == 0).all()


def test_infinite_cotangent_of_a_maximum_leaves_the_smaller_operand_alone():
    _, pullback = fbp.vjp(lax.max, 1.0, 2.0)
    assert pullback(INF) == (0, INF)


# Types


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: 2.0 * x,
        lambda x: x**3,
        lambda x: jnp.float32(2) * x,
        lambda x: jnp.maximum(x, 0.0),
        lambda x: jnp.where(x > 0, x, 0.0),
        lambda x: x.astype(jnp.float16).astype(jnp.float32) if hasattr(x, "astype") else x,
    ],
)
@pytest.mark.parametrize("x", [3.0, np.float32(3), jnp.float32(3)], ids=["weak", "numpy", "strong"])
def test_cotangents_have_the_weak_type_of_their_operands(fun, x):
    got = fbp.grad(fun)(x)
    assert got == jax.grad(fun)(x)
    assert jax.typeof(got) == jax.typeof(jnp.asarray(x))


BINARY = (lax.add, lax.sub, lax.mul, lax.div, lax.max, lax.min, lax.pow, lax.atan2, lax.rem)


def test_scalar_operands_get_the_sum_over_their_partners_shape():
    x, y = jnp.arange(12.0).reshape(3, 4) + 1, jnp.float32(2)
    for fun in BINARY:
        for one in (fun, lambda x, y, fun=fun: fun(y, x)):
            got = fbp.grad(lambda y, x: jnp.sum(one(x, y)))(y, x)
            want = jnp.sum(jax.grad(lambda y, x: jnp.sum(one(x, y)))(jnp.full_like(x, y), x))
            assert_same(got, want, tolerance=8)


@pytest.mark.parametrize("shapes", [((4, 1, 3), (4, 2, 3)), ((1, 2), (3, 1))], ids=str)
def test_operands_of_size_one_get_the_sum_along_their_partners_axis(shapes):
    x, y = (1 + jnp.arange(float(np.prod(shape))).reshape(shape) for shape in shapes)
    whole = np.broadcast_shapes(*shapes)
    for fun in BINARY:
        got = fbp.grad(lambda x, y: jnp.sum(fun(x, y)), (0, 1))(x, y)
        want = jax.grad(
            lambda x, y: jnp.sum(fun(jnp.broadcast_to(x, whole), jnp.broadcast_to(y, whole))),
            (0, 1),
        )(x, y)
        assert_same(got, want, tolerance=8)
