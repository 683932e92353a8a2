"""Reductions by monoids of the user's own, beside the same reduction written out."""

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
from fbp.autodiff.rules import monoids
from fbp.testing import NUMBERS, Case
from tests.support.agreement import ulps
from tests.support.jaxprs import primitives
from tests.support.table import rule_tests


def sum_and_product(x, y):
    """x + y + xy, whose identity is 0."""
    return x + y + x * y


def affine(f, g):
    """f after g, for x -> a x + b: no commutative monoid."""
    return f[0] * g[0], f[0] * g[1] + f[1]


def reduced(
    axes: tuple[int, ...], monoid: Callable = sum_and_product, identity: float = 0
) -> Callable:
    return lambda x: lax.reduce(x, np.array(identity, x.dtype), monoid, axes)


def reduced_twice(x):
    return lax.reduce(
        (x, x * x), (x.dtype.type(1), x.dtype.type(0)), lambda f, g: affine(f, g), (1,)
    )


CASES = [
    Case(p.reduce_p, reduced((0,)), ((5,),), NUMBERS, tolerance=16),
    Case(p.reduce_p, reduced((0, 2)), ((2, 3, 4),), tolerance=16, name="two axes"),
    Case(
        p.reduce_p, reduced((0,), jnp.logaddexp, -np.inf), ((4, 2),), tolerance=16, name="logaddexp"
    ),
    Case(p.reduce_p, reduced(()), ((3,),), name="no axes"),
    Case(p.reduce_p, reduced((1,)), ((3, 1),), name="one element"),
    Case(p.reduce_p, reduced((1,)), ((3, 0),), name="nothing to reduce"),
    Case(p.reduce_p, reduced((1,)), ((0, 3),), name="empty"),
]


TestRules = rule_tests(monoids.RULES, CASES, without=(p.reduce_window_p,))


def agree(fun: Callable, written_out: Callable, *args: Any) -> None:
    """Values, cotangents and those of the cotangents."""

    def total(fun):
        return lambda *args: sum(jnp.sum(y**2) for y in jax.tree.leaves(fun(*args)))

    every = tuple(range(len(args)))

    def both(grad, fun):
        slopes = grad(total(fun), every)
        return fun(*args), slopes(*args), grad(total(slopes), every)(*args)

    got, want = jax.jit(lambda: (both(fbp.grad, fun), both(jax.grad, written_out)))()
    for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert ulps(a, b) <= 32


def test_a_monoid_of_pairs_need_not_be_commutative():
    def written_out(x):
        made = jnp.ones(x.shape[0]), jnp.zeros(x.shape[0])
        for i in range(x.shape[1]):
            made = affine(made, (x[:, i], x[:, i] ** 2))
        return made

    agree(reduced_twice, written_out, np.random.default_rng(0).normal(size=(2, 5)).astype("f"))


def test_the_initial_value_has_a_cotangent():
    def fun(x, start):
        return lax.reduce(x, start, sum_and_product, (0,))

    def written_out(x, start):
        return (1 + start) * jnp.prod(1 + x) - 1

    agree(fun, written_out, jnp.array([0.5, -0.3, 2.0]), jnp.float32(0.1))


WINDOWS = {
    "plain": ((2,), (1,), [(0, 0)], (1,), (1,), (5,)),
    "strided and padded": ((3, 2), (2, 1), [(1, 2), (0, 1)], (1, 1), (1, 1), (5, 4)),
    "dilated": ((2, 2), (1, 2), [(1, 1), (0, 0)], (2, 1), (2, 3), (3, 6)),
    "cut off": ((2,), (1,), [(-1, -1)], (1,), (1,), (6,)),
    "window too wide": ((7,), (1,), [(0, 0)], (1,), (1,), (5,)),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_of_any_monoid(name):
    window, strides, padding, dilation, holes, shape = WINDOWS[name]

    def fun(x, start):
        return lax.reduce_window(
            x, start, sum_and_product, window, strides, padding, dilation, holes
        )

    def written_out(x, start):
        edges = [(*edge, d - 1) for edge, d in zip(padding, dilation, strict=True)]
        y = jax.eval_shape(fun, x, start)
        x = lax.pad(x, np.float32(0), edges)
        made = jnp.full(y.shape, start)
        for place in itertools.product(*map(range, window)):
            at = [i * h for i, h in zip(place, holes, strict=True)]
            stop = [i + s * (n - 1) + 1 for i, s, n in zip(at, strides, y.shape, strict=True)]
            made = sum_and_product(made, lax.slice(x, at, stop, strides)) if y.size else made
        return made

    x = np.random.default_rng(0).normal(size=shape).astype("f")
    if name != "window too wide":
        assert "reduce_window" in primitives(fun, x, jnp.float32(0))
    agree(fun, written_out, x, jnp.float32(0))


def test_windows_of_pairs():
    def fun(x):
        start = np.float32(1), np.float32(0)
        return lax.reduce_window((x, x * x), start, affine, (3,), (1,), "VALID")

    def written_out(x):
        made = (x[:-2], x[:-2] ** 2)
        for i in (1, 2):
            made = affine(made, (x[i : i + 4], x[i : i + 4] ** 2))
        return made

    agree(fun, written_out, np.random.default_rng(0).normal(size=6).astype("f"))


def test_the_tree_is_as_deep_as_the_logarithm_of_the_number():
    used = [
        sum(primitives(fbp.grad(lambda x: reduced((0,))(x)), np.ones(n, np.float32)).values())
        for n in (8, 64)
    ]
    assert used[1] <= 2 * used[0]
