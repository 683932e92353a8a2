"""What users call: jax.numpy.linalg and jax.scipy.linalg."""

import jax
import jax.numpy as jnp
import jax.scipy.linalg as scipy
import pytest
from jax import lax

import fbp
from fbp.testing import Case, normal
from tests.support.agreement import assert_agree, assert_same, total
from tests.support.matrices import dominant

numpy = jnp.linalg

FUNCTIONS = {
    "inv": numpy.inv,
    "det": numpy.det,
    "slogdet": lambda a: numpy.slogdet(a)[1],
    "solve": lambda a: numpy.solve(a, a.T + 1),
    "eigh": numpy.eigh,
    "eigvalsh": numpy.eigvalsh,
    "eigvals": lambda a: numpy.eigvals(a).real,
    "svd": lambda a: numpy.svd(a[:3], full_matrices=False),
    "svdvals": numpy.svdvals,
    "qr": numpy.qr,
    "cholesky": lambda a: numpy.cholesky(a @ a.T),
    "lstsq": lambda a: numpy.lstsq(a[:, :3], a[:, 3:])[0],
    "pinv": lambda a: numpy.pinv(a[:3]),
    "spectral norm": lambda a: numpy.norm(a, 2),
    "nuclear norm": lambda a: numpy.norm(a, "nuc"),
    "cond": numpy.cond,
    "power": lambda a: numpy.matrix_power(a, -3),
    "tensorsolve": lambda a: numpy.tensorsolve(a, a[0]),
    "cho_solve": lambda a: scipy.cho_solve(scipy.cho_factor(a @ a.T + jnp.eye(4)), a),
    "lu_solve": lambda a: scipy.lu_solve(scipy.lu_factor(a), a.T),
    "solve_triangular": lambda a: scipy.solve_triangular(a, a.T, lower=True, trans=1),
    "solve positive": lambda a: scipy.solve(a @ a.T, a, assume_a="pos"),
    "block_diag": lambda a: scipy.block_diag(a, 2 * a),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_linear_algebra_has_jaxs_gradient(name):
    def loss(a):
        return total(FUNCTIONS[name](a))

    (a,) = Case(lax.linalg.lu_p, lax.linalg.lu, (dominant(4, 4),)).arguments("float32")
    with jax.numpy_rank_promotion("allow"):  # as in a user's program
        assert_agree(fbp.grad(loss), jax.grad(loss), a, tolerance=256)


def test_gaussian_process_hyperparameters_have_jaxs_gradient():
    """The marginal likelihood, whose covariance is inverted and has its determinant taken."""
    (x,) = Case(lax.linalg.lu_p, lax.linalg.lu, (normal(6),)).arguments("float32")

    def likelihood(length, noise):
        covariance = jnp.exp(-(((x[:, None] - x[None]) / length) ** 2)) + noise * jnp.eye(6)
        factor = scipy.cho_factor(covariance, lower=True)
        return x @ scipy.cho_solve(factor, x) + jnp.log(jnp.diag(factor[0])).sum()

    args = jnp.float32(0.7), jnp.float32(0.5)
    ours, theirs = (library.grad(likelihood, (0, 1)) for library in (fbp, jax))
    assert_agree(ours, theirs, *args, tolerance=256)


@pytest.mark.slow
def test_matrix_exponentials_have_jaxs_gradient():
    (a,) = Case(lax.linalg.lu_p, lax.linalg.lu, (dominant(4, 4),)).arguments("float32")
    for scale in (0.01, 0.1, 1.0):
        got, want = (
            library.grad(lambda a, s=scale: total(scipy.expm(s * a)))(a) for library in (fbp, jax)
        )
        assert_same(got, want, 256)
