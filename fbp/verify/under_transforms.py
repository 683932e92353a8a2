"""The gradient under transformations beside the plain one: vmap, scan, a second derivative."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fbp.verify.problem import Arrays, Problem
from fbp.verify.reference import (
    UNKNOWN,
    Reference,
    compared,
    eps_of,
    gradient_in_double,
    of_two_precisions,
)
from fbp.verify.report import Finding, Kind, LeafVerdict

OTHER = 0.75
"""The second point of a batch, as a multiple of the first."""


def disagreements(
    problem: Problem, gradient: Callable, got: Sequence[Any], reference: Reference
) -> tuple[list[Finding], list[str]]:
    """What changes under a transformation, and the names of the transformations tried.

    vmap and scan over two points must give what the gradient gives at each, `got` at the first;
    the second derivative along a direction must be that of `jax.grad`.
    """
    first = problem.leaves
    second = [(x * OTHER).astype(x.dtype) for x in first]
    arrays = list(problem.arrays)
    points = [got, jax.jit(gradient)(second, arrays)]
    batch = [jnp.stack(pair) for pair in zip(first, second, strict=True)]

    findings = []
    for name, batched in (("vmap", _under_vmap), ("scan", _in_scan)):
        rows = jax.jit(lambda batch, f=batched: f(gradient, batch, arrays))(batch)
        verdicts = [
            v
            for i, want in enumerate(points)
            for v in _as_expected(
                problem, reference, [x[i] for x in rows], want, f"that without {name}"
            )
        ]
        findings += [_changed(name, v) for v in verdicts if not v.ok][:1]
    tried = ["vmap", "scan"]
    second_order = _second_order(problem, gradient)
    if second_order is not None:
        tried.append("a second differentiation")
        findings += [_changed(tried[-1], v) for v in second_order if not v.ok][:1]
    return findings, tried


def _under_vmap(gradient: Callable, batch: Arrays, arrays: Arrays) -> Arrays:
    return jax.vmap(lambda leaves: gradient(leaves, arrays))(batch)


def _in_scan(gradient: Callable, batch: Arrays, arrays: Arrays) -> Arrays:
    return lax.scan(lambda _, leaves: ((), gradient(leaves, arrays)), (), batch)[1]


def _as_expected(
    problem: Problem, reference: Reference, got: Sequence[Any], want: Sequence[Any], how: str
) -> list[LeafVerdict]:
    return [
        compared(leaf, x, np.asarray(y), reference.bar(i, eps_of(x)), eps_of(x), how)
        for i, (leaf, x, y) in enumerate(zip(problem.names, got, want, strict=True))
    ]


def _second_order(problem: Problem, gradient: Callable) -> list[LeafVerdict] | None:
    """The Hessian times a direction, by the gradient and by `jax.grad`; None where a gradient has
    no derivative itself."""

    def along(of: Callable) -> Callable:
        def projected(leaves: Arrays, arrays: Arrays) -> Any:
            pairs = zip(leaves, of(leaves, arrays), strict=True)
            return sum(jnp.real(jnp.sum(lax.stop_gradient(1 + x) * ct)) for x, ct in pairs)

        return jax.grad(projected)

    try:
        got = gradient_in_double(along(gradient), problem)
        reference = of_two_precisions(problem, along(jax.grad(problem.loss)), "")
    except UNKNOWN:
        return None
    how = "the same derivative of jax.grad"
    return _as_expected(problem, reference, got, reference.grads, how)


def _changed(name: str, verdict: LeafVerdict) -> Finding:
    message = f"under {name} the gradient differs from {verdict.reference}."
    return verdict.finding(Kind.TRANSFORM, message)
