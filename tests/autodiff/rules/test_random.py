"""Samples as functions of their distribution's parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import primitives as p

import fbp
from fbp.autodiff.rules import random
from fbp.testing import Case, uniform, values
from tests.support.table import rule_tests


def samples(a):
    return jax.random.gamma(jax.random.key(1), a)


def log_samples(a):
    return jax.random.loggamma(jax.random.key(1), a)


TWO = ("float32", "float64")
CASES = [
    Case(p.random_gamma_p, samples, (uniform(0.5, 5, 3, 2),), TWO, 16),
    Case(p.random_gamma_p, log_samples, (uniform(0.5, 5, 3),), TWO, 16, name="logarithms"),
    Case(p.random_gamma_p, log_samples, (values(1e-3, 1e-2),), TWO, 16, name="tiny samples"),
]


TestRules = rule_tests(random.RULES, CASES, composed=(), without=(p.rng_uniform_p,))


def test_uniform_numbers_move_with_their_bounds():
    numbers, pullback = fbp.vjp(lambda a, b: lax.rng_uniform(a, b, (5,)), 2.0, 5.0)
    u = (numbers - 2) / 3
    for ct in np.eye(5, dtype=np.float32):
        np.testing.assert_allclose(pullback(jnp.asarray(ct)), [1 - u @ ct, u @ ct], rtol=1e-6)


@pytest.mark.parametrize("a", [0.5, 3.0])
def test_a_gamma_sample_keeps_its_quantile(a):
    with jax.enable_x64(True):
        x, slope = fbp.value_and_grad(samples)(a)
        moved = lax.igamma(a + 1e-6, x + 1e-6 * slope) - lax.igamma(a - 1e-6, x - 1e-6 * slope)
        assert abs(moved) < 1e-11
