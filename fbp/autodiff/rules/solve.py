"""Solutions of linear equations, linear in the right side.  A X = B, with ct the cotangent of X:

ct_B = A^-T ct        ct_A = -ct_B X^T
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.avals import zeros
from fbp.autodiff.backprop import forward
from fbp.autodiff.graph import JaxprEqn
from fbp.autodiff.interpret import apply_primitive
from fbp.autodiff.rule import Applied, Call, Cotangents, Rules, call, vjp_jointly
from fbp.autodiff.rules import matrices
from fbp.autodiff.rules.matrices import conj, matmul, transposed


def triangular_solve(
    cts: Cotangents,
    outs: Sequence[Any],
    ins: Sequence[Any],
    needs_ct: Sequence[bool],
    **params: Any,
) -> Cotangents:
    """Pull back A X = B, or X A = B, where A, A^T, conj(A) or A^H is a triangle of the operand."""
    (ct,), (x,), (a, _) = cts, outs, ins
    back = params | {"transpose_a": not params["transpose_a"]}
    ct_b = p.triangular_solve_p.bind(a, ct, **back)
    return [
        triangle_cotangent(ct_b, x, **params) if needs_ct[0] else None,
        ct_b if needs_ct[1] else None,
    ]


def triangle_cotangent(
    ct_b: Any,
    x: Any,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> Any:
    """Return ct_A = -ct_B X^T, or -X^T ct_B on the right, for the triangle that was read."""
    product = matmul(ct_b, transposed(x)) if left_side else matmul(transposed(x), ct_b)
    product = lax.neg(transposed(product) if transpose_a else product)
    part = matrices.lower if lower else matrices.upper
    return part(conj(product) if conjugate_a else product, int(unit_diagonal))


def tridiagonal_solve(
    cts: Cotangents,
    outs: Sequence[Any],
    ins: Sequence[Any],
    needs_ct: Sequence[bool],
    **params: Any,
) -> Cotangents:
    """Pull back A X = B, where row i of A is l_i, d_i, u_i at columns i - 1, i, i + 1."""
    (ct,), (x,), (below, diagonal, above, _) = cts, outs, ins
    ct_b = p.tridiagonal_solve_p.bind(shifted(above, 1), diagonal, shifted(below, -1), ct, **params)

    def from_row(by):
        x_shifted = shifted(x, by, axis=x.ndim - 2) if by else x
        return lax.neg(lax.reduce_sum(lax.mul(ct_b, x_shifted), axes=[ct_b.ndim - 1]))

    diagonals = [
        from_row(by) if want else None for by, want in zip((1, 0, -1), needs_ct, strict=False)
    ]
    return [*diagonals, ct_b if needs_ct[3] else None]


def shifted(x: Any, by: int, axis: int = -1) -> Any:
    """Shift x along an axis by one, and fill with zero."""
    config = [(0, 0, 0)] * x.ndim
    config[axis] = (by, -by, 0)
    return lax.pad(x, np.zeros((), x.dtype), config)


def linear_solve(call: Call, ins: list[Any]) -> Applied:
    """Pull back A X = B, where A is a program (matvec), and so are the two solvers.

    The cotangents of A's constants are those of the program A x, from -ct_B.

    Raises:
      TypeError: the equations have no solver of the transposed ones, A^T X = B.
    """
    equations = LinearEquations(call, ins)
    outs = apply_primitive(call.eqn, ins)
    return outs, lambda cts: equations.cotangents(outs, cts)


class LinearEquations:
    """The operands of a linear solve: the constants of each of its programs, and the right side."""

    def __init__(self, call: Call, ins: list[Any]):
        self.call = call
        self.programs, self.counts = call.params["jaxprs"], call.params["const_lengths"]
        operands = iter(ins)
        self.consts = [[next(operands) for _ in range(n)] for n in self.counts]
        self.b = list(operands)

    def transposed(self, ct: list[Any]) -> list[Any]:
        """Return A^-T ct."""
        if self.programs.transpose_solve is None:
            raise TypeError(
                "transpose_solve required for backwards mode automatic differentiation of "
                f"custom_linear_solve, used at {g.location(self.call.eqn)}: pass it, or "
                "symmetric=True."
            )
        matvec, vecmat, solve, transpose_solve = self.consts
        solution = p.linear_solve_p.bind(
            *(*vecmat, *matvec, *transpose_solve, *solve, *ct),
            const_lengths=self.counts.transpose(),
            jaxprs=self.programs.transpose(),
        )
        return solution[: len(self.b)]

    def cotangents(self, outs: list[Any], cts: Cotangents) -> Cotangents:
        """Return the cotangents of all operands."""
        x, ct = outs[: len(self.b)], cts[: len(self.b)]
        ct_b = self.transposed([zeros(y) if c is None else c for c, y in zip(ct, x, strict=True)])
        num_a = self.counts.matvec
        needs_ct = [*self.call.needs_ct[:num_a], *(False for _ in x)]
        in_cts: Cotangents = [None] * sum(self.counts)
        if any(needs_ct):
            matvec = g.from_jaxpr(self.programs.matvec)
            has_out_ct = [True for _ in x]
            _, pullback = forward(self.call.rules, matvec, self.consts[0] + x, needs_ct, has_out_ct)
            in_cts[:num_a] = pullback([lax.neg(c) for c in ct_b])[:num_a]
        return in_cts + ct_b


def solve_activity(eqn: JaxprEqn, _: Rules, needs_ct: tuple[bool, ...]) -> list[bool]:
    """Mark the solution if it depends on the right side or on A's constants; other results of the
    solver have no derivative."""
    counts = eqn.params["const_lengths"]
    num_b = len(eqn.invars) - sum(counts)
    depends = any(needs_ct[: counts.matvec]) or any(needs_ct[sum(counts) :])
    return [depends and i < num_b for i, _ in enumerate(eqn.outvars)]


RULES = Rules(
    vjp_jointly(p.triangular_solve_p, triangular_solve),
    vjp_jointly(p.tridiagonal_solve_p, tridiagonal_solve),
    call(p.linear_solve_p, linear_solve, solve_activity),
).tag(
    "singular",
    analytic="triangular_solve",
)
