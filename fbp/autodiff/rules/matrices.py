"""The vocabulary of the rules of linear algebra, for stacks of matrices.

Textbooks pair a gradient g with a change dA as Re tr(g^H dA); JAX's cotangent is g's conjugate.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax import lax
from jax.lax import GatherDimensionNumbers

from fbp.autodiff.avals import as_dtype, is_complex


def gradients(formula: Callable) -> Callable:
    """Make a joint rule of a formula in gradients, for a primitive with one operand."""

    @functools.wraps(formula)
    def pull(cts: Sequence[Any], outs: Sequence[Any], ins: Sequence[Any], _: Any, **params: Any):
        return [conj(formula([conj(ct) for ct in cts], outs, *ins, **params))]

    return pull


def conj(x: Any) -> Any:
    """Return the complex conjugate; None stays None."""
    return lax.conj(x) if x is not None and is_complex(x.dtype) else x


def plus(x: Any, y: Any) -> Any:
    """Add x and y, where None is zero."""
    return y if x is None else x if y is None else lax.add(x, y)


def transposed(a: Any) -> Any:
    """Return a^T."""
    return lax.transpose(a, (*range(a.ndim - 2), a.ndim - 1, a.ndim - 2))


def adjoint(a: Any) -> Any:
    """Return a^H."""
    return conj(transposed(a))


def matmul(a: Any, b: Any) -> Any:
    """Return the matrix product a b."""
    return lax.batch_matmul(a, b, lax.Precision.HIGHEST)


def solve(
    a: Any, b: Any, *, right: bool = False, adjoint: bool = False, lower: bool, unit: bool = False
) -> Any:
    """Return a^-1 b, or b a^-1 on the right, with a^-H for a^-1 if `adjoint`, for a triangle of
    a."""
    return lax.linalg.triangular_solve(
        a,
        b,
        left_side=not right,
        lower=lower,
        transpose_a=adjoint,
        conjugate_a=adjoint,
        unit_diagonal=unit,
    )


# Parts of a matrix


def lower(a: Any, below: int = 0) -> Any:
    """Return the lower triangle, from the diagonal on or from `below` places below it."""
    return masked(_entries(a, lambda row, column: row >= column + np.int32(below)), a)


def upper(a: Any, above: int = 0) -> Any:
    """Return the upper triangle, from the diagonal on or from `above` places above it."""
    return masked(_entries(a, lambda row, column: row + np.int32(above) <= column), a)


def halved(a: Any) -> Any:
    """Return Φ(a): the lower triangle, with half the diagonal."""
    return lax.mul(lax.add(lower(a), lower(a, 1)), np.asarray(0.5, a.dtype))


def hermitian(a: Any) -> Any:
    """Return Φ(a) + Φ(a)^H: the Hermitian matrix whose lower triangle is that of a."""
    return lax.add(halved(a), adjoint(halved(a)))


def masked(mask: Any, a: Any) -> Any:
    """Return a where the mask is true, zero elsewhere."""
    return lax.select(mask, a, lax.full_like(a, 0))


def _entries(a: Any, relation: Callable) -> Any:
    rows, columns = (lax.broadcasted_iota(np.int32, a.shape[-2:], axis) for axis in (0, 1))
    return lax.broadcast_in_dim(relation(rows, columns), a.shape, (a.ndim - 2, a.ndim - 1))


def diagonal(a: Any) -> Any:
    """Return the diagonal of a square matrix."""
    return lax.reduce_sum(masked(_entries(a, lax.eq), a), axes=[a.ndim - 1])


def diagonal_matrix(d: Any) -> Any:
    """Return the matrix with this diagonal."""
    return along_rows(d, lambda a: masked(_entries(a, lax.eq), a))


def along_rows(d: Any, use: Callable = lambda a: a) -> Any:
    """Return the square matrix whose every row is d."""
    shape = (*d.shape, d.shape[-1])
    return use(lax.broadcast_in_dim(d, shape, (*range(d.ndim - 1), d.ndim)))


def scale_columns(a: Any, d: Any) -> Any:
    """Return a diag(d), for real or complex d."""
    columns = lax.broadcast_in_dim(d, a.shape, (*range(a.ndim - 2), a.ndim - 1))
    return lax.mul(a, as_dtype(columns, a.dtype))


def rows(a: Any, start: int, stop: int) -> Any:
    """Return a[start:stop, :]."""
    return lax.slice_in_dim(a, start, stop, axis=a.ndim - 2)


def columns(a: Any, start: int, stop: int) -> Any:
    """Return a[:, start:stop]."""
    return lax.slice_in_dim(a, start, stop, axis=a.ndim - 1)


def unpermuted(a: Any, permutation: Any) -> Any:
    """Return b for a = b[permutation, :]."""
    axis, batch = a.ndim - 2, tuple(range(a.ndim - 2))
    positions = lax.broadcasted_iota(permutation.dtype, permutation.shape, axis)
    _, inverse = lax.sort_key_val(permutation, positions)
    return lax.gather(
        a,
        lax.expand_dims(inverse, (a.ndim - 1,)),
        GatherDimensionNumbers(
            offset_dims=(a.ndim - 1,),
            collapsed_slice_dims=(axis,),
            start_index_map=(axis,),
            operand_batching_dims=batch,
            start_indices_batching_dims=batch,
        ),
        slice_sizes=(*(1 for _ in range(a.ndim - 1)), a.shape[-1]),
        unique_indices=True,
        mode="promise_in_bounds",
    )


def triangle_gradient(a: Any, lower: bool) -> Any:
    """Return the gradient of the triangle from which a Hermitian matrix is read."""
    read = halved(lax.add(a, adjoint(a)))
    return read if lower else adjoint(read)


def general_solve(a: Any, b: Any, is_adjoint: bool) -> Any:
    """Return a^-H b."""
    packed, _, permutation = lax.linalg.lu(a)
    y = solve(packed, b, lower=False, adjoint=True)
    y = solve(packed, y, lower=True, unit=True, adjoint=True)
    return unpermuted(y, permutation)
