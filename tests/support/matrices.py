"""Random matrices whose factorizations are well conditioned."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from fbp.testing import Make, normal

FIELDS = ("float32", "float64", "complex64", "complex128")
EXACT = ("float64", "complex128")


def adjoint(a: Any) -> Any:
    """a^H"""
    return a.swapaxes(-1, -2).conj()


def spread(*shape: int) -> Make:
    """Matrices with the singular values 1, 2, 3, ..."""

    def make(rng: np.random.Generator, dtype: Any) -> np.ndarray:
        u, s, vh = np.linalg.svd(normal(*shape)(rng, wide(dtype)), full_matrices=False)
        return ((u * (1 + np.arange(s.shape[-1]))) @ vh).astype(dtype)

    return make


def positive(*shape: int) -> Make:
    """Hermitian matrices with the eigenvalues 1, 2, 3, ..."""

    def make(rng: np.random.Generator, dtype: Any) -> np.ndarray:
        q, _ = np.linalg.qr(normal(*shape)(rng, wide(dtype)))
        a = (q * (1 + np.arange(shape[-1]))) @ adjoint(q)
        return ((a + adjoint(a)) / 2).astype(dtype)

    return make


def dominant(*shape: int) -> Make:
    """Matrices whose diagonal outweighs the rest, with eigenvalues near 4, 8, 12, ..."""

    def make(rng: np.random.Generator, dtype: Any) -> np.ndarray:
        weights = np.diag(4.0 * (1 + np.arange(shape[-1])))
        return (normal(*shape)(rng, wide(dtype)) + weights).astype(dtype)

    return make


def wide(dtype: Any) -> Any:
    """The dtype of numpy's precision."""
    return np.complex128 if jnp.issubdtype(dtype, np.complexfloating) else np.float64


def of_triangle(a: Any, lower: bool = True) -> Any:
    """The Hermitian matrix that has this triangle."""
    part = jnp.tril(a, -1) if lower else jnp.triu(a, 1)
    return part + adjoint(part) + jnp.diag(jnp.diag(a).real).astype(a.dtype)
