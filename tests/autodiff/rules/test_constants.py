"""Primitives without a derivative: a product with what they give has the derivative of JAX's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import primitives as p

import fbp
from fbp.autodiff.rules import constants
from fbp.testing import Case, ties
from tests.support.table import rule_tests


def times(fun: Callable) -> Callable:
    """x times what a function without a derivative makes of it."""

    def product(x: Any, *others: Any) -> Any:
        y = lax.convert_element_type(fun(x, *others), x.dtype)
        return lax.mul(x, lax.broadcast(y, x.shape) if y.ndim == 0 else y)

    return product


def of_integers(fun: Callable) -> Callable:
    """A function of integers, applied to a rounded number."""
    return times(lambda x: fun(lax.convert_element_type(x, np.int32)))


def of_truths(fun: Callable) -> Callable:
    """A function of truth values, applied to a comparison."""
    return times(lambda x: fun(lax.gt(x, lax.full_like(x, 0))))


def of_keys(fun: Callable) -> Callable:
    """A function of random keys, seeded by a rounded number."""

    def draw(x: Any) -> Any:
        seed = lax.convert_element_type(lax.reduce_sum(x, axes=(0,)), np.int32)
        made = fun(jax.random.key(lax.abs(seed)))
        is_key = jnp.issubdtype(made.dtype, jax.dtypes.prng_key)
        return (jax.random.key_data(made) if is_key else made).ravel()[0]

    return times(draw)


def compare(fun: Callable) -> Callable:
    return times(lambda x: fun(x, lax.rev(x, (0,))))


TWO = np.int32(2)
OPERATIONS: dict[Any, Callable] = {
    p.eq_p: compare(lax.eq),
    p.ne_p: compare(lax.ne),
    p.lt_p: compare(lax.lt),
    p.le_p: compare(lax.le),
    p.gt_p: compare(lax.gt),
    p.ge_p: compare(lax.ge),
    p.eq_to_p: compare(p.eq_to_p.bind),
    p.lt_to_p: compare(p.lt_to_p.bind),
    p.le_to_p: compare(p.le_to_p.bind),
    p.is_finite_p: times(lax.is_finite),
    p.floor_p: times(lax.floor),
    p.ceil_p: times(lax.ceil),
    p.round_p: times(lax.round),
    p.sign_p: times(lax.sign),
    p.stop_gradient_p: times(lax.stop_gradient),
    p.and_p: of_integers(lambda i: lax.bitwise_and(i, TWO)),
    p.or_p: of_integers(lambda i: lax.bitwise_or(i, TWO)),
    p.xor_p: of_integers(lambda i: lax.bitwise_xor(i, TWO)),
    p.not_p: of_integers(lax.bitwise_not),
    p.shift_left_p: of_integers(lambda i: lax.shift_left(i, TWO)),
    p.shift_right_logical_p: of_integers(lambda i: lax.shift_right_logical(i, TWO)),
    p.shift_right_arithmetic_p: of_integers(lambda i: lax.shift_right_arithmetic(i, TWO)),
    p.population_count_p: of_integers(lax.population_count),
    p.clz_p: of_integers(lax.clz),
    p.bitcast_convert_type_p: times(lambda x: lax.bitcast_convert_type(x, np.int32)),
    p.argmax_p: times(lambda x: lax.argmax(x, 0, np.int32)),
    p.argmin_p: times(lambda x: lax.argmin(x, 0, np.int32)),
    p.iota_p: times(lambda x: lax.iota(x.dtype, x.size)),
    p.reduce_and_p: of_truths(lambda b: lax.reduce_and(b, axes=(0,))),
    p.reduce_or_p: of_truths(lambda b: lax.reduce_or(b, axes=(0,))),
    p.reduce_xor_p: of_integers(lambda i: lax.reduce_xor(i, axes=(0,))),
    p.random_seed_p: of_keys(lambda key: key),
    p.random_bits_p: of_keys(lambda key: jax.random.bits(key)),
    p.random_split_p: of_keys(lambda key: jax.random.split(key)),
    p.random_fold_in_p: of_keys(lambda key: jax.random.fold_in(key, 1)),
    p.threefry2x32_p: of_keys(
        lambda key: p.threefry2x32_p.bind(*np.uint32([[1], [2], [3]]), jax.random.bits(key, (1,)))[
            0
        ]
    ),
    p.rng_bit_generator_p: of_keys(
        lambda key: lax.rng_bit_generator(jax.random.key_data(key).ravel().repeat(2), (1,))[1]
    ),
}

FLOATING = [q for q in OPERATIONS if q.name.startswith(("eq", "le", "is_finite", "floor", "round"))]
CASES = (
    *(Case(q, fun, (ties(6),), ("float32",)) for q, fun in OPERATIONS.items()),
    *(Case(q, OPERATIONS[q], (ties(6),), ("float64", "bfloat16")) for q in FLOATING),
)


TestRules = rule_tests(constants.RULES, CASES, composed=(), without=(p.axis_index_p,))


def test_axis_index_is_a_constant():
    def fun(x):
        return x * lax.axis_index("i").astype(x.dtype)

    got = jax.vmap(fbp.grad(fun), axis_name="i")(jnp.ones(3))
    np.testing.assert_array_equal(got, [0, 1, 2])


@pytest.mark.parametrize("fun", [jnp.floor, jnp.sign, lax.stop_gradient, lax.round])
def test_what_is_constant_has_gradient_zero(fun):
    assert fbp.grad(fun)(0.7) == 0
