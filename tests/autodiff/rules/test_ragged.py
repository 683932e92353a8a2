"""Ragged products of all three kinds, beside a product for each group."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.lax import RaggedDotDimensionNumbers

import fbp
from fbp.autodiff.rules import ragged
from fbp.testing import FLOATS, Case, fixed
from tests.support.agreement import ulps
from tests.support.table import rule_tests


def numbers(
    summed: Any, batch: Any = ((), ()), ragged: int = 0, groups: Sequence[int] = (0,)
) -> RaggedDotDimensionNumbers:
    return RaggedDotDimensionNumbers((summed, batch), (ragged,), groups)


def multiply(dims: RaggedDotDimensionNumbers, **how: Any) -> Any:
    return lambda x, z, sizes: lax.ragged_dot_general(x, z, sizes, dims, **how)


def sizes(*lengths: Any) -> Any:
    return fixed(np.array(lengths, np.int32))


PLAIN = numbers(((1,), (1,)))
TURNED = numbers(((0,), (0,)), ((2,), (2,)), ragged=1, groups=(1,))
BY_ROW = numbers(((1,), (1,)), ragged=2, groups=(3,))
OWN = {
    "plain": (multiply(PLAIN), ((6, 3), (2, 3, 4), sizes(2, 4))),
    "rows left over": (multiply(PLAIN), ((6, 3), (3, 3, 4), sizes(2, 0, 3))),
    "turned": (multiply(TURNED), ((3, 6, 2), (3, 2, 2, 4), sizes(2, 4))),
    "sizes by row": (multiply(BY_ROW), ((3, 2, 6), (4, 2, 3, 2), sizes([2, 3], [0, 6], [1, 1]))),
    "two summed": (
        multiply(numbers(((2, 1), (1, 3)))),
        ((5, 3, 2), (2, 2, 4, 3), sizes(2, 3)),
    ),
    "no rows": (multiply(PLAIN), ((0, 3), (2, 3, 4), sizes(0, 0))),
}
CASES = [
    Case(ragged.RAGGED_DOT_GENERAL, fun, args, FLOATS, tolerance=8, name=name)
    for name, (fun, args) in OWN.items()
] + [
    Case(
        ragged.RAGGED_DOT_GENERAL,
        multiply(PLAIN, preferred_element_type=jnp.float32),
        ((6, 3), (2, 3, 4), sizes(2, 4)),
        ("bfloat16",),
        name="summed in float32",
    )
]


TestRules = rule_tests(ragged.RULES, CASES, composed=())


OTHERS = {
    **OWN,
    "summed": (multiply(numbers(((1,), (1,)), ragged=1, groups=())), ((3, 6), (4, 6), sizes(2, 3))),
    "summed, turned": (
        multiply(numbers(((1, 0), (2, 3)), ((2,), (0,)), ragged=1, groups=())),
        ((5, 6, 3), (3, 4, 6, 5), sizes(2, 3)),
    ),
    "summed, sizes by row": (
        multiply(numbers(((0, 1), (2, 1)), ragged=1, groups=())),
        ((2, 6, 3), (4, 6, 2), sizes([2, 3], [5, 1])),
    ),
    "shared": (
        multiply(numbers(((2,), (1,)), ((0,), (0,)), groups=())),
        ((6, 3, 2), (6, 2, 4), sizes(4, 2)),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_cotangents_are_the_transposes_of_the_product(name):
    fun, args = OTHERS[name]
    x, z, lengths = Case(ragged.RAGGED_DOT_GENERAL, fun, args).arguments("float32")
    y, pullback = fbp.vjp(lambda x, z: fun(x, z, lengths), x, z)
    ct = jnp.asarray(np.random.default_rng(1).normal(size=y.shape), y.dtype)

    def transposed(product, a):
        units = jnp.eye(a.size, dtype=a.dtype).reshape(a.size, *a.shape)
        return lax.map(lambda unit: jnp.vdot(product(unit), ct), units).reshape(a.shape)

    ct_x, ct_z = pullback(ct)
    assert ulps(ct_x, transposed(lambda unit: fun(unit, z, lengths), x)) <= 8
    assert ulps(ct_z, transposed(lambda unit: fun(x, unit, lengths), z)) <= 8


@pytest.mark.parametrize("name", OTHERS)
def test_second_derivatives_are_those_of_a_bilinear_function(name):
    fun, args = OTHERS[name]
    x, z, lengths = Case(ragged.RAGGED_DOT_GENERAL, fun, args).arguments("float32")

    def slope_along_z(x):
        return jnp.vdot(fbp.grad(lambda z: jnp.sum(fun(x, z, lengths)))(z), z)

    got = fbp.grad(slope_along_z)(x)
    want = fbp.grad(lambda x: jnp.sum(fun(x, z, lengths)))(x)
    assert ulps(got, want) <= 8
