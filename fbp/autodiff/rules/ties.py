"""Quotients by the differences of eigenvalues or singular values, some of which are equal.

The gradient of a function of vectors V has the terms K_ij / (w_j - w_i), where K is the function's
derivative along the rotation of v_i and v_j. Where w_i = w_j, a function that has a derivative does
not change along it, K_ij = 0, and the quotient is the limit of nearby matrices. From K alone that
limit is not known, but it is 0 if the function does not use v_i and v_j, if it uses the vectors
without the values (a projector, a polar factor), or if its gradient G = V^H V' has nothing in the
place i, j: for a matrix function V f(w) V^H, G_ij = f(w) C_ij and the limit is f'(w) C_ij.
Elsewhere what is left of K_ij is rounding, and it is divided by 0: not finite, not known.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import lax

from fbp.autodiff.rules.matrices import along_rows, diagonal, diagonal_matrix, transposed

ROUNDINGS = 10  # as much as some ten operations make, each n eps of the largest term


class Ties(NamedTuple):
    """Masks by pairs of equal values: whether the numerator is 0 to rounding, whether the quotient
    is 0, and whether it is 0 nearby too, since neither vector is used (else its own derivative is
    unknown)."""

    still: Any
    zero: Any
    unused: Any


def rounding(largest: Any, n: int) -> Any:
    """Return the rounding error of a 0 that is computed from terms of this size."""
    eps = np.finfo(largest.dtype).eps
    return lax.mul(largest, np.asarray(ROUNDINGS * n * eps, largest.dtype))


def quotient(x: Any, by: Any, w: Any, n: int, ties: Ties) -> Any:
    """Return x / by, and 0 where `by`, computed from values w, is 0 to rounding and `ties` say
    so."""
    tied = lax.le(lax.abs(by), _spread(rounding(_largest(w, (-1,)), n), by.shape))
    nothing = lax.bitwise_and(tied, ties.zero)
    unknown = lax.bitwise_and(tied, ties.still)
    safe = lax.select(unknown, lax.full_like(by, 0), by)
    safe = lax.select(lax.bitwise_and(tied, ties.unused), lax.full_like(by, 1), safe)
    ratio = lax.div(x, lax.convert_element_type(safe, x.dtype))
    return lax.select(nothing, lax.full_like(x, 0), ratio)


def vector_ties(
    numerators: Sequence[Any], inner: Sequence[Any], grads: Sequence[Any], values_grad: Any, n: int
) -> list[Ties]:
    """Return the ties of pairs of vectors for each numerator K, from the gradients V' of one or two
    sets of vectors, G = V^H V' of each, and the gradient of the values, None if they are not
    used."""
    norms = [_column_norms(x) for x in grads]
    total = norms[0] if len(norms) == 1 else lax.add(*norms)
    level = rounding(_largest(total, (-1,)), n)

    def small(x):
        return lax.le(lax.abs(x), _spread(level, x.shape))

    masks = []
    if values_grad is not None:
        absent = _all(small(g) for g in inner)
        masks = [absent, transposed(absent), _accounted(inner, small, values_grad, n)]
    no_vector = _both(small(total))
    on_diagonal = _diagonal_mask(inner[0])

    def ties(numerator):
        still = small(numerator)
        zero = _all([still, *masks])
        unused = lax.bitwise_and(zero, no_vector)
        return Ties(still, lax.bitwise_or(zero, on_diagonal), lax.bitwise_or(unused, on_diagonal))

    return [ties(numerator) for numerator in numerators]


def column_ties(x: Any, grad: Any, values_grad: Any, n: int) -> Ties:
    """Return the ties of columns x, each of which is divided by its own value."""
    norms = _column_norms(grad)
    level = _spread(rounding(_largest(norms, (-1,)), n), norms.shape)
    zero = still = lax.le(_column_norms(x), level)
    if values_grad is not None:
        least = _spread(rounding(_largest(values_grad, (-1,)), n), norms.shape)
        zero = lax.bitwise_and(zero, lax.le(lax.abs(values_grad), least))
    unused = lax.bitwise_and(zero, lax.le(norms, level))
    axes = (*range(x.ndim - 2), x.ndim - 1)
    return Ties(*(lax.broadcast_in_dim(mask, x.shape, axes) for mask in (still, zero, unused)))


def _accounted(inner: Sequence[Any], small: Any, values_grad: Any, n: int) -> Any:
    """Exclude pairs of equal values with different gradients whose vectors have none: of V f(w) V^H
    with f(w) = 0 the gradient of V is 0, and says nothing of the limit."""
    idle = _both(_all(small(diagonal(g)) for g in inner))
    level = rounding(_largest(values_grad, (-1,)), n)
    rows = along_rows(values_grad)
    differ = lax.gt(lax.abs(lax.sub(rows, transposed(rows))), _spread(level, rows.shape))
    return lax.bitwise_not(lax.bitwise_and(idle, differ))


def _column_norms(x: Any) -> Any:
    size = lax.abs(x)
    return lax.sqrt(lax.reduce_sum(lax.mul(size, size), axes=[x.ndim - 2]))


def _largest(x: Any, axes: Sequence[int]) -> Any:
    size = lax.abs(x)
    return lax.reduce_max(size, axes=[axis % x.ndim for axis in axes])


def _spread(x: Any, shape: Sequence[int]) -> Any:
    return lax.broadcast_in_dim(x, shape, range(x.ndim))


def _both(mask: Any) -> Any:
    rows = along_rows(mask)
    return lax.bitwise_and(rows, transposed(rows))


def _all(masks: Any) -> Any:
    first, *more = masks
    for mask in more:
        first = lax.bitwise_and(first, mask)
    return first


def _diagonal_mask(x: Any) -> Any:
    return lax.eq(diagonal_matrix(lax.full(x.shape[:-1], 1, np.int8)), np.int8(1))
