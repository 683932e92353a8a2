"""The gradient under transformations: vmap, scan, a second differentiation."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fbp.autodiff.avals import is_inexact
from fbp.verify.problem import Arrays, CheckedFunction
from fbp.verify.reference import Reference, as_double, compared, eps_of, largest
from fbp.verify.report import Finding, Kind, LeafVerdict

DIFFERENTIATION = "a second differentiation"
SECOND = 1e3
"""How many times the bar of a gradient that of its derivative is: both as shares of the largest
entry, and in float64, where a wrong derivative is wrong by millions of bars."""
OTHER = 0.75
"""The second point of a batch, as a multiple of the first."""


def disagreements(
    problem: CheckedFunction, gradient: Callable, got: Sequence[Any], reference: Reference
) -> Iterator[tuple[str, Callable[[], list[Finding]]]]:
    """Yield the names of the transformations, and for each what finds what changes under it.

    Over two points they must give what the gradient gives at each, `got` at the first. The points
    differ in what is differentiated, or in all else.
    """
    leaves, arrays = problem.point
    others = [i for i in range(len(arrays)) if i not in problem.positions]
    points = {
        "leaves": ([_second(x) for x in leaves], arrays),
        "others": (leaves, [_second(x) if i in others else x for i, x in enumerate(arrays)]),
    }
    at_second = functools.cache(lambda which: jax.jit(gradient)(*points[which]))

    def under(name: str, which: str, batched: Callable) -> list[Finding]:
        plain = f"that without {name}"
        rows = jax.jit(lambda second: batched(gradient, problem, second))(points[which])
        verdicts = [
            compared(leaf, x[i], as_double(y), _bar(reference, number, x), eps_of(x), plain)
            for i, want in enumerate((got, at_second(which)))
            for number, (leaf, x, y) in enumerate(zip(problem.names, rows, want, strict=True))
        ]
        return [_changed(name, v) for v in verdicts if not v.ok][:1]

    yield "vmap", functools.partial(under, "vmap", "leaves", _under_vmap)
    if others:
        name = "vmap over what is not differentiated"
        yield name, functools.partial(under, name, "others", _others_under_vmap)
    yield "scan", functools.partial(under, "scan", "leaves", _in_scan)


def _second(x: Any) -> Any:
    """Return an array at the second point: whole numbers and keys are the same there."""
    return (x * OTHER).astype(x.dtype) if is_inexact(jax.typeof(x).dtype) else x


def _bar(reference: Reference, number: int, x: Any) -> float:
    return reference.bar(number, max(eps_of(x), reference.eps[number]))


Second = tuple[Arrays, Arrays]


def _under_vmap(gradient: Callable, problem: CheckedFunction, second: Second) -> Arrays:
    arrays = list(problem.arrays)
    batch = [jnp.stack(pair) for pair in zip(problem.leaves, second[0], strict=True)]
    return jax.vmap(lambda leaves: gradient(leaves, arrays))(batch)


def _others_under_vmap(gradient: Callable, problem: CheckedFunction, second: Second) -> Arrays:
    batched = [None if i in problem.positions else 0 for i in range(len(problem.arrays))]
    batch = [
        x if axis is None else jnp.stack([jnp.asarray(x), jnp.asarray(y)])
        for x, y, axis in zip(problem.arrays, second[1], batched, strict=True)
    ]
    rows = jax.vmap(lambda arrays: gradient(problem.leaves, arrays), in_axes=(batched,))(batch)
    return list(rows)


def _in_scan(gradient: Callable, problem: CheckedFunction, second: Second) -> Arrays:
    arrays = list(problem.arrays)
    batch = [jnp.stack(pair) for pair in zip(problem.leaves, second[0], strict=True)]
    return lax.scan(lambda _, leaves: ((), gradient(leaves, arrays)), (), batch)[1]


def wrong_derivative(
    problem: CheckedFunction,
    got: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    reference: Reference,
    eps: float,
) -> list[Finding]:
    """Return where the derivative of the gradient, in float64, differs from that of `jax.grad`.

    What rounding may do to it is taken from the gradient itself: as a share of the largest entry,
    some thousand times as much, since it is a derivative once more.
    """
    how = "the same derivative of jax.grad"
    verdicts = []
    for i, (leaf, x, want) in enumerate(zip(problem.names, got, expected, strict=True)):
        size = max(largest(reference.grads[i]), 1e-300)
        share = SECOND * max(reference.bar(i, eps) / size, eps)
        bar = share * max(map(largest, expected))
        verdicts.append(compared(leaf, x, want, bar, eps, how))
    return [_changed(DIFFERENTIATION, v) for v in verdicts if not v.ok][:1]


def _changed(name: str, verdict: LeafVerdict) -> Finding:
    message = f"under {name} the gradient differs from {verdict.reference}."
    return verdict.finding(Kind.TRANSFORM, message)
