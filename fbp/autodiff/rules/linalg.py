"""Factorizations into triangles: Cholesky, LU, QR. Formulas are for gradients (see `matrices`)."""

from collections.abc import Sequence
from typing import Any

from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.rule import Rules, vjp_jointly
from fbp.autodiff.rules.matrices import (
    adjoint,
    columns,
    diagonal_matrix,
    general_solve,
    gradients,
    halved,
    hermitian,
    lower,
    matmul,
    plus,
    rows,
    solve,
    transposed,
    triangle_gradient,
    unpermuted,
    upper,
)

Gradients = Sequence[Any]


@gradients
def cholesky(grads: Gradients, outs: Sequence[Any], _: Any) -> Any:
    """Pull back A = L L^H:  A' = Φ(L^-H (P + P^H) L^-1),  P = Φ(L^H L')  (Murray 2016).

    A is read from its lower triangle, and so is its gradient; JAX 0.10 spreads it over both.
    """
    (factor_grad,), factor = grads, lower(outs[0])
    inner = halved(matmul(adjoint(factor), factor_grad))
    inner = solve(factor, inner, lower=True, adjoint=True)
    outer = solve(factor, inner, lower=True, right=True)
    return triangle_gradient(outer, lower=True)


@gradients
def lu(grads: Gradients, outs: Sequence[Any], a: Any) -> Any:
    """Pull back P A = L U, packed:  (P A)' = L^-H (tril(L^H L', -1) + triu(U' U^H)) U^-H.

    The further part of a matrix that is not square is A2 = L2 U or L U2 (de Hoog et al. 2011).
    """
    packed, _, permutation = outs
    m, n = a.shape[-2:]
    k = min(m, n)

    def over_upper(x):
        return solve(right, x, lower=False, right=True, adjoint=True)

    def under_lower(x):
        return solve(left, x, lower=True, unit=True, adjoint=True)

    square = columns(rows(packed, 0, k), 0, k)
    left, right = lower(square, 1), upper(square)
    lower_grad = upper_grad = columns(rows(grads[0], 0, k), 0, k)
    if m > n:
        rest = over_upper(rows(grads[0], k, m))
        upper_grad = lax.sub(upper_grad, matmul(adjoint(rows(packed, k, m)), rest))
    if m < n:
        rest = under_lower(columns(grads[0], k, n))
        lower_grad = lax.sub(lower_grad, matmul(rest, adjoint(columns(packed, k, n))))

    below = lower(lax.add(lower_grad, matmul(adjoint(left), lower_grad)), 1)
    above = upper(matmul(upper_grad, adjoint(right)))
    total = over_upper(under_lower(lax.add(below, above)))
    if m != n:
        total = lax.concatenate([total, rest], a.ndim - 2 if m > n else a.ndim - 1)
    return unpermuted(total, permutation)


@gradients
def qr(grads: Gradients, outs: Sequence[Any], a: Any, *, pivoting: bool) -> Any:
    """Pull back A = Q R:  A' = (Q' + Q M) R^-H,  M = hermitian(R R'^H - Q'^H Q).

    Walter et al. 2012. The further columns of a wide matrix are A2 = Q R2; those of a full Q follow
    from its first ones. With pivoting, A's columns are permuted.
    """
    q, r, *permutation = outs
    q_grad, r_grad = grads[:2]
    m, n = a.shape[-2:]
    k = min(m, n)
    if q.shape[-1] > k:
        q_grad = None if q_grad is None else completed(q_grad, q, k)
        r_grad = None if r_grad is None else rows(r_grad, 0, k)
        q, r = columns(q, 0, k), rows(r, 0, k)
    r_grad = lax.full_like(r, 0) if r_grad is None else r_grad

    square, rest = columns(r, 0, k), columns(r, k, n)
    inner = matmul(square, adjoint(columns(r_grad, 0, k)))
    if m < n:
        q_grad = plus(q_grad, matmul(q, matmul(rest, adjoint(columns(r_grad, k, n)))))
    if q_grad is not None:
        inner = lax.sub(inner, matmul(adjoint(q_grad), q))
    a_grad = plus(q_grad, matmul(q, hermitian(inner)))
    a_grad = solve(square, a_grad, lower=False, right=True, adjoint=True)
    if m < n:
        a_grad = lax.concatenate([a_grad, matmul(q, columns(r_grad, k, n))], a.ndim - 1)
    return transposed(unpermuted(transposed(a_grad), *permutation)) if pivoting else a_grad


def completed(q_grad: Any, q: Any, k: int) -> Any:
    """Return the gradient of the first k columns Q1 of a full Q = [Q1 Q2] = I - V T V^H.

    V = [V1 V2] by rows, and T, determine Q2 = [0 I] + (Q1 - [I 0]) Z^H with Z = V2 V1^-1, that is,
    (Q1 - [I 0])'s lower rows over its upper ones  (Roberts and Roberts 2020, for full matrices
    Schreiber and Van Loan 1989).
    """
    m = q.shape[-2]
    q1, q2 = columns(q, 0, k), columns(q, k, m)
    q2_grad = columns(q_grad, k, m)
    identity = diagonal_matrix(lax.full((*q.shape[:-2], k), 1, q.dtype))
    top = lax.sub(rows(q1, 0, k), identity)
    z = adjoint(general_solve(top, adjoint(rows(q1, k, m)), is_adjoint=True))
    less = matmul(adjoint(q2_grad), lax.add(q1, matmul(q2, z)))
    through_z = lax.concatenate([matmul(adjoint(z), less), lax.neg(less)], q.ndim - 2)
    direct = lax.add(columns(q_grad, 0, k), matmul(q2_grad, z))
    return lax.add(direct, through_z)


RULES = Rules(
    vjp_jointly(p.cholesky_p, cholesky),
    vjp_jointly(p.lu_p, lu),
    vjp_jointly(p.qr_p, qr),
).tag(
    "singular",
    analytic="lu",
    symmetric="cholesky",
)
