"""Reductions, whole and cumulative, beside JAX's: at ties, at zeros, along any axes."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from jax import lax
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from fbp.autodiff.rules import reductions
from fbp.testing import FLOATS, NUMBERS, Case, check_eagerly, ties, values
from tests.support.table import by_primitive, rule_tests

AXES = {
    "first": ((3, 4), (0,)),
    "last": ((3, 4), (1,)),
    "all": ((3, 4), (0, 1)),
    "outer": ((2, 3, 4), (0, 2)),
    "none": ((3,), ()),
    "of one": ((1, 3), (0,)),
}
EMPTY = {"of none": ((0, 3), (0,)), "empty": ((0, 3), (1,))}


def reduction(
    primitive: Primitive, fun: Callable, axes: dict[str, Any], dtypes: tuple[str, ...], **how: Any
) -> Iterator[Case]:
    """A reduction along various axes."""
    for name, (shape, along) in axes.items():
        yield Case(primitive, along_axes(fun, along), (shape,), dtypes, name=name, **how)
        how["composed"] = False


def along_axes(fun: Callable, axes: tuple[int, ...]) -> Callable:
    return lambda x: fun(x, axes=axes)


ZEROS = [
    [1, 2, 3, 4],
    [1, 0, 3, 4],
    [0, 2, 0, 4],
    [0, 0, 0, 0],
    [-1, 2, -0.0, 3],
]

WHOLE = [
    *reduction(p.reduce_sum_p, lax.reduce_sum, AXES | EMPTY, NUMBERS),
    *reduction(p.reduce_max_p, lax.reduce_max, AXES | EMPTY, FLOATS),
    *reduction(p.reduce_min_p, lax.reduce_min, AXES | EMPTY, FLOATS),
    *(
        Case(
            primitive,
            along_axes(fun, axes),
            (ties(4, 5),),
            per_element=True,
            composed=axes == (1,),
            name=f"ties {axes}",
        )
        for primitive, fun in ((p.reduce_max_p, lax.reduce_max), (p.reduce_min_p, lax.reduce_min))
        for axes in ((0,), (1,), (0, 1))
    ),
    *(
        Case(
            primitive,
            along_axes(fun, (1,)),
            (values([1, np.inf, np.inf], [1, -np.inf, 2], [-np.inf] * 3, [1, np.nan, 2]),),
            composed=False,
            name="infinities",
        )
        for primitive, fun in ((p.reduce_max_p, lax.reduce_max), (p.reduce_min_p, lax.reduce_min))
    ),
    *reduction(
        p.reduce_prod_p, lax.reduce_prod, AXES | EMPTY, NUMBERS, tolerance=8, composed=False
    ),
    *(
        Case(
            p.reduce_prod_p,
            along_axes(lax.reduce_prod, axes),
            (values(*ZEROS),),
            NUMBERS,
            composed=axes == (1,),
            name=f"zeros {axes}",
        )
        for axes in ((0,), (1,), (0, 1))
    ),
]


def cumulative(
    primitive: Primitive, fun: Callable, dtypes: tuple[str, ...], **how: Any
) -> Iterator[Case]:
    """A cumulative reduction along either axis, in both directions, at ties."""
    for axis in (0, 1):
        for reverse in (False, True):
            name = f"axis {axis}{' reversed' if reverse else ''}"
            run = cumulated(fun, axis, reverse)
            composed = axis == 1 and reverse
            yield Case(primitive, run, ((3, 5),), dtypes, composed=composed, name=name, **how)
    run = cumulated(fun, 0, False)
    how["composed"] = False
    for shape in ((1,), (0, 3), (3, 0)):
        yield Case(primitive, run, (shape,), dtypes[:1], name=f"{shape}", **how)
    for axis in (0, 1):
        run = cumulated(fun, axis, False)
        yield Case(primitive, run, (ties(7, 6),), dtypes, name=f"ties {axis}", **how)


def cumulated(fun: Callable, axis: int, reverse: bool) -> Callable:
    return lambda x: fun(x, axis=axis, reverse=reverse)


CUMULATIVE = [
    *cumulative(p.cumsum_p, lax.cumsum, NUMBERS),
    *cumulative(p.cumprod_p, lax.cumprod, NUMBERS, tolerance=8),
    *cumulative(p.cummax_p, lax.cummax, FLOATS),
    *cumulative(p.cummin_p, lax.cummin, FLOATS),
    *cumulative(p.cumlogsumexp_p, lax.cumlogsumexp, FLOATS, tolerance=16),
    Case(
        p.cumprod_p,
        cumulated(lax.cumprod, 1, False),
        (values(*ZEROS),),
        NUMBERS,
        composed=False,
        name="zeros",
    ),
    Case(
        p.cumlogsumexp_p,
        cumulated(lax.cumlogsumexp, 0, False),
        (values(500, -500, 0, 1e4, -1e4, -np.inf, 3),),
        ("float32", "float64"),
        composed=False,
        name="far apart",
    ),
]

CASES = (*WHOLE, *CUMULATIVE)


TestRules = rule_tests(reductions.RULES, CASES, composed=("float32", "complex64"))


@pytest.mark.slow
@by_primitive(CASES)
def test_cotangents_of_reductions_are_those_of_jax_without_jit(group, dtype):
    check_eagerly(group, dtype)
