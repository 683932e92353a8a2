"""Eigenvalues and singular values, with their vectors. Formulas are for gradients (see `matrices`).

A vector's phase is taken not to turn unless it is fixed otherwise (`eig`), as in JAX. Vectors of
equal eigenvalues or singular values have no derivative; `ties` has what a differentiable function
of them needs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.avals import as_dtype, is_complex
from fbp.autodiff.interpret import apply_primitive
from fbp.autodiff.rule import Applied, Call, Rules, call, vjp_jointly
from fbp.autodiff.rules.matrices import (
    adjoint,
    along_rows,
    columns,
    conj,
    diagonal,
    diagonal_matrix,
    general_solve,
    gradients,
    matmul,
    plus,
    scale_columns,
    transposed,
    triangle_gradient,
)
from fbp.autodiff.rules.ties import column_ties, quotient, vector_ties

Gradients = Sequence[Any]


def differences(w: Any) -> Any:
    """Return w_j - w_i at row i and column j."""
    return lax.sub(along_rows(w), transposed(along_rows(w)))


def check_complete(complete: bool, vectors: str, subset_by_index: Any) -> None:
    """Raise NotImplementedError if some vectors, on which the derivative depends, are missing."""
    if not complete:
        raise NotImplementedError(
            f"the {vectors} of {subset_by_index=} have no derivative, because it depends on the "
            f"other {vectors}, which are not computed: compute all of them."
        )


@gradients
def eigh(
    grads: Gradients, outs: Sequence[Any], a: Any, *, lower: bool, subset_by_index: Any
) -> Any:
    """Pull back A V = V diag(w):  A' = V (diag(w') + F * K) V^H,  F_ij = 1 / (w_j - w_i),  K the
    skew-Hermitian part of V^H V'  (Giles 2008; its other part ends in no Hermitian matrix).

    A is read from one triangle, and so is its gradient. Raises NotImplementedError for the
    vectors of some of the eigenvalues: their derivatives need the other vectors.
    """
    v, w = outs
    v_grad, w_grad = grads
    inner = None if w_grad is None else as_dtype(diagonal_matrix(w_grad), a.dtype)
    if v_grad is not None:
        check_complete(v.shape[-1] == v.shape[-2], "eigenvectors", subset_by_index)
        g, n = matmul(adjoint(v), v_grad), a.shape[-1]
        skew = skew_hermitian(g)
        (tied,) = vector_ties([skew], [g], [v_grad], w_grad, n)
        inner = plus(inner, quotient(skew, differences(w), w, n, tied))
    return triangle_gradient(matmul(matmul(v, inner), adjoint(v)), lower)


def eig(call: Call, ins: list[Any]) -> Applied:
    """Pull back A V = V diag(w), also U with A^H U = U diag(w)^H. The derivative needs V in any
    case."""
    (a,), params = ins, call.params
    has_left, has_right = (params[f"compute_{s}_eigenvectors"] for s in ("left", "right"))
    out = p.eig_p.bind(a, **params | {"compute_right_eigenvectors": True})

    def pull(cts):
        w_grad, *vectors = map(conj, cts)
        right = vectors.pop() if has_right else None
        left = vectors.pop() if has_left else None
        a_grad = None
        if w_grad is not None or right is not None:
            a_grad = eigenvector_gradient(w_grad, right, out[0], out[-1])
        if left is not None:
            a_grad = plus(a_grad, adjoint(eigenvector_gradient(None, left, conj(out[0]), out[1])))
        return [as_dtype(conj(a_grad), a.dtype)]

    return list(out) if has_right else list(out[:-1]), pull


def eigenvector_gradient(w_grad: Any, v_grad: Any, w: Any, v: Any) -> Any:
    """Pull back A V = V diag(w):  A' = V^-H (diag(w') + conj(F) * V^H V'') V^H,  F as in `eigh`.

    LAPACK makes each vector's norm 1 and its largest entry real, which fixes the vector's
    multiple: V'' is V' without what would change the norm or turn that entry,
    v'' = v' - Re(v^H v') v - i Im(v^H v') e_k / v_k  for v_k the largest. Not defined where two
    eigenvalues, or two largest entries, are equal.
    """
    inner = None if w_grad is None else diagonal_matrix(w_grad)
    if v_grad is not None:
        along = lax.reduce_sum(lax.mul(conj(v), v_grad), axes=[v.ndim - 2])
        stretch, phase = lax.real(along), lax.imag(along)
        largest = lax.argmax(lax.abs(v), v.ndim - 2, np.int32)
        at = lax.broadcast_in_dim(largest, v.shape, (*range(v.ndim - 2), v.ndim - 1))
        is_largest = lax.eq(lax.broadcasted_iota(np.int32, v.shape, v.ndim - 2), at)
        zero = lax.full_like(lax.real(v), 0)
        entry = lax.reduce_sum(lax.select(is_largest, lax.real(v), zero), axes=[v.ndim - 2])
        phases = lax.broadcast_in_dim(
            lax.div(phase, entry), v.shape, (*range(v.ndim - 2), v.ndim - 1)
        )
        turned = lax.complex(zero, lax.select(is_largest, phases, zero))
        fixed = lax.sub(lax.sub(v_grad, scale_columns(v, stretch)), turned)
        g, n = matmul(adjoint(v), fixed), v.shape[-1]
        used = lax.full_like(w, 0) if w_grad is None else w_grad
        (tied,) = vector_ties([g], [g], [fixed], used, n)
        tied = tied._replace(zero=tied.unused)  # G_ij = 0 says nothing, unless V is unitary
        inner = plus(inner, quotient(g, conj(differences(w)), w, n, tied))
    return general_solve(v, matmul(inner, adjoint(v)), is_adjoint=True)


def svd(call: Call, ins: list[Any]) -> Applied:
    """Pull back A = U diag(s) V^H. The derivative of s alone needs U and V as well.

    Raises NotImplementedError for the vectors of some of the singular values.
    """
    (a,), params = ins, call.params
    if params["compute_uv"]:
        complete = params["subset_by_index"] in (None, (0, min(a.shape[-2:])))
        check_complete(complete, "singular vectors", params["subset_by_index"])
        outs = apply_primitive(call.eqn, ins)
        return outs, lambda cts: [conj(svd_gradient([conj(ct) for ct in cts], outs, a))]
    outs = p.svd_p.bind(a, **params | {"compute_uv": True, "full_matrices": False})
    return outs[:1], lambda cts: [conj(svd_gradient([*cts, None, None], outs, a))]


def svd_gradient(grads: Gradients, outs: Sequence[Any], a: Any) -> Any:
    """Pull back A = U S V^H:  A' = (U N + (U' - U U^H U') S^-1) V^H + U S^-1 (V' - V V^H V')^H

    (Giles 2008), with
    N = S' + i Im(diag(U^H U')) S^-1 + (K + L) / (s_j - s_i) + (K - L) / (s_j + s_i),  by pairs, for
    K and L the skew-Hermitian parts of U^H U' and V^H V': U and V turn together, and apart.

    Full U = [U1 U2], where U2's columns are any basis of the complement of U1, and likewise V: the
    derivative is that of the basis which turns least, dU2 = -U1 dU1^H U2; JAX raises.
    """
    s, u, vh = outs
    s_grad, u_grad, vh_grad = grads
    k = s.shape[-1]
    u, u_grad = thin(u, u_grad, k)
    v, v_grad = thin(adjoint(vh), None if vh_grad is None else adjoint(vh_grad), k)
    inner = None if s_grad is None else as_dtype(diagonal_matrix(s_grad), a.dtype)
    sides = [(x, grad) for x, grad in ((u, u_grad), (v, v_grad)) if grad is not None]
    if sides:
        inner = plus(inner, turned(sides, s, s_grad, max(a.shape[-2:]), u_grad is not None))
    out = matmul(matmul(u, inner), adjoint(v))
    if u_grad is not None and u.shape[-2] > k:
        out = lax.add(out, matmul(beyond(u, u_grad, s, s_grad), adjoint(v)))
    if v_grad is not None and v.shape[-2] > k:
        out = lax.add(out, matmul(u, adjoint(beyond(v, v_grad, s, s_grad))))
    return out


def turned(sides: Sequence[Any], s: Any, s_grad: Any, n: int, has_left: bool) -> Any:
    """Return N - S', from the vectors and gradients of one side or of both."""
    inner = [matmul(adjoint(x), grad) for x, grad in sides]
    skews = [skew_hermitian(g) for g in inner]
    together = skews[0] if len(skews) == 1 else lax.add(*skews)
    apart = lax.sub(*skews) if len(skews) == 2 else skews[0] if has_left else lax.neg(skews[0])
    grads = [grad for _, grad in sides]
    tied, apart_tied = vector_ties([together, apart], inner, grads, s_grad, n)
    total = lax.add(
        quotient(together, differences(s), s, n, tied),
        quotient(apart, sums(s), s, n, apart_tied),
    )
    if has_left and is_complex(total.dtype):
        total = lax.add(total, diagonal_matrix(phases(diagonal(inner[0]), s)))
    return total


