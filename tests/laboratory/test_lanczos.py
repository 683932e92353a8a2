"""Lanczos's method against numpy's eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fbp
from experiments.edge_of_stability.lanczos import largest_eigenvalue


def symmetric(seed, size):
    a = np.random.default_rng(seed).normal(size=(size, size))
    return jnp.asarray(a + a.T)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_largest_eigenvalue(seed):
    matrix = symmetric(seed, 40)
    value, vector = largest_eigenvalue(lambda v: matrix @ v, jnp.ones(40), iterations=30)
    np.testing.assert_allclose(value, np.linalg.eigvalsh(matrix)[-1], rtol=1e-6)
    np.testing.assert_allclose(matrix @ vector, value * vector, atol=1e-2)
    np.testing.assert_allclose(jnp.linalg.norm(vector), 1)


@pytest.mark.usefixtures("x64")
def test_the_largest_is_not_the_largest_in_absolute_value():
    value, _ = largest_eigenvalue(
        lambda v: jnp.linspace(-100.0, 3.0, 50) * v, jnp.ones(50), iterations=45
    )
    np.testing.assert_allclose(value, 3.0, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_few_products_are_enough_near_the_vector():
    matrix = symmetric(3, 200)
    values, vectors = np.linalg.eigh(matrix)
    nearby = jnp.asarray(vectors[:, -1] + 0.02 * np.random.default_rng(0).normal(size=200))
    value, _ = largest_eigenvalue(lambda v: matrix @ v, nearby, iterations=8)
    np.testing.assert_allclose(value, values[-1], rtol=1e-3)


@pytest.mark.usefixtures("x64")
def test_it_never_passes_the_largest_and_rises_with_the_products():
    matrix = symmetric(4, 100)
    actual = [
        largest_eigenvalue(lambda v: matrix @ v, jnp.ones(100), iterations)[0]
        for iterations in (4, 12)
    ]
    assert actual == sorted(actual)
    assert actual[-1] <= np.linalg.eigvalsh(matrix)[-1] + 1e-9


@pytest.mark.usefixtures("x64")
def test_of_a_hessian_known_by_fbps_products():
    x = jnp.asarray(np.random.default_rng(5).normal(size=12))
    fun = lambda x: jnp.sum(jnp.sin(x) * jnp.roll(x, 1) ** 2)
    hessian = jax.jacfwd(jax.jacrev(fun))(x)
    value, _ = largest_eigenvalue(
        lambda v: fbp.hvp(fun, (x,), (v,))[0], jnp.ones(12), iterations=12
    )
    np.testing.assert_allclose(value, np.linalg.eigvalsh(hessian)[-1], rtol=1e-8)
