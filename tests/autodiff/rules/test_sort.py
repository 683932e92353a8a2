"""Sorting and selection beside JAX's: cotangents return to where their values came from."""

from collections.abc import Callable

import numpy as np
import pytest
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.rules import sort
from fbp.testing import Case, check_eagerly, fixed, ties, values
from tests.support.table import by_primitive, rule_tests


def sorted_along(dimension: int, num_keys: int = 1, is_stable: bool = True) -> Callable:
    return lambda *xs: lax.sort(xs, dimension=dimension, num_keys=num_keys, is_stable=is_stable)


def largest(k: int, axis: int = -1) -> Callable:
    return lambda x: lax.top_k(x, k, axis=axis)


def approximate(k: int, dimension: int = -1, largest: bool = True) -> Callable:
    select = lax.approx_max_k if largest else lax.approx_min_k
    return lambda x: select(x, k, reduction_dimension=dimension)


INTEGERS = fixed(np.array([[3, 1, 2, 1], [0, 0, 1, 0], [2, 2, 2, 2]], np.int32))
SPECIAL = values([0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, -1.0, 0.0])

SORTS = [
    Case(p.sort_p, sorted_along(0), ((3, 4),)),
    Case(p.sort_p, sorted_along(1), ((3, 4),), name="last"),
    Case(p.sort_p, sorted_along(1, is_stable=False), ((3, 4),), name="unstable"),
    Case(p.sort_p, sorted_along(1), (ties(3, 8),), name="ties"),
    Case(p.sort_p, sorted_along(0), ((3, 4), (3, 4)), name="two operands"),
    Case(p.sort_p, sorted_along(1, 2), (ties(3, 8), ties(3, 8), (3, 8)), name="two keys"),
    Case(p.sort_p, sorted_along(1), (INTEGERS, (3, 4)), name="by integers"),
    Case(p.sort_p, sorted_along(1), ((3, 4), INTEGERS, (3, 4)), name="integers along"),
    Case(p.sort_p, sorted_along(1), (SPECIAL,), name="special", composed=False),
    Case(p.sort_p, sorted_along(0), ((1, 3),), name="one", composed=False),
    Case(p.sort_p, sorted_along(0), ((0, 3),), name="none", composed=False),
    Case(p.sort_p, sorted_along(1), ((0, 3),), name="empty", composed=False),
    Case(p.sort_p, lambda x, y: sorted_along(0)(x, y)[1] * x, ((4,), (4,)), name="part used"),
    Case(p.sort_p, lambda x: sorted_along(0)(x, x), ((4,),), name="the same twice"),
]

SELECTIONS = [
    Case(p.top_k_p, largest(2), ((3, 4),)),
    Case(p.top_k_p, largest(4), ((4,),), name="all"),
    Case(p.top_k_p, largest(3), (ties(3, 8),), name="ties"),
    Case(p.top_k_p, largest(2, axis=0), ((3, 4),), name="first axis"),
    Case(p.top_k_p, largest(2, axis=1), ((2, 3, 4),), name="middle axis"),
    Case(p.top_k_p, largest(0), ((3, 4),), name="none", composed=False),
    Case(p.top_k_p, largest(2), ((0, 4),), name="empty", composed=False),
    Case(p.top_k_p, largest(3), (SPECIAL,), name="special", composed=False),
    Case(p.approx_top_k_p, approximate(2), ((3, 8),), ("float32", "bfloat16")),
    Case(
        p.approx_top_k_p,
        approximate(2, 0, largest=False),
        ((8, 3),),
        ("float32", "bfloat16"),
        name="smallest along the first axis",
    ),
]

CASES = (*SORTS, *SELECTIONS)


TestRules = rule_tests(sort.RULES, CASES)


@pytest.mark.slow
@by_primitive(CASES)
def test_cotangents_of_orderings_are_those_of_jax_without_jit(group, dtype):
    check_eagerly(group, dtype)
