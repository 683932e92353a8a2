"""Every program that JAX ships to test its conversions and can differentiate, differentiated by
fbp and by JAX: in the everyday run the first of each primitive, all of them in the slow one."""

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import replace

import jax
import pytest
from agreement import ulps
from harnesses import Program, programs_by_group
from table import QUICK

import fbp

TOLERANCE = 64
"""ULPs of a cotangent's largest entry: both compute the same derivative, but add and multiply
in another order, over up to a few hundred terms."""

DOMAIN = {"acosh": lambda x: (1 + abs(x)).astype(x.dtype)}
"""Where to differentiate what JAX gives slopes beyond the points where it is defined."""

GROUPS = programs_by_group()


def programs(group: str) -> Iterator[Program]:
    """Those that JAX differentiates."""
    for make in GROUPS[group]:
        one = make()
        if one is not None:
            inside = DOMAIN.get(group, lambda x: x)
            yield replace(one, args=tuple(map(inside, one.args)))


def check(group: str, some: list[Program]) -> None:
    def both() -> list[tuple]:
        return [(one.cotangents(fbp), one.cotangents(jax)) for one in some]

    with warnings.catch_warnings(action="ignore"):
        results = jax.jit(both, compiler_options=QUICK)()
    for one, (got, want) in zip(some, results, strict=True):
        for a, b in zip(got, want, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype), one.name
            assert ulps(a, b) <= TOLERANCE, f"{one.name}\n{a}\n{b}"


@pytest.mark.parametrize("group", GROUPS)
def test_a_program_of_each_primitive_has_jaxs_cotangents(group):
    with jax.enable_x64(True):
        some = list(itertools.islice(programs(group), 1))
        check(group, some)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_all_programs_have_jaxs_cotangents(group):
    with jax.enable_x64(True):
        everything = programs(group)
        while some := list(itertools.islice(everything, 20)):
            check(group, some)
