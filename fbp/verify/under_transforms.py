"""The gradient under transformations: vmap, scan, a second differentiation."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fbp.verify.problem import Arrays, Problem
from fbp.verify.reference import Reference, as_double, compared, eps_of
from fbp.verify.report import Finding, Kind, LeafVerdict

DIFFERENTIATION = "a second differentiation"
OTHER = 0.75
"""The second point of a batch, as a multiple of the first."""


def disagreements(
    problem: Problem, gradient: Callable, got: Sequence[Any], reference: Reference
) -> tuple[list[Finding], list[str]]:
    """What changes under a transformation, and the names of the transformations tried.

    Over two points they must give what the gradient gives at each, `got` at the first.
    """
    first = problem.leaves
    second = [(x * OTHER).astype(x.dtype) for x in first]
    arrays = list(problem.arrays)
    points = [got, jax.jit(gradient)(second, arrays)]
    batch = [jnp.stack(pair) for pair in zip(first, second, strict=True)]

    findings = []
    for name, batched in (("vmap", _under_vmap), ("scan", _in_scan)):
        plain = f"that without {name}"
        rows = jax.jit(lambda batch, f=batched: f(gradient, batch, arrays))(batch)
        verdicts = [
            compared(leaf, x[i], as_double(y), reference.bar(place, eps_of(x)), eps_of(x), plain)
            for i, want in enumerate(points)
            for place, (leaf, x, y) in enumerate(zip(problem.names, rows, want, strict=True))
        ]
        findings += [_changed(name, v) for v in verdicts if not v.ok][:1]
    return findings, ["vmap", "scan"]


def _under_vmap(gradient: Callable, batch: Arrays, arrays: Arrays) -> Arrays:
    return jax.vmap(lambda leaves: gradient(leaves, arrays))(batch)


def _in_scan(gradient: Callable, batch: Arrays, arrays: Arrays) -> Arrays:
    return lax.scan(lambda _, leaves: ((), gradient(leaves, arrays)), (), batch)[1]


def wrong_derivative(
    problem: Problem, got: Sequence[np.ndarray], reference: Reference, eps: float
) -> list[Finding]:
    """Where the derivative of the gradient, in float64, differs from that of `jax.grad`."""
    how = "the same derivative of jax.grad"
    verdicts = [
        compared(leaf, x, want, reference.bar(i, eps), eps, how)
        for i, (leaf, x, want) in enumerate(zip(problem.names, got, reference.grads, strict=True))
    ]
    return [_changed(DIFFERENTIATION, v) for v in verdicts if not v.ok][:1]


def _changed(name: str, verdict: LeafVerdict) -> Finding:
    message = f"under {name} the gradient differs from {verdict.reference}."
    return verdict.finding(Kind.TRANSFORM, message)
