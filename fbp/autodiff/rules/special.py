"""Special functions: the error function's, Gamma's, Beta's and Bessel's families."""

from collections.abc import Callable
from math import pi, sqrt
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p
from jax.lax import (
    bessel_i0e,
    bessel_i1e,
    digamma,
    exp,
    igamma_grad_a,
    lgamma,
    log,
    log1p,
    neg,
    polygamma,
    select,
    sign,
    square,
    zeta,
)
from jax.lax import bitwise_and as both

from fbp.autodiff.rule import Rules, derivative
from fbp.autodiff.rules.elementwise import (
    add,
    broadcast_like,
    div,
    eq,
    filled,
    gt,
    lt,
    mul,
    sub,
    where_lifted,
)


def slope_of_i1e(x: Any, y: Any) -> Any:
    """Return d (e^-|x| I1(x)) / dx = e^-|x| I0(x) - (sign x + 1/x) e^-|x| I1(x), and 1/2 at 0."""
    zero = eq(x, 0)
    x = where_lifted(zero, 1, x)
    return where_lifted(zero, 0.5, sub(bessel_i0e(x), mul(y, add(sign(x), div(1, x)))))


def not_stated(what: str) -> Callable:
    """Raise for a derivative that nobody has stated, when it is asked for."""

    def slope(*_: Any) -> Any:
        raise NotImplementedError(f"the derivative of {what} has no rule.")

    return slope


def of_arrays(slope: Callable) -> Callable:
    """Broadcast the operands of a slope that takes operands of one shape."""

    return lambda *operands: slope(*(broadcast_like(x, operands[-1]) for x in operands))


# Gamma


def gamma_density(a: Any, x: Any) -> Any:
    """Return the density of the gamma distribution, x^(a-1) e^-x / Gamma(a)."""
    return exp(sub(mul(sub(a, 1), log(x)), add(x, lgamma(a))))


def log_slope_of_density(a: Any, x: Any) -> Any:
    """Return d log(gamma_density) / da = log x - digamma(a)."""
    return sub(log(x), digamma(a))


# Beta


def beta_density(a: Any, b: Any, x: Any) -> Any:
    """Return the density of the beta distribution, x^(a-1) (1-x)^(b-1) / B(a, b)."""
    powers = add(mul(sub(b, 1), log1p(neg(x))), mul(sub(a, 1), log(x)))
    return exp(sub(powers, log_beta(a, b)))


def log_beta(a: Any, b: Any) -> Any:
    """Return log B(a, b)."""
    return sub(add(lgamma(a), lgamma(b)), lgamma(add(a, b)))


def betainc_by_a(a: Any, b: Any, x: Any, y: Any) -> Any:
    """Return d I_x(a, b) / da: an integral over [0, x] below the mean, over [x, 1] above it.

    I_x(a, b) = 1 - I_(1-x)(b, a) exchanges the two; at x = 0 and x = 1 the derivative is 0.
    """
    below = lax.le(mul(x, add(a, b)), a)
    inside = both(gt(x, 0), lt(x, 1))
    x = where_lifted(inside, x, 0.5)
    first, second = select(below, a, b), select(below, b, a)
    tail = tail_integral(first, second, select(below, x, sub(1, x)), below)
    return where_lifted(inside, select(below, tail, neg(tail)), 0)


def betainc_by_b(a: Any, b: Any, x: Any, y: Any) -> Any:
    """Return d I_x(a, b) / db = -d I_(1-x)(b, a) / db."""
    return neg(betainc_by_a(b, a, sub(1, x), y))


def tail_integral(a: Any, b: Any, x: Any, by_first: Any) -> Any:
    """Return the integral over [0, x] of the density times log t - E log t, which is d I_x / da, or
    times log(1-t) - E log(1-t), which is d I_x / db.

    By the double exponential formula (Takahasi and Mori, 1974), with t = x w^(1/c) and
    c = min(a, 1), which leaves no power of w that is singular at 0.
    """
    log_w, weights = double_exponential(x)
    c = lax.min(a, filled(a, 1))
    scale = sub(sub(mul(a, log(x)), log(c)), log_beta(a, b))
    mean = sub(digamma(select(by_first, a, b)), digamma(add(a, b)))
    slope, log_x, by_first, power, rest_power, scale, mean = (
        lax.broadcast(v, log_w.shape[:1])
        for v in (div(1, c), log(x), by_first, sub(div(a, c), 1), sub(b, 1), scale, mean)
    )
    log_t = add(log_x, mul(log_w, slope))
    log_rest = log1p(neg(exp(log_t)))
    density = exp(add(mul(rest_power, log_rest), add(mul(power, log_w), scale)))
    score = sub(select(by_first, log_t, log_rest), mean)
    return lax.reduce_sum(mul(mul(density, score), weights), axes=(0,))


def double_exponential(x: Any) -> tuple[Any, Any]:
    """Return the logarithms of nodes w = 1 / (1 + e^(-pi sinh u)) in (0, 1) for each element of x,
    along a new first axis, and their weights."""
    u, step = np.linspace(-3.3, 3.3, 128, retstep=True)
    log_w, log_rest = (-np.logaddexp(0, side * pi * np.sinh(u)) for side in (-1, 1))
    weights = step * pi * np.cosh(u) * np.exp(log_w + log_rest)

    def for_each(v: np.ndarray) -> Any:
        return lax.broadcast_in_dim(v.astype(x.dtype), (u.size, *x.shape), (0,))

    return for_each(log_w), for_each(weights)


RULES = Rules(
    derivative(p.erf_p, lambda x, y: mul(2 / sqrt(pi), exp(neg(square(x))))),
    derivative(p.erfc_p, lambda x, y: mul(-2 / sqrt(pi), exp(neg(square(x))))),
    derivative(p.erf_inv_p, lambda x, y: mul(sqrt(pi) / 2, exp(square(y)))),
    derivative(p.bessel_i0e_p, lambda x, y: sub(bessel_i1e(x), mul(sign(x), y))),
    derivative(p.bessel_i1e_p, slope_of_i1e),
    derivative(p.lgamma_p, lambda x, y: digamma(x)),
    derivative(p.digamma_p, lambda x, y: polygamma(np.ones((), x.dtype), x)),
    derivative(
        p.polygamma_p,
        not_stated("polygamma in its order"),
        of_arrays(lambda n, x, y: polygamma(add(n, 1), x)),
    ),
    derivative(
        p.zeta_p,
        not_stated("the Hurwitz zeta function in its exponent"),
        of_arrays(lambda s, q, y: neg(mul(s, zeta(add(s, 1), q)))),
    ),
    derivative(
        p.igamma_p,
        of_arrays(lambda a, x, y: igamma_grad_a(a, x)),
        of_arrays(lambda a, x, y: gamma_density(a, x)),
    ),
    derivative(
        p.igammac_p,
        of_arrays(lambda a, x, y: neg(igamma_grad_a(a, x))),
        of_arrays(lambda a, x, y: neg(gamma_density(a, x))),
    ),
    derivative(
        p.igamma_grad_a_p,
        not_stated("igamma_grad_a in its parameter"),
        of_arrays(lambda a, x, y: mul(gamma_density(a, x), log_slope_of_density(a, x))),
    ),
    derivative(
        p.regularized_incomplete_beta_p,
        of_arrays(betainc_by_a),
        of_arrays(betainc_by_b),
        of_arrays(lambda a, b, x, y: beta_density(a, b, x)),
    ),
).tag("elementwise", pole="erf_inv lgamma digamma polygamma zeta", forward_mode="erf erfc")
