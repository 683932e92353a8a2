"""The table of rules is tested by a table of cases: each primitive, with shapes, parameters and
values where something may go wrong, differentiated by fbp and by JAX.

A family's test file lists its `CASES` and runs `check_first_order` and `check_composed` on those
of each primitive and dtype. One program differentiates all of them both ways, so that a test
compiles once.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import ulps
from jax.extend.core import Primitive
from jaxprs import staged

import fbp
from fbp.autodiff.rule import Rules

Make = Callable[[np.random.Generator, Any], np.ndarray]

FLOATS = ("float32", "float64", "bfloat16")
COMPLEX = ("complex64", "complex128")
NUMBERS = (*FLOATS, *COMPLEX)

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@dataclass(frozen=True)
class Case:
    """A use of a primitive: `fun` applied to arguments, each a shape, for normal random numbers
    of the test's dtype, or what makes an array.

    `tolerance` is in ULPs: of each element if `per_element`, else of the gradient's largest.
    """

    primitive: Primitive
    fun: Callable
    args: tuple[tuple[int, ...] | Make, ...]
    dtypes: tuple[str, ...] = FLOATS
    tolerance: float = 4
    per_element: bool = False
    composed: bool = True
    name: str = field(default="", kw_only=True)

    def arguments(self, dtype: str, seed: int = 0) -> list[jax.Array]:
        """The arguments as arrays."""
        rng = np.random.default_rng(seed)
        makes = [a if callable(a) else normal(*a) for a in self.args]
        return [jnp.asarray(make(rng, jnp.dtype(dtype))) for make in makes]


def normal(*shape: int) -> Make:
    """Normal random numbers."""
    return lambda rng, dtype: _random(rng.standard_normal, shape, dtype)


def uniform(low: float, high: float, *shape: int) -> Make:
    """Uniform random numbers, for complex dtypes in both parts."""
    return lambda rng, dtype: _random(lambda s: rng.uniform(low, high, s), shape, dtype)


def ties(*shape: int) -> Make:
    """Small integers as floating numbers: many are equal, some are zero."""
    return lambda rng, dtype: _random(lambda s: rng.integers(-2, 3, s), shape, dtype)


def values(*entries: Any) -> Make:
    """These numbers, in the test's dtype."""
    return lambda rng, dtype: np.array(entries).astype(dtype)


def number(value: Any) -> Make:
    """This number, in the test's dtype."""
    return lambda rng, dtype: np.asarray(value).astype(dtype)


def fixed(array: Any) -> Make:
    """This array, whatever the test's dtype: an index, a predicate."""
    return lambda rng, dtype: np.asarray(array)


def real(make: Make) -> Make:
    """In the real dtype of the test's dtype's precision."""
    return lambda rng, dtype: make(rng, jnp.finfo(dtype).dtype)


def _random(draw: Callable, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    numbers = draw(shape)
    if jnp.issubdtype(dtype, np.complexfloating):
        numbers = numbers + 1j * draw(shape)
    return np.asarray(numbers).astype(dtype)


def by_primitive(cases: Iterable[Case], dtypes: Sequence[str] = NUMBERS) -> Any:
    """Parametrize a test with each primitive, dtype and the cases of both."""
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        for dtype in case.dtypes:
            groups.setdefault((case.primitive.name, dtype), []).append(case)
    return pytest.mark.parametrize(
        ("group", "dtype"),
        [
            pytest.param(group, dtype, id=f"{name}-{dtype}")
            for (name, dtype), group in groups.items()
            if dtype in dtypes
        ],
    )


def precision(dtype: str) -> Any:
    """Where arrays of this dtype can be made."""
    return jax.enable_x64(True) if dtype in ("float64", "complex128") else nullcontext()


def check_covers(rules: Rules, cases: Iterable[Case]) -> None:
    """Every rule has a case, and every case's program contains the primitive that it tests."""
    assert {str(q) for q in rules} == {str(case.primitive) for case in cases}
    for case in cases:
        with precision(case.dtypes[0]):
            used = {eqn.primitive for eqn in staged(case.fun, *case.arguments(case.dtypes[0]))}
        assert case.primitive in used, f"{case.primitive} {case.name}: {used}"


def check_first_order(group: Sequence[Case], dtype: str) -> None:
    """The value and every cotangent, for a random cotangent of the output, are JAX's."""
    _check(group, dtype, _first_order)


def first_order_distances(group: Sequence[Case], dtype: str) -> list[float]:
    """Of each case, the largest difference from JAX's, as a multiple of its tolerance."""
    with precision(dtype):
        inputs = [case.arguments(dtype) for case in group]

        def run(inputs: list) -> list:
            return [_first_order(case, args, []) for case, args in zip(group, inputs, strict=True)]

        found = jax.jit(run)(inputs)
        return [_multiple(case, results) for case, results in zip(group, found, strict=True)]


def _multiple(case: Case, results: dict[str, tuple[Any, Any]]) -> float:
    distance = ulps_per_element if case.per_element else ulps
    pairs = (zip(*map(jax.tree.leaves, pair), strict=True) for pair in results.values())
    return max((distance(a, b) for pair in pairs for a, b in pair), default=0.0) / case.tolerance


def check_composed(group: Sequence[Case], dtype: str) -> None:
    """So are fbp under vmap, fbp of fbp, fbp of JAX, JAX of fbp, and forward over reverse."""
    _check([case for case in group if case.composed], dtype, _composed, slack=8)


def check_eagerly(group: Sequence[Case], dtype: str) -> None:
    """So is what each equation gives when it runs alone, without a compiler to improve it."""
    _check(group, dtype, _first_order, jit=False)


def _check(
    group: Sequence[Case], dtype: str, results: Callable, slack: float = 1, jit: bool = True
) -> None:
    with precision(dtype):
        inputs = [[case.arguments(dtype, seed) for seed in (0, 1)] for case in group]

        def run(inputs: list) -> list:
            return [results(case, *args) for case, args in zip(group, inputs, strict=True)]

        run = jax.jit(run, compiler_options=QUICK) if jit else run
        for case, pairs in zip(group, run(inputs), strict=True):
            for what, (got, want) in pairs.items():
                _compare(case, f"{case.primitive} {case.name} {what}", got, want, slack)


def _compare(case: Case, where: str, got: Any, want: Any, slack: float) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(want), where
    distance = ulps_per_element if case.per_element and slack == 1 else ulps
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), where
        if not jnp.issubdtype(b.dtype, np.inexact):
            np.testing.assert_array_equal(a, b, err_msg=where)
            continue
        assert distance(a, b) <= case.tolerance * slack, f"{where}: {distance(a, b)}\n{a}\n{b}"


