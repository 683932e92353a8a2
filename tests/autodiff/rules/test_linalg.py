"""Factorizations into triangles. Matrices have condition numbers below 10, which the tolerances
allow for; JAX's own derivatives are in forward mode, and solve in another order."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.extend.core import primitives as p

import fbp
from fbp.autodiff.rules import linalg
from fbp.testing import Case, check_composed, precision
from tests.support.agreement import assert_agree
from tests.support.matrices import EXACT, FIELDS, dominant, of_triangle, positive, spread
from tests.support.table import by_primitive, rule_tests

L = lax.linalg


def factor(primitive, fun, *args, **how):
    return Case(primitive, fun, args, FIELDS, tolerance=64, **how)


def qr(**options):
    return functools.partial(L.qr, **options)


CASES = [
    factor(p.cholesky_p, L.cholesky, positive(3, 3)),
    factor(p.cholesky_p, L.cholesky, positive(2, 2, 3, 3), name="stacks"),
    factor(p.cholesky_p, L.cholesky, positive(1, 1), name="1x1", composed=False),
    factor(p.cholesky_p, L.cholesky, (2, 0, 0), name="empty", composed=False),
    factor(p.lu_p, L.lu, dominant(3, 3), composed=False),
    factor(p.lu_p, L.lu, spread(4, 4), name="pivots"),
    factor(p.lu_p, L.lu, spread(2, 5, 3), name="tall"),
    factor(p.lu_p, L.lu, spread(2, 2, 3, 5), name="wide"),
    factor(p.lu_p, L.lu, (0, 3), name="empty", composed=False),
    factor(p.qr_p, qr(full_matrices=False), spread(3, 3), composed=False),
    factor(p.qr_p, qr(full_matrices=False), spread(2, 5, 3), name="tall"),
    factor(p.qr_p, qr(full_matrices=False), spread(2, 2, 3, 5), name="wide"),
    factor(p.qr_p, qr(full_matrices=True), spread(2, 5, 3), name="full"),
    factor(p.qr_p, qr(full_matrices=True), spread(3, 5), name="full wide", composed=False),
    factor(p.qr_p, lambda a: L.qr(a)[0], spread(5, 3), name="Q alone", composed=False),
    factor(p.qr_p, lambda a: L.qr(a)[1], spread(5, 3), name="R alone", composed=False),
    factor(
        p.qr_p,
        qr(pivoting=True, full_matrices=False),
        spread(5, 3),
        name="pivoting",
        composed=False,
    ),
    factor(p.qr_p, qr(pivoting=True), spread(4, 3), name="pivoting, full", composed=False),
    factor(p.qr_p, qr(full_matrices=False), (3, 0), name="empty", composed=False),
]


TestRules = rule_tests(linalg.RULES, CASES, composed=())


@pytest.mark.slow
@by_primitive(CASES, ("complex128",))
def test_cotangents_compose(group, dtype):
    check_composed(group, dtype)


def made(make, dtype):
    return Case(p.lu_p, L.lu, (make,)).arguments(dtype)[0]


def cotangents(library, fun):
    def run(a):
        out, pullback = library.vjp(fun, a)
        cts = [jnp.cos(jnp.arange(x.size).reshape(x.shape)).astype(x.dtype) for x in out]
        return pullback(type(out)(cts))[0]

    return run


@pytest.mark.parametrize("dtype", EXACT)
def test_the_gradient_of_cholesky_lies_in_the_triangle_that_is_read(dtype):
    """JAX 0.10 spreads it over both triangles, and so changes what is not read."""
    with precision(dtype):

        def whole(a):
            return [L.cholesky(of_triangle(a))]

        a = made(positive(3, 3), dtype)
        ours = cotangents(fbp, lambda a: [L.cholesky(a, symmetrize_input=False)])
        assert_agree(ours, cotangents(jax, whole), a, tolerance=64)


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5), (2, 5, 3)])
def test_a_pivoted_qr_is_that_of_permuted_columns(dtype, shape):
    """JAX 0.10 and 0.12 forget the permutation where the matrix is wide or one of a stack."""
    with precision(dtype):
        a = made(spread(*shape), dtype)
        permutation = L.qr(a, pivoting=True)[2]

        def permuted(a):
            a = jnp.take_along_axis(a, permutation[..., None, :], -1)
            return list(L.qr(a, full_matrices=False))

        pivoted = lambda a: list(L.qr(a, pivoting=True, full_matrices=False)[:2])
        assert_agree(cotangents(fbp, pivoted), cotangents(jax, permuted), a, tolerance=64)
