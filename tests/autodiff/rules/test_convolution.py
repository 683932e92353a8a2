"""Convolutions of every stride, dilation, padding, grouping and layout."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax
from jax.extend.core import primitives as p

import fbp
from fbp.autodiff.rules import convolution
from fbp.testing import FLOATS, NUMBERS, Case
from tests.support.agreement import ulps
from tests.support.jaxprs import primitives, staged
from tests.support.table import rule_tests


def convolve(strides: tuple[int, ...] = (1,), padding: Any = "SAME", **how: Any) -> Callable:
    return lambda x, w: lax.conv_general_dilated(x, w, strides, padding, **how)


def case(x: tuple, w: tuple, fun: Callable, dtypes: tuple = FLOATS, **how: Any) -> Case:
    return Case(p.conv_general_dilated_p, fun, (x, w), dtypes, tolerance=8, **how)


NHWC = ("NHWC", "HWIO", "NHWC")
CASES = [
    case((2, 3, 5), (4, 3, 2), convolve(), NUMBERS),
    case((2, 3, 5), (4, 3, 2), convolve((2,), "VALID"), NUMBERS, name="strided"),
    case((1, 1, 7), (1, 1, 3), convolve((3,), [(-1, -2)]), name="negative padding"),
    case((1, 1, 3), (1, 1, 2), convolve((1,), [(4, 3)]), name="padding beyond the kernel"),
    case((1, 2, 7), (1, 2, 3), convolve(rhs_dilation=(2,)), name="dilated kernel"),
    case((1, 2, 4), (1, 2, 3), convolve((2,), [(1, 2)], lhs_dilation=(3,)), name="dilated input"),
    case((2, 5, 4, 3), (3, 2, 3, 2), convolve((2, 1), dimension_numbers=NHWC), name="NHWC"),
    case((2, 3, 3, 2), (1, 1, 2, 4), convolve((1, 1), dimension_numbers=NHWC), name="1 x 1"),
    case((3, 2, 5), (2, 4, 3), convolve(dimension_numbers=("CNW", "WOI", "WCN")), name="turned"),
    case((2, 6, 5), (4, 3, 2), convolve(feature_group_count=2), NUMBERS, name="feature groups"),
    case((2, 3, 5), (6, 1, 2), convolve(feature_group_count=3), name="depthwise"),
    case((4, 3, 5), (6, 3, 2), convolve(batch_group_count=2), NUMBERS, name="batch groups"),
    case(
        (2, 4, 6),
        (2, 2, 3),
        convolve(
            (2,),
            [(1, -1)],
            lhs_dilation=(2,),
            rhs_dilation=(3,),
            dimension_numbers=("NWC", "WIO", "NCW"),
            feature_group_count=3,
        ),
        name="all at once",
    ),
    case((2, 3), (4, 3), convolve((), ()), name="no space"),
    case(
        (2, 1, 3, 4, 3), (2, 1, 2, 2, 2), convolve((1, 1, 1)), FLOATS[:1], name="three dimensions"
    ),
    case((0, 3, 5), (4, 3, 2), convolve(), name="empty batch"),
    case((2, 3, 1), (4, 3, 2), convolve((1,), "VALID"), name="kernel too wide"),
    case((2, 3, 5), (0, 3, 2), convolve(), name="no features"),
    case(
        (2, 3, 5),
        (4, 3, 2),
        convolve(preferred_element_type=jnp.float32),
        ("bfloat16",),
        name="summed in float32",
    ),
]


TestRules = rule_tests(convolution.RULES, CASES)


@st.composite
def convolutions(draw) -> tuple[tuple, tuple, Callable]:
    """Shapes of input and kernel, and a convolution of one or two dimensions that fits them."""

    def some(low: int, high: int, n: int) -> list[int]:
        return [draw(st.integers(low, high)) for _ in range(n)]

    rank = draw(st.integers(1, 2))
    feature_groups, batch_groups = draw(st.sampled_from([(1, 1), (2, 1), (1, 2), (3, 1)]))
    batch, features, outputs = some(1, 2, 3)
    x = [batch * batch_groups, features * feature_groups, *some(3, 6, rank)]
    w = [outputs * feature_groups * batch_groups, features, *some(1, 3, rank)]
    layouts = [draw(st.permutations(range(rank + 2))) for _ in range(3)]
    how = {
        "lhs_dilation": some(1, 2, rank),
        "rhs_dilation": some(1, 2, rank),
        "feature_group_count": feature_groups,
        "batch_group_count": batch_groups,
        "dimension_numbers": lax.ConvDimensionNumbers(*map(tuple, layouts)),
    }
    padding = list(zip(some(-1, 3, rank), some(-1, 3, rank), strict=True))
    shapes = [
        tuple(a[layout.index(i)] for i in range(rank + 2))
        for a, layout in zip((x, w), layouts, strict=False)
    ]
    return *shapes, convolve(some(1, 3, rank), padding, **how)


@given(convolutions())
@settings(max_examples=25)
def test_any_convolution_has_jaxs_cotangents(drawn):
    *shapes, fun = drawn
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    y = jax.eval_shape(fun, x, w)
    assume(y.size)
    ct = rng.normal(size=y.shape).astype(np.float32)
    got, want = jax.jit(lambda *a: [lib.vjp(fun, x, w)[1](ct) for lib in (fbp, jax)])()
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        assert ulps(a, b) <= 8


@pytest.mark.parametrize(("layout", "transposed"), [(None, 3 + 3), (NHWC, 1 + 3)])
def test_a_convolution_costs_a_convolution_for_each_operand_and_a_reversal(layout, transposed):
    fun = convolve((1, 1), dimension_numbers=layout)
    x, w = np.ones((2, 5, 5, 3), np.float32), np.ones((2, 2, 3, 4), np.float32)
    x, w = (x, w) if layout else (x.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1))
    used = primitives(lambda x, w, ct: fbp.vjp(fun, x, w)[1](ct), x, w, fun(x, w))
    assert used == {"conv_general_dilated": 1 + 2, "rev": 1, "transpose": transposed}


@pytest.mark.parametrize("layout", [None, NHWC, ("CNHW", "WOIH", "WCHN")])
def test_cotangents_are_convolved_in_the_layout_of_xlas_fast_kernels(layout):
    fun = convolve((2, 1), dimension_numbers=layout)
    x = jnp.ones((4, 4, 4, 4))
    y, pullback = fbp.vjp(fun, x, x)
    specs = [
        eqn.params["dimension_numbers"]
        for eqn in staged(pullback, y)
        if eqn.primitive is p.conv_general_dilated_p
    ]
    assert [tuple(spec) for spec in specs] == [((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))] * 2
