"""Every program that JAX ships to test its conversions and can differentiate, differentiated by
fbp and by JAX: in the everyday run the first of each primitive, all of them in the slow one."""

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import jax
import pytest

import fbp
from fbp.testing import QUICK
from tests.support.agreement import ulps
from tests.support.harnesses import Cotangents, Program, programs_by_group

TOLERANCE = 64
"""ULPs of a cotangent's largest entry: both compute the same derivative, but add and multiply
in another order, over up to a few hundred terms."""

FIRST = {
    "acosh": lambda x: (1 + abs(x)).astype(x.dtype),  # JAX gives slopes where there is no value
    "cholesky": lambda a: (a + a.mT.conj()) / 2,  # fbp's gradient lies in one triangle: note 10
}
"""What is applied to a group's arguments, so that fbp and JAX differentiate the same function."""

OTHER_VALUE = ("eigh",)
"""The programs give one triangle. JAX reads it forward, but takes the mean of both triangles when
it differentiates: the values and the derivative of another matrix. See `rules/test_spectra.py`."""

PARTS = 8
"""In how many tests the groups are divided, each of which compiles once."""

Groups = Mapping[str, Sequence[Callable[[], Program | None]]]


@pytest.fixture(scope="module")
def groups() -> Groups:
    """The programs of each primitive."""
    return programs_by_group()


def programs(groups: Groups, group: str) -> Iterator[Program]:
    """Those that JAX differentiates."""
    for make in groups[group]:
        one = make()
        if one is not None:
            yield after(FIRST[group], one) if group in FIRST else one


def after(first: Callable, one: Program) -> Program:
    """A program that does something with its arguments first."""
    return replace(one, fun=lambda *args: one.fun(*map(first, args)))


def difference(got: Cotangents, want: Cotangents) -> float:
    """The largest of any cotangent, in ULPs: infinity for another shape or dtype."""
    if [(a.shape, a.dtype) for a in got] != [(b.shape, b.dtype) for b in want]:
        return math.inf
    return max(map(ulps, got, want), default=0.0)


def differing(some: list[Program]) -> list[str]:
    """The names of those whose cotangents are not JAX's."""

    def both() -> list[tuple]:
        return [(one.cotangents(fbp), one.cotangents(jax)) for one in some]

    with warnings.catch_warnings(action="ignore"):
        results = jax.jit(both, compiler_options=QUICK)()
    apart = {one.name: difference(*each) for one, each in zip(some, results, strict=True)}
    return [f"{name}: {x} ULPs" for name, x in apart.items() if not x <= TOLERANCE]


@pytest.mark.parametrize("part", range(PARTS))
def test_a_program_of_each_primitive_has_jaxs_cotangents(groups, part):
    with jax.enable_x64(True):
        some = [
            one
            for group in list(groups)[part::PARTS]
            for one in itertools.islice(programs(groups, group), 1)
        ]
        assert some
        assert not differing(some)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_all_programs_have_jaxs_cotangents(groups, part):
    with jax.enable_x64(True):
        for group in [g for g in list(groups)[part::PARTS] if g not in OTHER_VALUE]:
            everything = programs(groups, group)
            batches = iter(lambda: list(itertools.islice(everything, 20)), [])
            assert not [name for some in batches for name in differing(some)], group
