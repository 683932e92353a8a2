"""The derivative of a function with a custom rule as if it had none, in any precision."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

import fbp.autodiff
from fbp.autodiff import avals, interpret
from fbp.autodiff.graph import Graph
from fbp.autodiff.masks import select
from fbp.verify.kernels import without_kernels
from fbp.verify.observe import sites
from fbp.verify.precision import DOUBLE, Precision, evaluate_in
from fbp.verify.rule_use import RuleUse, judged_operands, substituted

EPS = float(jnp.finfo(jnp.float64).eps)

Derivative = Callable[[Any, Sequence[Any], Sequence[Any]], list[Any]]
"""`derivative(precision, operands, cotangents)`: the cotangents of the compared operands."""


def plain_derivative(
    use: RuleUse, ins: Sequence[Any], cts: Sequence[Any]
) -> tuple[Derivative | None, str]:
    """Return the derivative of the function without its rule, or None and the reason.

    It is JAX's, or fbp's where JAX has none, as that of a while_loop. A kernel is differentiated
    as the program that its interpreter runs.
    """
    body = without_kernels(use.body)
    reason = ""
    for grad in (jax.grad, fbp.autodiff.grad):
        derivative = _by(grad, use, body)
        try:
            jax.eval_shape(lambda ins, cts, d=derivative: d(DOUBLE, ins, cts), ins, cts)
            return derivative, ""
        except Exception as error:  # whatever a program without a derivative raises
            reason = str(error).strip().split("\n")[0]
    return None, reason


def _by(grad: Callable, use: RuleUse, body: Graph) -> Derivative:
    def derivative(to: Any, ins: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        ins = [jnp.asarray(x if to is None else to.cast(x)) for x in ins]

        def pulled(xs: list[Any]) -> Any:
            changed = substituted(use, ins, xs)
            outs = (
                interpret.eval_graph(body, changed)
                if to is None
                else evaluate_in(to, body, changed)
            )
            return _dot(cts, select(use.arrived, outs))

        return grad(pulled)([ins[i] for i in judged_operands(use)])

    return derivative


def _dot(cts: Sequence[Any], outs: Sequence[Any]) -> Any:
    total: Any = 0.0
    for ct, out in zip(cts, outs, strict=True):
        total = total + jnp.sum(jnp.real(ct.astype(out.dtype) * out))
    return total


def perturbed(ins: Sequence[Any], scale: Any) -> list[Any]:
    """Return the operands with relative errors of this size, in float64."""

    def one(i: int, x: Any) -> Any:
        aval = avals.struct(x)
        if not avals.differentiable(aval):
            return x
        noise = np.random.default_rng(i).uniform(-1, 1, aval.shape)
        return DOUBLE.cast(x) * (1 + scale * noise)

    return [one(i, x) for i, x in enumerate(ins)]


def moved(ins: Sequence[Any], share: Any) -> list[Any]:
    """Return the operands, each entry moved by this share of the operand's size, in float64."""

    def one(i: int, x: Any) -> Any:
        aval = avals.struct(x)
        if not avals.differentiable(aval) or not aval.size:
            return x
        wide = DOUBLE.cast(x)
        finite = jnp.where(jnp.isfinite(wide), abs(wide), 0.0)
        size = jnp.sqrt(jnp.mean(jnp.square(finite)))
        signs = np.random.default_rng(i).choice([-1.0, 1.0], aval.shape)
        return wide + share * jnp.where(size > 0, size, 1.0) * signs

    return [one(i, x) for i, x in enumerate(ins)]


def finest_eps(use: RuleUse) -> float:
    """Return the spacing at 1 of the finest dtype among operands and outputs."""
    values = [avals.struct(v) for v in (*use.eqn.invars, *use.eqn.outvars)]
    types = [a for a in values if avals.differentiable(a)]
    return min(float(jnp.finfo(a.dtype).eps) for a in types)


@dataclass(frozen=True)
class RoundedConstants(Precision):
    """Float64 in which the constants of a program, which its own dtype has rounded, are off by
    about as much: what that changes says how well the program defines its own numbers."""

    def cast(self, x: Any) -> Any:
        """Return a value in this precision."""
        value = DOUBLE.cast(x)
        if isinstance(x, np.ndarray) and x.ndim == 0 and is_rounded(x):
            return value * (1 + float(jnp.finfo(x.dtype).eps) / 2)
        return value


ROUNDED_CONSTANTS = RoundedConstants(np.float64, np.complex128, narrows=False)


def has_rounded_constants(graph: Graph) -> bool:
    """Return whether a narrower dtype than float64 may have rounded a constant of a program."""
    literals = (a for s in sites(graph) for a in s.eqn.invars if isinstance(a, Literal))
    return any(
        is_rounded(np.asarray(a.val, avals.struct(a).dtype))
        for a in literals
        if avals.differentiable(a.aval)
    )


def is_rounded(x: np.ndarray) -> bool:
    """Return whether a number has a long mantissa, unlike 0.5 or 3, and less than 53 bits."""
    if not avals.is_inexact(x.dtype) or float(jnp.finfo(x.dtype).eps) <= EPS:
        return False
    values = np.ravel(np.real(x).astype(np.float64))
    mantissas = np.frexp(values[np.isfinite(values)])[0] * 64
    return bool(np.any(mantissas != np.round(mantissas)))