def beyond(x: Any, grad: Any, s: Any, s_grad: Any) -> Any:
    """Return (X' - X X^H X') S^-1: the part outside of the span of the vectors."""
    rest = lax.sub(grad, matmul(x, matmul(adjoint(x), grad)))
    by = lax.broadcast_in_dim(s, x.shape, (*range(x.ndim - 2), x.ndim - 1))
    return quotient(rest, by, s, x.shape[-2], column_ties(rest, grad, s_grad, x.shape[-2]))


def thin(u: Any, u_grad: Any, k: int) -> tuple[Any, Any]:
    """Return U1 and its gradient from those of [U1 U2]:  U1' - U2 U2'^H U1."""
    if u.shape[-1] == k:
        return u, u_grad
    u1, u2 = columns(u, 0, k), columns(u, k, u.shape[-1])
    if u_grad is None:
        return u1, None
    u1_grad, u2_grad = columns(u_grad, 0, k), columns(u_grad, k, u.shape[-1])
    return u1, lax.sub(u1_grad, matmul(u2, matmul(adjoint(u2_grad), u1)))


def skew_hermitian(x: Any) -> Any:
    """Return (X - X^H) / 2, without the diagonal, which a phase of each vector changes."""
    skew = lax.mul(lax.sub(x, adjoint(x)), np.asarray(0.5, x.dtype))
    return lax.sub(skew, diagonal_matrix(diagonal(skew))) if is_complex(x.dtype) else skew


def sums(s: Any) -> Any:
    """Return s_j + s_i at row i and column j."""
    return lax.add(along_rows(s), transposed(along_rows(s)))


def phases(d: Any, s: Any) -> Any:
    """Return i Im(d) / s, and 0 where s is 0."""
    zero = lax.full_like(s, 0)
    is_zero = lax.eq(s, zero)
    ratio = lax.div(lax.imag(d), lax.select(is_zero, lax.full_like(s, 1), s))
    return lax.complex(zero, lax.select(is_zero, zero, ratio))


RULES = Rules(
    vjp_jointly(p.eigh_p, eigh),
    call(p.eig_p, eig),
    call(p.svd_p, svd),
).tag(
    "singular",
    symmetric="eigh",
)
