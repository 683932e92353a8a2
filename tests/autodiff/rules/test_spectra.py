"""Eigenvalues and singular values, with their vectors. These are 1, 2, 3, ..., so that a vector's
derivative is no larger than the matrix; the tolerances are for sums of some ten such terms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import primitives as p

import fbp
from fbp.autodiff.rules import spectra
from fbp.testing import Case, check_composed, precision
from tests.support.agreement import assert_same, total
from tests.support.matrices import EXACT, FIELDS, adjoint, dominant, of_triangle, positive, spread
from tests.support.table import by_primitive, rule_tests

L = lax.linalg


def case(primitive, fun, *args, **how):
    return Case(primitive, fun, args, FIELDS, tolerance=128, **how)


def eig(left, right):
    return functools.partial(
        L.eig,
        compute_left_eigenvectors=left,
        compute_right_eigenvectors=right,
        enable_eigvec_derivs=True,
    )


def svd(**options):
    return functools.partial(L.svd, **options)


CASES = [
    case(p.eigh_p, L.eigh, positive(4, 4)),
    case(p.eigh_p, functools.partial(L.eigh, lower=False), positive(2, 2, 3, 3), name="upper"),
    case(p.eigh_p, lambda a: L.eigh(a)[0], positive(3, 3), name="vectors alone", composed=False),
    case(p.eigh_p, lambda a: L.eigh(a)[1], positive(3, 3), name="values alone"),
    case(p.eigh_p, L.eigh, (0, 0), name="empty", composed=False),
    case(p.eig_p, eig(False, False), dominant(4, 4)),
    case(p.eig_p, eig(False, True), dominant(3, 3), name="right", composed=False),
    case(p.eig_p, eig(True, False), dominant(3, 3), name="left", composed=False),
    case(p.eig_p, eig(True, True), dominant(2, 2, 3, 3), name="left and right"),
    case(
        p.eig_p, lambda a: eig(True, True)(a)[1], dominant(3, 3), name="left alone", composed=False
    ),
    case(p.svd_p, svd(full_matrices=False), spread(3, 3), composed=False),
    case(p.svd_p, svd(full_matrices=False), spread(2, 5, 3), name="tall"),
    case(p.svd_p, svd(full_matrices=False), spread(2, 2, 3, 5), name="wide"),
    case(p.svd_p, svd(full_matrices=True), spread(3, 3), name="full", composed=False),
    case(p.svd_p, svd(compute_uv=False), spread(2, 4, 3), name="values alone"),
    case(
        p.svd_p,
        lambda a: L.svd(a, full_matrices=False)[0],
        spread(5, 3),
        name="U alone",
        composed=False,
    ),
    case(
        p.svd_p,
        lambda a: L.svd(a, full_matrices=False)[2],
        spread(3, 5),
        name="V alone",
        composed=False,
    ),
    case(p.svd_p, svd(full_matrices=False), (0, 3), name="empty", composed=False),
]


TestRules = rule_tests(spectra.RULES, CASES, composed=())


@pytest.mark.slow
@by_primitive(CASES, ("complex128",))
def test_cotangents_compose(group, dtype):
    check_composed(group, dtype)


def made(make, dtype):
    return Case(p.svd_p, L.svd, (make,)).arguments(dtype)[0]


def cotangents(library, fun, a):
    out, pullback = library.vjp(fun, a)
    cts = [jnp.cos(jnp.arange(x.size).reshape(x.shape)).astype(x.dtype) for x in out]
    return pullback(type(out)(cts))[0]


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("lower", [True, False])
def test_the_gradient_of_eigh_lies_in_the_triangle_that_is_read(dtype, lower):
    """JAX spreads it over both triangles, and so changes what is not read."""
    with precision(dtype):

        def whole(a):
            return list(L.eigh(of_triangle(a, lower), lower=lower))

        a = made(positive(3, 3), dtype)
        got = cotangents(fbp, lambda a: list(L.eigh(a, lower=lower, symmetrize_input=False)), a)
        assert_same(got, cotangents(jax, whole, a), 128)


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 5)])
def test_full_matrices_of_an_svd_have_the_gradient_of_the_spaces_that_they_span(dtype, shape):
    with precision(dtype):

        def spans(a):
            u, _, vh = L.svd(a, full_matrices=True)
            k = min(shape[-2:])
            left, right = u[..., k:], vh[..., k:, :]
            return [left @ adjoint(left), adjoint(right) @ right, u[..., :k] @ vh[..., :k, :]]

        def complements(a):
            u, _, vh = L.svd(a, full_matrices=False)
            m, n = shape[-2:]
            left, right = u @ adjoint(u), adjoint(vh) @ vh
            ones = [
                jnp.broadcast_to(jnp.eye(k, dtype=dtype), x.shape)
                for k, x in ((m, left), (n, right))
            ]
            return [ones[0] - left, ones[1] - right, u @ vh]

        a = made(spread(*shape), dtype)
        assert_same(cotangents(fbp, spans, a), cotangents(jax, complements, a), 128)


@pytest.mark.parametrize("dtype", EXACT)
def test_eigenvectors_of_any_matrix_need_no_option(dtype):
    with precision(dtype):
        a = made(dominant(3, 3), dtype)
        got = cotangents(fbp, lambda a: list(jnp.linalg.eig(a)), a)
        assert_same(got, cotangents(jax, lambda a: eig(False, True)(a), a), 128)


@pytest.mark.parametrize(
    "values",
    [
        lambda a: jnp.linalg.eigvalsh(a),
        lambda a: L.eigh(a)[1],
        lambda a: jnp.linalg.eigvals(a).real,
        lambda a: L.svd(a, compute_uv=False),
        lambda a: L.svd(a)[1],
    ],
    ids=["eigvalsh", "eigh", "eigvals", "svdvals", "svd"],
)
@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_equal_values_have_jaxs_gradient(values, scale):
    a = scale * jnp.eye(3)
    got = fbp.grad(lambda a: total(values(a)))(a)
    assert np.isfinite(got).all()
    assert_same(got, jax.grad(lambda a: total(values(a)))(a))


def test_vectors_of_equal_values_have_no_finite_gradient():
    got = fbp.grad(lambda a: total(jnp.linalg.eigh(a)))(jnp.eye(3))
    assert not np.isfinite(got).any()


def test_some_eigenvectors_alone_have_no_gradient():
    def some(a):
        return total(L.eigh(a, subset_by_index=(0, 2))[0])

    with pytest.raises(NotImplementedError, match="subset_by_index=\\(0, 2\\)"):
        jax.make_jaxpr(fbp.grad(some))(jnp.eye(3))


def test_some_singular_vectors_alone_have_no_gradient():
    def some(a):
        return total(L.svd(a, full_matrices=False, subset_by_index=(0, 2)))

    with pytest.raises(NotImplementedError, match="subset_by_index=\\(0, 2\\)"):
        jax.make_jaxpr(fbp.grad(some))(jnp.eye(3))
