"""A gradient beside slopes of the function, where no other gradient is there to compare with.

The slope along a direction d is the number <gradient, d>: `jax.jvp` knows it where it can
differentiate the function forward, and the function's values do in any case. Directions are unit
vectors, one per entry, for a small leaf and random ones for a large leaf, drawn by the name of the
leaf, so that another leaf beside it changes nothing.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.errors import InputError
from fbp.verify import oracle
from fbp.verify.complex_step import complex_step
from fbp.verify.finite_difference import few_values, slope
from fbp.verify.observe import calls_out, opaque, sites
from fbp.verify.precision import DOUBLE, in_precision
from fbp.verify.problem import CheckedFunction
from fbp.verify.reference import (
    EPS,
    MARGIN,
    UNKNOWN,
    as_double,
    eps_of,
    in_double,
    spacing,
    typical_size,
)
from fbp.verify.report import LeafVerdict

SMALL = 16
"""The largest leaf whose entries are tried one by one."""
RANDOM = 4
"""How many random directions a larger leaf gets."""


@dataclass(frozen=True)
class Along:
    """The slope along one direction of one leaf: its value, its bar, and how it was found."""

    value: float
    error: float
    how: str


def directions(name: str, leaf: Any) -> Iterator[tuple[tuple[int, ...] | None, np.ndarray]]:
    """Yield the directions of a leaf, each with the entry that it stands for, if it does for
    one."""
    if leaf.size <= SMALL:
        for index in np.ndindex(leaf.shape):
            unit = np.zeros(leaf.shape)
            unit[index] = 1
            yield index, unit
        return
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    for _ in range(RANDOM):
        yield None, rng.choice([-1, 1], leaf.shape) * rng.integers(4, 13, leaf.shape) / 8


def along_directions(problem: CheckedFunction, got: Sequence[Any]) -> list[LeafVerdict]:
    """Return, for each leaf, the direction along which the gradient differs most from the slope."""
    slope_of = _slopes(problem)
    verdicts = []
    for number, (name, x) in enumerate(zip(problem.names, got, strict=True)):
        tried = [
            _verdict(name, index, x, unit, slope_of(number, unit))
            for index, unit in directions(name, problem.leaves[number])
        ]
        verdicts.append(max(tried, key=lambda v: (not v.ok, v.max_ulps - v.bar_ulps)))
    return verdicts


def _verdict(
    name: str, index: tuple[int, ...] | None, got: Any, unit: np.ndarray, estimate: Along
) -> LeafVerdict:
    terms = np.real(as_double(got)) * unit
    eps = eps_of(got)
    size = float(np.sum(abs(terms)))
    projected = float(np.sum(terms))
    error = abs(projected - estimate.value)
    bar = estimate.error + MARGIN * eps * max(size, abs(estimate.value))
    ulp = spacing(max(size, abs(estimate.value)), eps)
    return LeafVerdict(
        leaf=name,
        ok=bool(error <= bar),
        max_ulps=error / ulp,
        bar_ulps=bar / ulp,
        index=index or (),
        expected=estimate.value,
        got=projected,
        reference=f"{estimate.how}, along a random direction" if index is None else estimate.how,
    )


def _slopes(problem: CheckedFunction) -> Callable[[int, np.ndarray], Along]:
    """Return the slope along a direction of a leaf, by the best means that the function allows."""
    try:
        return _by_jvp(problem)
    except UNKNOWN:
        pass
    _require_visible(problem)
    try:
        return _by_complex_step(problem)
    except UNKNOWN:
        return _by_values(problem)


def _require_visible(problem: CheckedFunction) -> None:
    """Raise InputError where the function stops a gradient, which its values do not show."""
    try:
        program, _ = g.stage(problem.loss, *problem.point)
    except UNKNOWN:
        return
    for site in sites(program):
        if site.eqn.primitive is p.stop_gradient_p:
            raise InputError(
                f"{problem.name}: JAX cannot differentiate the function, and its values see "
                f"through the stop_gradient at {site.source or 'a line of a library'}: check the "
                "function without it"
            )


def _by_jvp(problem: CheckedFunction) -> Callable[[int, np.ndarray], Along]:
    def derivative(leaves: list[Any], arrays: list[Any], moves: list[Any]) -> Any:
        return oracle.jvp(lambda leaves: problem.loss(leaves, arrays), (leaves,), (moves,))[1]

    single = jax.jit(derivative)
    double = jax.jit(in_precision(DOUBLE, derivative, *problem.point, problem.leaves))

    def along(number: int, unit: np.ndarray) -> Along:
        moves = [jnp.zeros_like(x) for x in problem.leaves]
        moves[number] = jnp.asarray(unit, moves[number].dtype)
        coarse = float(single(*problem.point, moves))
        with jax.enable_x64(True):
            near = float(double(*in_double(problem), [DOUBLE.cast(x) for x in moves]))
        return Along(near, MARGIN * abs(coarse - near), "jax.jvp in float64")

    along(0, np.zeros(problem.leaves[0].shape))
    return along


def _by_complex_step(problem: CheckedFunction) -> Callable[[int, np.ndarray], Along]:
    loss = in_precision(DOUBLE, problem.loss, *problem.point)
    with jax.enable_x64(True):
        leaves, arrays = in_double(problem)

    def along(number: int, unit: np.ndarray) -> Along:
        moves = [jnp.zeros_like(x) for x in leaves]
        moves[number] = jnp.asarray(unit)
        estimate = complex_step(lambda *xs: loss(list(xs), arrays), tuple(leaves), tuple(moves))
        if estimate.value is None:
            raise NotImplementedError(estimate.refused)
        error = MARGIN * float(np.finfo(np.float64).eps) * abs(estimate.value)
        return Along(estimate.value, error, "a complex step")

    along(0, np.zeros(leaves[0].shape))
    return along


def _by_values(problem: CheckedFunction) -> Callable[[int, np.ndarray], Along]:
    arrays = [np.asarray(x) if is_plain(x) else x for x in problem.arrays]
    leaves = [as_double(arrays[i]) for i in problem.positions]
    how, eps = _how_to_ask(problem)

    def along(number: int, unit: np.ndarray) -> Along:
        def at(t: float) -> float:
            moved = [*leaves[:number], leaves[number] + t * unit, *leaves[number + 1 :]]
            with jax.enable_x64(True):
                return float(problem.loss(moved, arrays))

        size = typical_size(leaves[number])
        estimate = how(lambda ts: np.array([at(t) for t in ts]), scale=size, eps=eps)
        return Along(estimate.value, estimate.error, "finite differences")

    return along


def _how_to_ask(problem: CheckedFunction) -> tuple[Callable[..., Any], float]:
    """Few values of a function that runs code of the host, many of others; and the relative
    precision of the values, which kernels and callbacks give in their own dtype."""
    try:
        graph, _ = g.stage(problem.loss, *problem.point)
    except Exception:  # a function that cannot be traced computes as it pleases
        return slope, EPS
    eps = max(eps_of(x) for x in problem.leaves) if opaque(graph) else EPS
    on_host = any(calls_out(site.eqn) for site in sites(graph))
    return (few_values if on_host else slope), eps


def is_plain(x: Any) -> bool:
    """Return whether numpy has an array's dtype: it has none for the keys of random numbers."""
    return not jnp.issubdtype(x.dtype, jax.dtypes.extended)
