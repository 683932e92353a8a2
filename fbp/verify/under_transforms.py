"""The gradient under transformations: vmap, scan, a second differentiation."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fbp.verify.problem import Arrays, Problem
from fbp.verify.reference import Reference, as_double, compared, eps_of
from fbp.verify.report import Finding, Kind, LeafVerdict

DIFFERENTIATION = "a second differentiation"
SECOND = 1e3
"""How many times the bar of a gradient that of its derivative is: both as shares of the largest
entry, and in float64, where a wrong derivative is wrong by millions of bars."""
OTHER = 0.75
"""The second point of a batch, as a multiple of the first."""


def disagreements(
    problem: Problem, gradient: Callable, got: Sequence[Any], reference: Reference
) -> Iterator[tuple[str, Callable[[], list[Finding]]]]:
    """The names of the transformations, and for each what finds what changes under it.

    Over two points they must give what the gradient gives at each, `got` at the first.
    """
    first = problem.leaves
    second = [(x * OTHER).astype(x.dtype) for x in first]
    arrays = list(problem.arrays)
    batch = [jnp.stack(pair) for pair in zip(first, second, strict=True)]
    at_second = functools.cache(lambda: jax.jit(gradient)(second, arrays))

    def under(name: str, batched: Callable) -> list[Finding]:
        plain = f"that without {name}"
        rows = jax.jit(lambda batch: batched(gradient, batch, arrays))(batch)
        verdicts = [
            compared(leaf, x[i], as_double(y), _bar(reference, place, x), eps_of(x), plain)
            for i, want in enumerate((got, at_second()))
            for place, (leaf, x, y) in enumerate(zip(problem.names, rows, want, strict=True))
        ]
        return [_changed(name, v) for v in verdicts if not v.ok][:1]

    for name, batched in (("vmap", _under_vmap), ("scan", _in_scan)):
        yield name, functools.partial(under, name, batched)


def _bar(reference: Reference, place: int, x: Any) -> float:
    return reference.bar(place, max(eps_of(x), reference.eps[place]))


def _under_vmap(gradient: Callable, batch: Arrays, arrays: Arrays) -> Arrays:
    return jax.vmap(lambda leaves: gradient(leaves, arrays))(batch)


def _in_scan(gradient: Callable, batch: Arrays, arrays: Arrays) -> Arrays:
    return lax.scan(lambda _, leaves: ((), gradient(leaves, arrays)), (), batch)[1]


def wrong_derivative(
    problem: Problem,
    got: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    reference: Reference,
    eps: float,
) -> list[Finding]:
    """Where the derivative of the gradient, in float64, differs from that of `jax.grad`.

    What rounding may do to it is taken from the gradient itself: as a share of the largest entry,
    some thousand times as much, since it is a derivative once more.
    """
    how = "the same derivative of jax.grad"
    verdicts = []
    for i, (leaf, x, want) in enumerate(zip(problem.names, got, expected, strict=True)):
        size = max(float(np.max(abs(reference.grads[i]), initial=0)), 1e-300)
        share = SECOND * max(reference.bar(i, eps) / size, eps)
        largest = max(float(np.max(abs(w), initial=0)) for w in expected)
        bar = share * largest
        verdicts.append(compared(leaf, x, want, bar, eps, how))
    return [_changed(DIFFERENTIATION, v) for v in verdicts if not v.ok][:1]


def _changed(name: str, verdict: LeafVerdict) -> Finding:
    message = f"under {name} the gradient differs from {verdict.reference}."
    return verdict.finding(Kind.TRANSFORM, message)
