"""Functions that have a derivative where eigenvalues or singular values are equal.

Their gradient is that of secants; JAX gives NaN. What the cotangents do not tell is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fbp
from fbp.testing import precision
from tests.support.matrices import adjoint

FIELDS = ("float64", "complex128")
SHAPES = ((4, 4), (6, 4), (4, 6))


def random(seed, shape, dtype):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape) if dtype.startswith("complex") else x).astype(dtype)


def unitary(seed, n, dtype):
    return np.linalg.qr(random(seed, (n, n), dtype))[0]


def with_values(values, shape, dtype):
    k = len(values)
    u, v = (unitary(i, n, dtype)[:, :k] for i, n in enumerate(shape))
    return jnp.asarray((u * np.array(values)) @ adjoint(v), dtype)


def hermitian(values, dtype):
    v = unitary(3, len(values), dtype)
    return jnp.asarray((v * np.array(values)) @ adjoint(v), dtype)


def secants(fun, a, step=1e-4):
    """The gradient, conjugated as JAX's, by differences of the fourth order."""
    a, gradient = np.asarray(a), np.zeros(a.shape, a.dtype)
    for index in np.ndindex(*a.shape):
        for unit in (1, 1j) if np.iscomplexobj(a) else (1,):
            change = np.zeros_like(a)
            change[index] = unit * step
            values = [float(fun(jnp.asarray(a + k * change))) for k in (-2, -1, 1, 2)]
            gradient[index] += np.dot([1, -8, 8, -1], values) / (12 * step) * np.conj(unit)
    return gradient


def check(fun, a, atol=1e-8):
    fun = jax.jit(fun)
    np.testing.assert_allclose(jax.jit(fbp.grad(fun))(a), secants(fun, a), atol=atol, rtol=1e-7)


def thin(a):
    return jnp.linalg.svd(a, full_matrices=False)


def scaled(v, w):
    return v * w[None].astype(v.dtype)


def norm(a):
    u, s, vh = thin(a)
    return jnp.linalg.norm(scaled(u, s) @ vh)


gradient_of_norm = jax.jit(fbp.grad(norm))


