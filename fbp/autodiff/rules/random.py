"""Random numbers as functions of their distribution's parameters, differentiated at a fixed
quantile (the implicit derivative: Figurnov, Mohamed and Mnih, 2018)."""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.rule import Rules, derivative
from fbp.autodiff.rules.elementwise import div, filled, sub

speed: Any = lax.random_gamma_grad


def slope_of_gamma_sample(key: Any, a: Any, y: Any, *, log_space: bool) -> Any:
    """Return the derivative of a sample, or of its logarithm, with respect to its shape
    parameter."""
    if not log_space:
        return speed(a, y)
    smallest = float(jnp.finfo(y.dtype).tiny)
    sample = lax.max(lax.exp(y), filled(y, smallest))
    return div(speed(a, sample), sample)


def quantile(low: Any, high: Any, y: Any) -> Any:
    """Return u of y = low + u (high - low)."""
    return div(sub(y, low), sub(high, low))


RULES = Rules(
    derivative(p.random_gamma_p, None, slope_of_gamma_sample),
    derivative(
        p.rng_uniform_p,
        lambda low, high, y: sub(1, quantile(low, high, y)),
        quantile,
    ),
).tag("by_precision")
