"""A rule that could never be used is refused, and says how to state it so that it is used."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.extend.core import Primitive

import fbp
from fbp.autodiff.discrete import WITHOUT_COTANGENT
from tests.support.agreement import assert_same

X = jnp.array([-1.0, 0.5, 2.0])

WAYS = {
    "derivative": lambda p: fbp.rule.derivative(p, lambda x, t, y: 1.0, None),
    "transpose": lambda p: fbp.rule.transpose(p, lambda ct, x, t: ct),
    "vjp": lambda p: fbp.rule.vjp(p, lambda ct, y, x, t: ct, None),
    "vjp_jointly": lambda p: fbp.rule.vjp_jointly(p, lambda cts, *_: cts),
    "call": lambda p: fbp.rule.call(p, lambda call, ins: (ins, lambda cts: cts)),
    "rule_from_jvp": lambda p: fbp.rule_from_jvp(p, lambda x, dx: (x[0] > x[1], dx[0])),
}


@pytest.mark.parametrize("state", WAYS.values(), ids=WAYS)
def test_a_rule_for_a_comparison_is_refused(state):
    with pytest.raises(ValueError, match=r"'gt' would never be used.*custom_jvp or jax.custom_vjp"):
        state(lax.gt_p)


def test_the_way_out_that_the_message_names_is_one():
    @jax.custom_jvp
    def spike(x):
        return (x > 0).astype(x.dtype)

    spike.defjvp(lambda x, dx: (spike(*x), dx[0] / (1 + jnp.abs(x[0])) ** 2))
    assert_same(fbp.grad(lambda x: spike(x).sum())(X), 1 / (1 + jnp.abs(X)) ** 2)


def test_no_such_primitive_gives_a_float():
    primitives = [p for p in fbp.RULES if p in WITHOUT_COTANGENT]
    assert len(primitives) == len(WITHOUT_COTANGENT)
    assert {fbp.RULES[p].kind for p in primitives} == {"constant"}


def test_that_a_primitive_has_no_derivative_may_always_be_said():
    rules = fbp.RULES | fbp.rule.constant(lax.gt_p)
    got = fbp.grad(lambda x: jnp.where(x > 0, x, 0).sum(), rules=rules)(X)
    assert_same(got, jnp.float32(X > 0))


@pytest.fixture
def counted():
    """A primitive of somebody else's, which gives integers."""
    primitive = Primitive("counted")
    primitive.def_impl(lambda x: jnp.int32(x > 0))
    primitive.def_abstract_eval(lambda x: x.update(dtype=jnp.dtype("int32"), weak_type=False))
    return primitive


@pytest.mark.parametrize(
    "state",
    [
        lambda p: fbp.rule.vjp(p, lambda ct, y, x: ct),
        lambda p: fbp.rule.call(p, lambda call, ins: (ins, lambda cts: cts)),
        lambda p: fbp.rule_from_jvp(p, lambda x, dx: (x[0], dx[0])),
    ],
    ids=["vjp", "call", "rule_from_jvp"],
)
def test_a_rule_is_refused_where_it_is_used_on_what_gives_integers(counted, state):
    rules = fbp.RULES | state(counted)
    message = r"'counted' is of no use at .*test_discrete.py:\d+.*int32.*custom_jvp"
    with pytest.raises(ValueError, match=message):
        fbp.grad(lambda x: x * counted.bind(x).astype(x.dtype), rules=rules)(2.0)
    with pytest.raises(ValueError, match=message):
        fbp.grad(jax.jit(lambda x: x * counted.bind(x).astype(x.dtype)), rules=rules)(2.0)


def test_what_gives_integers_without_a_differentiated_operand_is_nobodys_business(counted):
    rules = fbp.RULES | fbp.rule.vjp(counted, lambda ct, y, x: ct)
    got = fbp.grad(lambda x: x * counted.bind(jnp.float32(1)).astype(x.dtype), rules=rules)(2.0)
    assert got == 1


def test_a_cast_to_integers_says_that_the_rule_stated_for_casts_is_not_used():
    rules = fbp.RULES | fbp.rule.transpose(lax.convert_element_type_p, lambda ct, x: 2 * ct)

    def fun(x):
        return x.astype(jnp.float16).astype(jnp.float32) * x.astype(jnp.int32).astype(jnp.float32)

    with pytest.warns(UserWarning, match=r"'convert_element_type' is of no use at .*int32"):
        got = fbp.grad(fun, rules=rules)(jnp.float32(1.5))
    assert got == 4
    assert fbp.grad(fun)(jnp.float32(1.5)) == 1
