"""Special functions, and those derivatives that JAX lacks beside integrals and secants."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
from jax import lax
from jax.extend.core import primitives as p

import fbp
from fbp.autodiff.rules import special
from fbp.testing import Case, check_eagerly, uniform, values
from tests.support.agreement import ulps
from tests.support.elementwise_cases import ALL, INF, NAN, unary
from tests.support.table import by_primitive, rule_tests

WITHOUT_JAX = {p.zeta_p, p.igamma_grad_a_p}


def orders(n: int) -> Callable:
    return lambda x: lax.polygamma(lax.full_like(x, n), x)


def betainc(x):
    return lax.betainc(lax.full_like(x, 2.5), lax.full_like(x, 0.7), x)


CASES = (
    *unary(p.erf_p, lax.erf, -2, 2, ALL),
    *unary(p.erfc_p, lax.erfc, -2, 2, ALL),
    *unary(p.erf_inv_p, lax.erf_inv, -0.9, 0.9, ALL),
    *unary(p.lgamma_p, lax.lgamma, 0.3, 3, (1, 2, 0.5, 0, INF, NAN), tolerance=16),
    *unary(p.digamma_p, lax.digamma, 0.3, 3, (1, 2, 0.5), tolerance=16),
    *(
        Case(p.polygamma_p, orders(n), (uniform(0.5, 3, 3),), tolerance=16, name=f"order {n}")
        for n in (0, 1, 3)
    ),
    *unary(p.bessel_i0e_p, lax.bessel_i0e, -3, 3, (0, 1, -1, 30, -30)),
    *unary(p.bessel_i1e_p, lax.bessel_i1e, -3, 3, (0, 1, -1, 30, -30)),
    *(
        Case(q, fun, args, ("float32", "float64"), tolerance=32, composed=False, name=name)
        for q, fun in ((p.igamma_p, lax.igamma), (p.igammac_p, lax.igammac))
        for name, args in (
            ("matrix", (uniform(0.5, 3, 2, 3), uniform(0.5, 3, 2, 3))),
            ("empty", (uniform(0.5, 3, 0), uniform(0.5, 3, 0))),
        )
    ),
    *(
        Case(p.regularized_incomplete_beta_p, betainc, (x,), tolerance=32, composed=not i)
        for i, x in enumerate((uniform(0.1, 0.9, 2, 3), values(0.0, 1.0), uniform(0, 1, 0)))
    ),
)


TestRules = rule_tests(special.RULES, CASES, without=tuple(WITHOUT_JAX))


@pytest.mark.slow
@by_primitive(CASES)
def test_cotangents_are_those_of_jax_without_jit(group, dtype):
    check_eagerly(group, dtype)


# The incomplete beta function's parameters

POINTS = [
    (2.0, 3.0, 0.2),
    (2.0, 3.0, 0.7),
    (5.0, 0.7, 0.9),
    (0.6, 8.0, 0.01),
    (30.0, 0.8, 0.97),
    (100.0, 200.0, 0.3),
    (1.0, 1.0, 0.5),
]


def beta_slope(a: float, b: float, x: float, log: Callable) -> float:
    """The covariance of a score and the event t < x, under the beta distribution."""

    def density(t):
        return t ** (a - 1) * (1 - t) ** (b - 1) / scipy.special.beta(a, b)

    mean = scipy.integrate.quad(lambda t: log(t) * density(t), 0, 1, points=[x], limit=200)[0]
    score = lambda t: (log(t) - mean) * density(t)
    return scipy.integrate.quad(score, 0, x, epsabs=1e-14, epsrel=1e-12, limit=200)[0]


slopes_of_betainc = jax.jit(fbp.grad(lax.betainc, (0, 1, 2)))


@pytest.mark.parametrize(("a", "b", "x"), POINTS)
def test_parameters_of_betainc_have_the_derivatives_of_its_integral(a, b, x):
    with jax.enable_x64(True):
        by_a, by_b, _ = slopes_of_betainc(a, b, x)
    np.testing.assert_allclose(by_a, beta_slope(a, b, x, np.log), rtol=1e-7)
    np.testing.assert_allclose(by_b, beta_slope(a, b, x, lambda t: np.log1p(-t)), rtol=1e-7)


def test_parameters_of_betainc_in_float32_are_float64s_rounded():
    slopes = jax.jit(jax.vmap(fbp.grad(lax.betainc, (0, 1, 2))))
    single = slopes(*jnp.asarray(POINTS, jnp.float32).T)
    with jax.enable_x64(True):
        double = slopes(*jnp.asarray(np.float32(POINTS), jnp.float64).T)
    for a, b in zip(single, double, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_betainc_is_constant_in_its_parameters_at_the_ends_of_its_domain():
    for x in (0.0, 1.0):
        assert slopes_of_betainc(2.0, 3.0, x)[:2] == (0, 0)


def test_second_derivatives_of_betainc_are_secants():
    with jax.enable_x64(True):
        slope, at = slopes_of_betainc, np.array([2.0, 3.0, 0.3])
        rows = jax.jit(
            lambda *v: [fbp.grad(lambda *v: slope(*v)[i], (0, 1, 2))(*v) for i in range(3)]
        )
        for row, step in zip(rows(*at), 1e-5 * np.eye(3), strict=True):
            secant = np.subtract(slope(*(at + step)), slope(*(at - step))) / 2e-5
            np.testing.assert_allclose(row, secant, rtol=1e-7)


def test_parameters_may_be_numbers():
    x = jnp.array([0.2, 0.5])
    for fun in (lax.igamma, lax.igammac, lax.polygamma, lambda a, x: lax.betainc(a, a, x)):
        of_numbers = fbp.grad(lambda x: jnp.sum(fun(2.0, x)))
        of_arrays = jax.grad(lambda x: jnp.sum(fun(jnp.full(2, 2.0), x)))
        assert ulps(*jax.jit(lambda x: (of_numbers(x), of_arrays(x)))(x)) <= 8


# Others that JAX does not differentiate


def test_zeta_has_a_derivative_in_its_second_argument():
    with jax.enable_x64(True):
        got = jax.jit(fbp.grad(lax.zeta, 1))(2.5, 1.5)
    assert ulps(got, -2.5 * scipy.special.zeta(3.5, 1.5)) <= 16


def test_the_incomplete_gamma_functions_slopes_have_one_mixed_derivative():
    """The density's derivative in the parameter, both ways round."""
    with jax.enable_x64(True):
        by_parameter = jax.jit(fbp.grad(fbp.grad(lax.igamma, 1)))(2.5, 1.5)
        mixed = jax.jit(fbp.grad(fbp.grad(lax.igamma), 1))(2.5, 1.5)
    assert ulps(mixed, by_parameter) <= 16


@pytest.mark.parametrize(
    ("fun", "what"),
    [
        (lax.polygamma, "polygamma in its order"),
        (lax.zeta, "zeta function in its exponent"),
        (lax.igamma_grad_a, "igamma_grad_a in its parameter"),
    ],
)
def test_what_has_no_closed_form_raises(fun, what):
    with pytest.raises(NotImplementedError, match=what):
        fbp.grad(fun)(2.0, 3.0)
