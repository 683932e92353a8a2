"""The largest eigenvalue of a matrix that is known by its products alone."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Vector = Float[Array, " size"]


def largest_eigenvalue(
    product: Callable[[Vector], Vector], start: Vector, iterations: int
) -> tuple[Float[Array, ""], Vector]:
    """Return the largest eigenvalue of a symmetric matrix A, and its vector of length one.

    Lanczos's method: A's largest eigenvalue on the space of start, A start, A^2 start, ..., of
    which an orthonormal basis Q is kept. It is at most that of A, and near it after a few
    products if `start` is near its vector. Each product is made orthogonal to the whole basis,
    twice, so that rounding does not bring an eigenvalue in again.

    Golub and Van Loan, Matrix computations, chapter 10.

    Args:
      product: v -> A v.
      start: any vector that is not orthogonal to the eigenvector, such as the vector found for a
        matrix nearby.
      iterations: products, fewer than there are different eigenvalues.

    >>> value, vector = largest_eigenvalue(
    ...     lambda v: jnp.arange(10.0) * v, jnp.ones(10), iterations=9
    ... )
    >>> print(value.round(3), jnp.argmax(jnp.abs(vector)))
    9.0 9
    """

    def expand(basis, number):
        image = product(basis[number])
        entries = basis @ image
        rest = image - entries @ basis
        rest -= (basis @ rest) @ basis
        return basis.at[number + 1].set(rest / jnp.linalg.norm(rest), mode="drop"), entries

    empty = jnp.zeros((iterations, start.size), start.dtype)
    basis = empty.at[0].set(start / jnp.linalg.norm(start))
    basis, below = jax.lax.scan(expand, basis, jnp.arange(iterations))
    projected = jnp.tril(below) + jnp.tril(below, -1).T
    values, vectors = jnp.linalg.eigh(projected)
    return values[-1], vectors[:, -1] @ basis
