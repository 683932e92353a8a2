"""A number that stands in a program is an array to whoever gets it."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import fbp
from tests.support.agreement import assert_same

X = jnp.float32(1.5)


@jax.custom_vjp
def both(x, y):
    return x, y


both.defvjp(lambda x, y: ((x, y), (x, y)), lambda r, ct: (ct[0] * r[1].sum(), 3 * ct[1]))


@jax.custom_vjp
def two(x):
    return 2.0


two.defvjp(lambda x: (2.0, x), lambda _, ct: (7.0,))


@jax.custom_jvp
def handed_on(x, y):
    return x, y


handed_on.defjvp(lambda primals, tangents: (primals, tangents))


def spread(pair):
    a, b = pair
    return jnp.sum(jnp.ones(3) * b) * a


def in_scan(x):
    (x, y), _ = lax.scan(lambda c, _: (both(*c), None), (x, 2.0), length=2)
    return x * y


def in_while(x):
    def body(carry):
        y = both(carry[1], 2.0)
        return carry[0] + 1, y[1] * y[0]

    return lax.while_loop(lambda c: c[0] < 3, body, (0, x))[1]


PROGRAMS = {
    "custom_vjp": (lambda x: spread(both(x, 2.0)), 12.0),
    "both_ways": (lambda x: spread(both(3.0, x)), 27.0),
    "constant": (lambda x: spread((x, two(x))), 3 * 2.0 + 7.0),
    "custom_jvp": (lambda x: spread(handed_on(x, 2.0)), 6.0),
    "jit": (lambda x: spread(jax.jit(both)(x, 2.0)), 12.0),
    "checkpoint": (lambda x: spread(jax.checkpoint(both)(x, 2.0)), 12.0),
    "cond": (lambda x: spread(lax.cond(x > 0, both, lambda x, y: (x, y), x, 2.0)), 12.0),
    "scan": (in_scan, 2.0 * 2.0**2),
    "while": (in_while, 8.0 * 2.0**3),
    "vmap": (lambda x: jax.vmap(lambda x: spread(both(x, 2.0)))(x * jnp.ones(2)).sum(), 24.0),
    "not_on_the_way": (lambda x: spread(both(1.0, 2.0)) * x, 6.0),
    "custom_jvp_not_on_the_way": (lambda x: spread(handed_on(1.0, 2.0)) * x, 6.0),
}


@pytest.mark.parametrize(("fun", "want"), PROGRAMS.values(), ids=PROGRAMS)
def test_literals_pass_through_programs_and_user_functions(fun, want):
    assert_same(fbp.grad(fun)(X), jnp.float32(want))
    assert_same(jax.jit(fbp.grad(fun))(X), jnp.float32(want))


def test_a_rule_sees_a_literal_as_an_array():
    seen = []

    def of_x(ct, y, x, factor):
        seen.append((factor.shape, factor.ndim, factor.dtype))
        return ct * factor

    rules = fbp.RULES | fbp.rule.vjp(lax.mul_p, of_x, None)
    assert_same(fbp.grad(lambda x: x * 2.0, rules=rules)(X), jnp.float32(2))
    assert seen == [((), 0, jnp.float32)]


def test_a_value_is_weakly_typed_as_it_is_in_jax():
    for fun in (lambda x: both(x, 2.0)[1] * x, lambda x: handed_on(x, 2.0)[1] * x):
        assert fbp.value_and_grad(fun)(1.5)[0].weak_type == jax.jit(fun)(1.5).weak_type