@pytest.mark.parametrize("dtype", FIELDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_polar_factors_and_norms(shape, dtype):
    with precision(dtype):
        c = random(7, shape, dtype)

        def polar(a):
            u, _, vh = thin(a)
            return jnp.sum(c * (u @ vh)).real

        a = with_values([1, 1, 2, 3], shape, dtype)
        check(polar, a)
        check(norm, a)
        check(lambda a: jnp.sum(thin(a)[1]), a)


@pytest.mark.parametrize("dtype", FIELDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("values", [[0, 0, 2, 3], [0, 1, 1, 3], [2, 2, 2, 2]], ids=str)
def test_the_norm_of_a_product_is_that_of_the_matrix(values, shape, dtype):
    with precision(dtype):
        a = with_values(values, shape, dtype)
        want = np.conj(a) / np.linalg.norm(a)
        np.testing.assert_allclose(gradient_of_norm(a), want, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_single_precision(dtype):
    a = with_values([1, 1, 2, 3], (6, 4), dtype)
    np.testing.assert_allclose(gradient_of_norm(a), np.conj(a) / np.linalg.norm(a), atol=2e-6)
    m = hermitian([1, 1, 2, 4], dtype)
    gradient = jax.jit(fbp.grad(simple_eigenvector))
    single = gradient(m)
    with precision("complex128"):
        wide = np.asarray(m, "complex128" if dtype == "complex64" else "float64")
        np.testing.assert_allclose(single, gradient(wide), atol=1e-5)


def simple_eigenvector(m):
    return jnp.abs(jnp.linalg.eigh(m)[1][:, -1]) ** 2 @ jnp.arange(4.0, dtype=m.real.dtype)


@pytest.mark.parametrize("dtype", FIELDS)
def test_eigenvectors_and_projectors(dtype):
    with precision(dtype):
        c = random(5, (4, 4), dtype)

        def projector(m):
            v = jnp.linalg.eigh(m)[1][:, :2]
            return jnp.sum(c * (v @ adjoint(v))).real

        def top(m):
            w, v = jnp.linalg.eigh(m)
            return w[-1] * jnp.abs(v[1, -1]) ** 2

        def norm_of_exponential(m):
            w, v = jnp.linalg.eigh(m)
            return jnp.linalg.norm(scaled(v, jnp.exp(w)) @ adjoint(v)) / 50

        for fun in (simple_eigenvector, projector, top, norm_of_exponential):
            check(fun, hermitian([1, 1, 2, 4], dtype))


@pytest.mark.parametrize("dtype", FIELDS)
def test_a_simple_eigenvector_of_any_matrix(dtype):
    with precision(dtype):

        def largest(m):
            w, v = jnp.linalg.eig(m)
            chosen = v[:, jnp.argmax(w.real)]
            return jnp.abs(chosen) ** 2 @ jnp.arange(4.0)

        b = random(4, (4, 4), dtype) + 3 * np.eye(4)
        check(largest, jnp.asarray(b @ np.diag([1, 1, 2, 4]) @ np.linalg.inv(b)))


def test_batches_with_and_without_equal_values():
    with precision("float64"):
        matrices = [with_values(v, (5, 4), "float64") for v in ([1, 1, 2, 3], [1, 2, 3, 4])]
        a = jnp.stack([*matrices, jnp.zeros((5, 4)).at[0, 0].set(1.0)])
        want = a / jnp.linalg.norm(a, axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(jax.jit(jax.vmap(fbp.grad(norm)))(a), want, atol=1e-12)
        got = jax.jit(fbp.grad(lambda a: jnp.sum(jax.vmap(norm)(a))))(a)
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_the_hessian_of_a_simple_eigenvalue():
    """2 sum_k (v^H E v_k) (v_k^H E v) / (w - w_k), which equal w_k have a share in."""
    with precision("float64"):
        m, direction = hermitian([1, 1, 4], "float64"), random(9, (3, 3), "float64")
        direction = direction + direction.T

        def along(t):
            return jnp.linalg.eigh(m + t * direction)[1 - 1][-1]

        w, v = np.linalg.eigh(m)
        shares = (v[:, -1] @ direction @ v[:, :2]) ** 2 / (w[-1] - w[:2])
        hessian = jax.jit(fbp.hessian(along))(0.0)
        np.testing.assert_allclose(hessian, 2 * shares.sum(), rtol=1e-9)


def unknown(a):
    """The derivative of exp, which it rests on, is nowhere in the cotangents."""
    w, v = jnp.linalg.eigh(a)
    return ((v * jnp.exp(w)[None]) @ v.T)[0, 1]


@pytest.mark.parametrize("a", [np.eye(3), np.asarray(hermitian([1, 1, 4], "float32"))])
def test_what_is_not_known_is_not_finite(a):
    assert not np.isfinite(jax.jit(fbp.grad(unknown))(jnp.asarray(a, "float32"))).any()


def test_a_gradient_whose_derivative_is_not_known_has_none():
    a = jnp.diag(jnp.array([1.0, 1.0, 2.0]))
    assert np.isfinite(gradient_of_norm(a)).all()
    assert not np.isfinite(jax.jit(fbp.jacrev(fbp.grad(norm)))(a)).all()


def test_zero_to_the_power_is_no_unused_vector():
    """Of V w V^T at w = 0 the vectors' gradient is 0, but the values' gradients differ."""

    def weighted(a):
        w, v = jnp.linalg.eigh(a)
        return jnp.sum(((v * w[None]) @ v.T) * jnp.array([[1.0, 3.0], [3.0, 2.0]]))

    assert not np.isfinite(fbp.grad(weighted)(jnp.zeros((2, 2)))).any()
