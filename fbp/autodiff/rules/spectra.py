"""Eigenvalues and singular values, with their vectors. Formulas are for gradients (see `matrices`).

Vectors turn by no phase of their own but where it is fixed otherwise (`eig`), as in JAX. Where
two eigenvalues or singular values are equal, their vectors have no derivative: it is infinite.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.graph import apply_primitive, is_complex
from fbp.autodiff.rule import Applied, Call, Rules, call, vjp_jointly
from fbp.autodiff.rules.matrices import (
    adjoint,
    along_rows,
    as_dtype,
    columns,
    conj,
    diagonal,
    diagonal_matrix,
    general_solve,
    gradients,
    of_triangle,
    plus,
    scale_columns,
    times,
    transposed,
)

Gradients = Sequence[Any]


def off_diagonal(matrix: Any) -> Any:
    """1 / matrix, but 0 on the diagonal, where the matrix is 0."""
    one = diagonal_matrix(lax.full(matrix.shape[:-1], 1, matrix.dtype))
    return lax.sub(lax.reciprocal(lax.add(matrix, one)), one)


def differences(w: Any) -> Any:
    """w_j - w_i at row i and column j."""
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
    """A V = V diag(w):  A' = V (diag(w') + F * V^H V') V^H,  F_ij = 1 / (w_j - w_i)  (Giles 2008).

    A is read from one triangle, and so is its gradient. Raises NotImplementedError for the
    vectors of some of the eigenvalues: their derivatives need the other vectors.
    """
    v, w = outs
    v_grad, w_grad = grads
    inner = None if w_grad is None else as_dtype(diagonal_matrix(w_grad), a.dtype)
    if v_grad is not None:
        check_complete(v.shape[-1] == v.shape[-2], "eigenvectors", subset_by_index)
        turn = as_dtype(off_diagonal(differences(w)), a.dtype)
        inner = plus(inner, lax.mul(turn, times(adjoint(v), v_grad)))
    return of_triangle(times(times(v, inner), adjoint(v)), lower)


def eig(call: Call, ins: list[Any]) -> Applied:
    """A V = V diag(w), also U with A^H U = U diag(w)^H. The derivative needs V in any case."""
    (a,), params = ins, call.params
    has_left, has_right = (params[f"compute_{s}_eigenvectors"] for s in ("left", "right"))
    made = p.eig_p.bind(a, **params | {"compute_right_eigenvectors": True})

    def pull(cts):
        w_grad, *vectors = map(conj, cts)
        right = vectors.pop() if has_right else None
        left = vectors.pop() if has_left else None
        a_grad = None
        if w_grad is not None or right is not None:
            a_grad = eigenvector_gradient(w_grad, right, made[0], made[-1])
        if left is not None:
            a_grad = plus(a_grad, adjoint(eigenvector_gradient(None, left, conj(made[0]), made[1])))
        return [as_dtype(conj(a_grad), a.dtype)]

    return list(made) if has_right else list(made[:-1]), pull


def eigenvector_gradient(w_grad: Any, v_grad: Any, w: Any, v: Any) -> Any:
    """A V = V diag(w):  A' = V^-H (diag(w') + conj(F) * V^H V'') V^H,  F as in `eigh`.

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
        turn = conj(off_diagonal(differences(w)))
        inner = plus(inner, lax.mul(turn, times(adjoint(v), fixed)))
    return general_solve(v, times(inner, adjoint(v)), is_adjoint=True)


def svd(call: Call, ins: list[Any]) -> Applied:
    """A = U diag(s) V^H. The derivative of s alone needs U and V as well.

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
    """A = U S V^H:  A' = (U N + (U' - U U^H U') S^-1) V^H + U S^-1 (V' - V V^H V')^H  (Giles 2008),

    N = S' + (X + X^H) S + S (Y + Y^H) + i Im(diag(U^H U')) S^-1,  X = F * U^H U',
    Y = F * V^H V',  F_ij = 1 / (s_j^2 - s_i^2) = 1 / ((s_j + s_i) (s_j - s_i)).

    Full U = [U1 U2], where U2's columns are any basis of what U1 leaves, and likewise V: the
    derivative is that of the basis which turns least, dU2 = -U1 dU1^H U2; JAX raises.
    """
    s, u, vh = outs
    s_grad, u_grad, vh_grad = grads
    k = s.shape[-1]
    u, u_grad = thin(u, u_grad, k)
    v, v_grad = thin(adjoint(vh), None if vh_grad is None else adjoint(vh_grad), k)
    inner = None if s_grad is None else as_dtype(diagonal_matrix(s_grad), a.dtype)
    turn: Any = None
    inverse = lax.reciprocal(s)
    if u_grad is not None or v_grad is not None:
        turn = as_dtype(off_diagonal(lax.mul(sums(s), differences(s))), a.dtype)

    outer = None
    if u_grad is not None:
        g = times(adjoint(u), u_grad)
        inner = plus(inner, scale_columns(twice_hermitian(lax.mul(turn, g)), s))
        if is_complex(a.dtype):
            inner = plus(inner, diagonal_matrix(phases(diagonal(g), s)))
        if u.shape[-2] > k:
            outer = scale_columns(lax.sub(u_grad, times(u, g)), inverse)
    if v_grad is not None:
        g = times(adjoint(v), v_grad)
        inner = plus(inner, adjoint(scale_columns(twice_hermitian(lax.mul(turn, g)), s)))
    made = times(plus(times(u, inner), outer), adjoint(v))
    if v_grad is not None and v.shape[-2] > k:
        made = lax.add(
            made, times(scale_columns(u, inverse), adjoint(lax.sub(v_grad, times(v, g))))
        )
    return made


def thin(u: Any, u_grad: Any, k: int) -> tuple[Any, Any]:
    """U1 and its gradient, from those of [U1 U2]:  U1' - U2 U2'^H U1."""
    if u.shape[-1] == k:
        return u, u_grad
    u1, u2 = columns(u, 0, k), columns(u, k, u.shape[-1])
    if u_grad is None:
        return u1, None
    u1_grad, u2_grad = columns(u_grad, 0, k), columns(u_grad, k, u.shape[-1])
    return u1, lax.sub(u1_grad, times(u2, times(adjoint(u2_grad), u1)))


def twice_hermitian(x: Any) -> Any:
    """X + X^H"""
    return lax.add(x, adjoint(x))


def sums(s: Any) -> Any:
    """s_j + s_i at row i and column j."""
    return lax.add(along_rows(s), transposed(along_rows(s)))


def phases(d: Any, s: Any) -> Any:
    """i Im(d) / s, and 0 where s is 0."""
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
