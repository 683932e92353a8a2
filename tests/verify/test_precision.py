"""A program in another precision computes the same function, with other rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbp.verify.precision import DOUBLE, SINGLE, function_of, in_precision
from tests.support.faulty import square

KEY = jax.random.key(1)


def named_dtype(x):
    init = jnp.float32(0.3)
    return jax.lax.scan(lambda c, x: (jnp.sin(c) * x, c), init, x[0])


def draws(x):
    mask = jax.random.bernoulli(KEY, 0.5, x.shape)
    return jnp.where(mask, x, jax.random.normal(KEY, x.shape)) + jax.random.uniform(KEY, x.shape)


def scatters(x):
    zeros = jnp.zeros(5, jnp.float32)
    return zeros.at[jnp.array([0, 0, 3])].add(x[0, :3]).at[1].set(2.0).at[2:4].multiply(x[0, :2])


def loops(x):
    return jax.lax.while_loop(
        lambda c: c[0] < 50, lambda c: (c[0] * 2, jnp.cos(c[1])), (x[0, 0] + 3, x)
    )


def branches(x):
    return jax.lax.cond(x[0, 0] > 0, jnp.sin, jax.nn.relu, x)


def rules(x):
    return jax.nn.silu(jax.nn.relu(square(x))) + jax.nn.logsumexp(x, axis=0)[None]


def orders(x):
    return jnp.sort(x, axis=0), x[jnp.argmax(x[:, 0])], jnp.cumsum(x, axis=1)


PROGRAMS = [named_dtype, draws, scatters, loops, branches, rules, orders]
X = jax.random.normal(jax.random.key(3), (4, 3))


@pytest.mark.parametrize("fun", PROGRAMS)
def test_float64_gives_the_same_numbers_with_less_rounding(fun):
    wide, want = in_precision(DOUBLE, fun, X), jax.tree.leaves(fun(X))
    with jax.enable_x64(True):
        got = jax.jit(wide)(X.astype(jnp.float64))
        for a, b in zip(jax.tree.leaves(got), want, strict=True):
            if jnp.issubdtype(b.dtype, jnp.floating):
                assert a.dtype == jnp.float64
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fun", PROGRAMS)
def test_its_gradient_is_that_of_the_program(fun):
    def total(x):
        return sum(jnp.sum(y) for y in jax.tree.leaves(fun(x)))

    grad = jax.jacfwd if fun is loops else jax.grad
    wide = in_precision(DOUBLE, total, X)
    with jax.enable_x64(True):
        got = grad(wide)(X.astype(jnp.float64))
    np.testing.assert_allclose(got, grad(total)(X), rtol=1e-4, atol=1e-5)


def test_rounding_is_gone():
    third = in_precision(DOUBLE, lambda x: x / jnp.bfloat16(3), jnp.bfloat16(1))
    with jax.enable_x64(True):
        assert third(1.0) == 1 / 3


def test_a_custom_rule_keeps_its_name_and_what_it_says():
    @jax.custom_vjp
    def f(x):
        return x

    f.defvjp(lambda x: (x, None), lambda _, ct: (3 * ct,))
    wide = in_precision(DOUBLE, f, jnp.float32(1))
    with jax.enable_x64(True):
        assert jax.grad(wide)(1.0) == 3
        calls = [e for e in jax.make_jaxpr(wide)(1.0).eqns if e.primitive.name == "custom_vjp_call"]
    assert "test_precision.py" in function_of(calls[0])
    assert function_of(calls[0]).startswith("f at")


def test_float64_is_narrowed():
    with jax.enable_x64(True):
        x = jnp.float64(1 / 3)
        got = in_precision(SINGLE, lambda x: x * 1.0, x)(x)
        assert got.dtype == jnp.float32
        assert (
            in_precision(SINGLE, lambda x: x, jnp.bfloat16(1))(jnp.bfloat16(1)).dtype
            == jnp.bfloat16
        )


def test_what_has_one_precision_keeps_it():
    def fun(x):
        return jax.pure_callback(lambda x: np.asarray(x, np.float32) + 1, x, x)

    with jax.enable_x64(True):
        assert in_precision(DOUBLE, fun, jnp.float32(1))(1.0) == 2.0
