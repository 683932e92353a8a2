"""Sliding windows: pooling as JAX differentiates it, and dilated pooling beyond that."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import primitives as p

import fbp
from fbp.autodiff.rules import windows
from fbp.testing import FLOATS, NUMBERS, Case, ties
from tests.support.agreement import assert_same
from tests.support.jaxprs import primitives
from tests.support.table import rule_tests

INITIAL = {lax.add: 0, lax.max: -np.inf, lax.min: np.inf}


def pool(
    reduce: Callable, window: tuple, strides: tuple | None = None, padding: Any = "VALID", **how
):
    return lambda x: lax.reduce_window(
        x, np.array(INITIAL[reduce], x.dtype), reduce, window, strides, padding, **how
    )


def average(window: tuple, strides: tuple, padding: str) -> Callable:
    sums = pool(lax.add, window, strides, padding)
    return lambda x: sums(x) / sums(lax.full_like(x, 1))


def image(n: int, stride: int) -> tuple[tuple, tuple]:
    return (1, n, n, 1), (1, stride, stride, 1)


def summed(shape: tuple, *how: Any, dtypes: tuple = FLOATS, name: str = "", **more: Any) -> Case:
    return Case(p.reduce_window_sum_p, pool(lax.add, *how, **more), (shape,), dtypes, name=name)


SUMS = [
    summed((5,), (2,), dtypes=NUMBERS),
    summed((2, 5, 6, 2), *image(3, 2), "SAME", name="SAME"),
    summed((2, 5, 6, 2), *image(2, 2), name="VALID", dtypes=NUMBERS),
    summed((6,), (3,), (2,), [(-1, 2)], name="negative padding"),
    summed((3,), (2,), (1,), [(4, 3)], name="padding beyond the window"),
    summed((6,), (3,), (2,), [(1, 2)], base_dilation=(3,), window_dilation=(2,), name="dilated"),
    summed((2,), (3,), name="window too wide"),
    summed((0, 4), (1, 2), name="empty"),
    summed((), (), name="scalar"),
    Case(p.reduce_window_sum_p, average(*image(3, 2), "SAME"), ((1, 5, 5, 2),), name="average"),
]


def extremes(primitive: Any, reduce: Callable) -> list[Case]:
    def case(make: Any, *how: Any, name: str = "", **more: Any) -> Case:
        return Case(primitive, pool(reduce, *how, **more), (make,), name=name)

    return [
        case((5,), (2,)),
        case(ties(2, 5, 6, 2), *image(3, 2), "SAME", name="SAME"),
        case(ties(2, 5, 6, 2), *image(2, 2), name="VALID"),
        case(ties(1, 4, 4, 1), *image(3, 1), "SAME", name="overlapping"),
        case(ties(6), (3,), (2,), [(2, 2)], base_dilation=(3,), name="dilated base"),
        case((2,), (3,), name="window too wide"),
        case((0, 4), (1, 2), name="empty"),
    ]


def tangent(reduce: Callable) -> Callable:
    return lambda x, dx: jax.jvp(pool(reduce, *image(2, 1), "SAME"), (x,), (dx,))[1]


def cotangent(reduce: Callable) -> Callable:
    return lambda x, ct: jax.vjp(pool(reduce, *image(2, 1), "SAME"), x)[1](ct)


IMAGE = ties(1, 3, 4, 2)
EXTREMES = [
    *extremes(p.reduce_window_max_p, lax.max),
    *extremes(p.reduce_window_min_p, lax.min),
    Case(p.select_and_gather_add_p, tangent(lax.max), (IMAGE, (1, 3, 4, 2))),
    Case(p.select_and_gather_add_p, tangent(lax.min), (IMAGE, (1, 3, 4, 2)), name="min"),
    Case(p.select_and_scatter_add_p, cotangent(lax.max), (IMAGE, (1, 3, 4, 2))),
    Case(p.select_and_scatter_add_p, cotangent(lax.min), (IMAGE, (1, 3, 4, 2)), name="min"),
]

CASES = (*SUMS, *EXTREMES)


TestRules = rule_tests(windows.RULES, CASES)


def written_out(
    x: Any, reduce: Callable, window: tuple, strides: tuple, padding: list, dilation: tuple
):
    """Pooling with dilated windows as a sequence of choices between the window's elements."""
    y = jax.eval_shape(pool(reduce, window, strides, padding, window_dilation=dilation), x)
    x = lax.pad(x, np.array(INITIAL[reduce], x.dtype), [(*edge, 0) for edge in padding])
    best = None
    for offsets in itertools.product(*map(range, window)):
        start = [o * d for o, d in zip(offsets, dilation, strict=True)]
        stop = [a + (n - 1) * s + 1 for a, n, s in zip(start, y.shape, strides, strict=True)]
        one = lax.slice(x, start, stop, strides)
        stays = best is not None and (best >= one if reduce is lax.max else best <= one)
        best = one if best is None else jnp.where(stays, best, one)
    return best


@pytest.mark.parametrize("reduce", [lax.max, lax.min], ids=["max", "min"])
def test_dilated_pooling_gives_the_cotangent_to_the_first_that_attains_it(reduce):
    x = jnp.asarray(np.random.default_rng(0).integers(-2, 3, (6, 5)) / 1.0, jnp.float32)
    how = (reduce, (2, 2), (2, 1), [(1, 1), (0, 1)])

    def mine(x):
        return pool(*how, window_dilation=(2, 3))(x)

    def square(grad, fun):
        return lambda x: grad(lambda x: (fun(x) ** 2).sum())(x)

    jaxs = square(jax.grad, lambda x: written_out(x, *how, (2, 3)))
    ours = square(fbp.grad, mine)
    assert_same(ours(x), jaxs(x))
    assert_same(jax.vmap(ours)(x[None]), jaxs(x)[None])
    assert_same(jax.jvp(ours, (x,), (x,))[1], jax.jvp(jaxs, (x,), (x,))[1])
    assert_same(square(fbp.grad, ours)(x), square(jax.grad, jaxs)(x))


def test_negative_padding_of_max_pooling_cuts_off():
    x = jnp.array([9.0, 1.0, 3.0, 2.0, 8.0])
    got = fbp.grad(lambda x: pool(lax.max, (2,), (1,), [(-1, -1)])(x).sum())(x)
    assert_same(got, jnp.array([0.0, 0.0, 2.0, 0.0, 0.0]))


def test_pooling_costs_one_window_operation():
    x = np.ones((1, 4, 4, 1), np.float32)

    def backward(fun):
        y, pullback = fbp.vjp(fun, x)
        return primitives(lambda ct: pullback(ct), y)

    assert backward(pool(lax.max, *image(2, 2))) == {"select_and_scatter_add": 1}
    assert backward(pool(lax.add, *image(2, 2))) == {"pad": 1, "reduce_window_sum": 1}
