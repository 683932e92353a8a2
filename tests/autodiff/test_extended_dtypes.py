"""Extended dtypes with a derivative: their cotangents are joined as the dtype says.

The dtype of these tests keeps logarithms of weights: its sum is log(e^a + e^b), its zero is
-inf. `reported(x, m)` is x, and the cotangent of m is x: so the gradient in m of a program is the
logarithm of the sum of e^x over all its uses.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax._src.dtypes import ExtendedDType
from jax.sharding import PartitionSpec as P

import fbp
from fbp.autodiff import avals
from fbp.autodiff.avals import differentiable
from tests.support.agreement import assert_same


class Logarithms(jax.dtypes.extended):
    """The type of all such dtypes."""


class LogRules:
    """What JAX asks of an extended dtype, as for the one that Flax ships."""

    allow_conversion = True

    @staticmethod
    def physical_element_aval(_):
        return jax.core.ShapedArray((), np.dtype("float32"))

    @staticmethod
    def tangent_dtype(dtype):
        return dtype

    @staticmethod
    def add(dtype, x, y):
        x, y = (lax.convert_element_type(a, np.float32) for a in (x, y))
        return lax.convert_element_type(jnp.logaddexp(x, y), dtype)

    @staticmethod
    def zero(dtype):
        return lax.convert_element_type(np.float32(-np.inf), dtype)

    @staticmethod
    def full(shape, value, dtype):
        return lax.convert_element_type(lax.full(shape, value, np.float32), dtype)


@dataclass(frozen=True)
class LogDtype(ExtendedDType):
    """float32 that holds a logarithm."""

    _rules: Any = LogRules
    type: Any = Logarithms
    name: str = "log32"
    itemsize: int = 4


LOG = LogDtype()
X = jnp.array([0.5, -1.0, 2.0])


@jax.custom_vjp
def reported(x, m):
    return 2 * x


reported.defvjp(lambda x, m: (2 * x, x), lambda x, ct: (2 * ct, lax.convert_element_type(x, LOG)))


def as_log(s):
    return lax.convert_element_type(s, LOG)


def used_twice(s):
    m = as_log(s)
    return reported(reported(jnp.float32(0.5), m), m)


def in_scan(s):
    m = as_log(s)
    return lax.scan(lambda c, _: (reported(c, m), None), jnp.float32(0.5), length=2)[0]


def carried(s):
    def step(carry, _):
        x, m = carry
        return (reported(x, m), m), None

    return lax.scan(step, (jnp.float32(0.5), as_log(s)), length=2)[0][0]


def in_while(s):
    m = as_log(s)
    return lax.fori_loop(0, jnp.int32(2), lambda _, c: reported(c, m), jnp.float32(0.5))


def in_branch(s):
    m = as_log(s)
    x = lax.cond(s > 0, lambda x: reported(x, m), lambda x: x, jnp.float32(0.5))
    x = lax.cond(s > 9, lambda x: reported(x, m), lambda x: x, x)
    return reported(x, m)


def in_jit_and_checkpoint(s):
    m = as_log(s)
    return jax.checkpoint(reported)(jax.jit(reported)(jnp.float32(0.5), m), m)


def back_and_forth(s):
    m = as_log(s)
    return reported(reported(jnp.float32(0.5), m), as_log(lax.convert_element_type(m, np.float32)))


PROGRAMS = {
    f.__name__: f
    for f in (
        *(used_twice, in_scan, carried, in_while, in_branch, in_jit_and_checkpoint),
        back_and_forth,
    )
}


@pytest.mark.parametrize("fun", PROGRAMS.values(), ids=PROGRAMS)
def test_cotangents_are_joined_by_the_sum_of_the_dtype(fun):
    want = jnp.float32(math.log(math.exp(0.5) + math.exp(1.0)))
    assert_same(jax.jit(fbp.grad(fun))(jnp.float32(1)), want)


def test_each_of_a_batch_has_its_own():
    def fun(s, x):
        m = as_log(s)
        return reported(reported(x, m), m)

    got = jax.jit(jax.vmap(fbp.grad(fun)))(jnp.ones(3), X)
    assert_same(got, jnp.logaddexp(X, 2 * X))


def test_copies_for_a_batch_are_joined_by_the_sum_of_the_dtype():
    def fun(s, x):
        m = as_log(s)
        y = jax.vmap(lambda x: lax.cond(x > 0, lambda m: reported(x, m), lambda _: x, m))(x)
        return jnp.sum(y)

    want = jnp.float32(math.log(math.exp(0.5) + math.exp(1.0) + math.exp(2.0)))
    assert_same(jax.jit(fbp.grad(fun))(jnp.float32(1), abs(X)), want)


def test_one_part_on_each_device():
    mesh = jax.make_mesh((3,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))

    def fun(s):
        def body(s, x):
            m = as_log(s)
            return reported(reported(x, m), m)

        divided = P("i")
        return jax.shard_map(body, mesh=mesh, in_specs=(divided, divided), out_specs=divided)(
            s, X
        ).sum()

    assert_same(jax.jit(fbp.grad(fun))(jnp.ones(3)), jnp.logaddexp(X, 2 * X))


def test_the_sum_has_a_derivative_too():
    def fun(x):
        def inner(s):
            m = as_log(s)
            return reported(x, m) + reported(2 * x, m)

        return fbp.grad(inner)(jnp.float32(1))  # log(e^x + e^2x)

    e = math.exp(0.5)
    assert_same(jax.jit(fbp.grad(fun))(jnp.float32(0.5)), jnp.float32((1 + 2 * e) / (1 + e)))


def test_a_pullback_takes_and_gives_cotangents_of_the_dtype():
    @jax.jit
    def run(s):
        m, pullback = fbp.vjp(as_log, s)
        (back,) = pullback(m)
        _, to_float = fbp.vjp(lambda m: lax.convert_element_type(m, np.float32), m)
        return back, lax.convert_element_type(to_float(s)[0], np.float32)

    assert_same(run(X), (X, X))


def test_which_dtypes_have_a_derivative():
    key = jax.random.key(0)
    types = [jax.core.ShapedArray((), dtype) for dtype in (LOG, key.dtype, np.dtype("int32"))]
    assert [differentiable(a) for a in types] == [True, False, False]
    assert avals.tangent_dtype(LOG) == LOG
    assert avals.tangent_dtype(key.dtype) == jax.dtypes.float0


def test_keys_still_have_none():
    def fun(x, key):
        keys = lax.scan(lambda k, _: (jax.random.fold_in(k, 1), k), key, length=2)[1]
        return x * jax.random.uniform(keys[1])

    x, key = jnp.float32(2), jax.random.key(0)
    want = jax.random.uniform(jax.random.fold_in(key, 1))
    assert_same(jax.jit(fbp.grad(fun))(x, key), want)
    assert fbp.grad(fun, argnums=1, allow_int=True)(x, key).dtype == jax.dtypes.float0
