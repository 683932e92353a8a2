"""The table of rules is tested by a table of cases: each primitive, with shapes, parameters and
values where something may go wrong, differentiated by fbp and by JAX.

A family's test file lists its `CASES`, and `TestRules = rule_tests(RULES, CASES)` are its tests.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from jax.extend.core import Primitive

from fbp.autodiff.rule import Rules
from fbp.testing import NUMBERS, Case, check_composed, check_first_order, precision
from tests.support.jaxprs import staged

MAIN = "float32"


def rule_tests(
    rules: Rules,
    cases: Sequence[Case],
    composed: Sequence[str] = (MAIN,),
    without: Sequence[Primitive] = (),
) -> type:
    """The tests of a family: each rule has a case, but those tested otherwise; each case has JAX's
    cotangents in each of its dtypes, and, in those of `composed`, so have its compositions."""

    class TestRules:
        def test_every_rule_has_a_case(self):
            check_covers([p for p in rules if p not in without], cases)

        @by_primitive(cases)
        def test_cotangents_are_jaxs(self, group, dtype):
            check_first_order(group, dtype)

        if composed:

            @by_primitive(cases, composed)
            def test_composed_cotangents_are_jaxs(self, group, dtype):
                check_composed(group, dtype)

    return TestRules


def by_primitive(cases: Iterable[Case], dtypes: Sequence[str] = NUMBERS) -> Any:
    """Parametrize a test with each primitive, dtype and cases of both.

    The everyday run has every case in float32, or in its first dtype, and one case of each
    primitive in each of the other dtypes, complex128 being the same as complex64. The slow run
    has all cases in all dtypes.
    """
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        for dtype in case.dtypes:
            if dtype in dtypes:
                groups.setdefault((case.primitive.name, dtype), []).append(case)
    return pytest.mark.parametrize(
        ("group", "dtype"),
        [
            pytest.param(group, dtype, id=f"{name}-{dtype}{kind}", marks=marks)
            for (name, dtype), all_cases in groups.items()
            for group, kind, marks in _storeys(all_cases, dtype, groups.keys(), dtypes)
        ],
    )


def _storeys(
    cases: list[Case], dtype: str, groups: Iterable[tuple[str, str]], dtypes: Sequence[str]
) -> Iterator[tuple[list[Case], str, Any]]:
    """The cases of a primitive and a dtype that are run every day, and all if they are more."""
    name = cases[0].primitive.name
    daily = [case for case in cases if dtype == main_dtype(case, dtypes)]
    if not daily and not (dtype == "complex128" and (name, "complex64") in groups):
        daily = cases[:1]
    if daily:
        yield daily, "", ()
    if len(daily) < len(cases):
        yield cases, "-all", pytest.mark.slow


def main_dtype(case: Case, dtypes: Sequence[str]) -> str:
    """The dtype in which a case is run every day."""
    some = [dtype for dtype in case.dtypes if dtype in dtypes]
    return MAIN if MAIN in some else some[0]


def check_covers(primitives: Iterable[Primitive], cases: Iterable[Case]) -> None:
    """Every rule has a case, and every case's program contains the primitive that it tests."""
    assert {str(p) for p in primitives} == {str(case.primitive) for case in cases}
    for case in cases:
        with precision(case.dtypes[0]):
            used = {eqn.primitive for eqn in staged(case.fun, *case.arguments(case.dtypes[0]))}
        assert case.primitive in used, f"{case.primitive} {case.name}: {used}"