def ulps_per_element(got: Any, want: Any) -> float:
    """The largest difference of two arrays, in units in the last place of each element."""
    return max(map(ulps, np.ravel(got), np.ravel(want)), default=0.0)


def _first_order(case: Case, args: list, _: list) -> dict[str, tuple[Any, Any]]:
    fun, floats = _of_floats(case.fun, args)
    cts = _cotangents(fun, *floats)
    mine, jaxs = (_value_and_cotangents(library, fun, cts)(*floats) for library in (fbp, jax))
    return {"value": (mine[0], jaxs[0]), "cotangents": (mine[1], jaxs[1])}


def _composed(case: Case, args: list, others: list) -> dict[str, tuple[Any, Any]]:
    fun, floats = _of_floats(case.fun, args)
    cts = _cotangents(fun, *floats)
    mine, jaxs = (_cotangents_of(library, fun, cts) for library in (fbp, jax))
    tangents = tuple(_cotangents(lambda *floats: floats, *floats))
    outer = _cotangents(jaxs, *floats)

    def mapped(library: Any) -> Any:
        def one(*args):
            fun, floats = _of_floats(case.fun, args)
            return _cotangents_of(library, fun, cts)(*floats)

        return jax.vmap(one)(*(jnp.stack(pair) for pair in zip(args, others, strict=True)))

    want = _cotangents_of(jax, jaxs, outer)(*floats)
    return {
        "vmap(fbp)": (mapped(fbp), mapped(jax)),
        "fbp(fbp)": (_cotangents_of(fbp, mine, outer)(*floats), want),
        "fbp(jax)": (_cotangents_of(fbp, jaxs, outer)(*floats), want),
        "jax(fbp)": (_cotangents_of(jax, mine, outer)(*floats), want),
        "jvp(fbp)": (jax.jvp(mine, floats, tangents)[1], jax.jvp(jaxs, floats, tangents)[1]),
    }


def _of_floats(fun: Callable, args: Sequence[Any]) -> tuple[Callable, tuple]:
    """The function of its differentiable arguments, and these."""
    inexact = [jnp.issubdtype(a.dtype, np.inexact) for a in args]

    def of_floats(*floats):
        given = iter(floats)
        return fun(*(next(given) if f else a for f, a in zip(inexact, args, strict=True)))

    return of_floats, tuple(a for f, a in zip(inexact, args, strict=True) if f)


def _value_and_cotangents(library: Any, fun: Callable, cts: Any) -> Callable:
    def run(*floats):
        out, pullback = library.vjp(fun, *floats)
        return out, pullback(cts)

    return run


def _cotangents_of(library: Any, fun: Callable, cts: Any) -> Callable:
    return lambda *floats: _value_and_cotangents(library, fun, cts)(*floats)[1]


def _cotangents(fun: Callable, *args: Any) -> Any:
    """Random cotangents for the outputs of a function, float0 for integers."""
    rng = np.random.default_rng(7)

    def make(out: Any) -> Any:
        if jnp.issubdtype(out.dtype, np.inexact):
            return jnp.asarray(normal(*out.shape)(rng, out.dtype))
        return np.zeros(out.shape, jax.dtypes.float0)

    return jax.tree.map(make, jax.eval_shape(fun, *args))
