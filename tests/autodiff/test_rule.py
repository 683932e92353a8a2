"""Rules are values: stated in one of five ways, merged into tables, chosen for one call."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

import fbp
from fbp.autodiff.rule import (
    Rules,
    call,
    constant,
    derivative,
    transpose,
    vjp,
    vjp_jointly,
)
from tests.support.agreement import assert_same

X = jnp.array([0.5, -1.0, 2.0])

straight_through = derivative(lax.round_p, lambda x, y: 1.0)
doubled_sine = derivative(lax.sin_p, lambda x, y: lax.mul(y, y))


def gradient(fun, *args, rules, argnums=0):
    return fbp.grad(lambda *args: jnp.sum(fun(*args)), argnums, rules=rules)(*args)


# Tables


def test_tables_merge_and_the_right_side_wins():
    table = fbp.RULES | doubled_sine
    assert table[lax.sin_p] is doubled_sine
    assert table[lax.cos_p] is fbp.RULES[lax.cos_p]
    assert len(table) == len(fbp.RULES)


def test_merging_leaves_both_sides_as_they_were():
    before = dict(fbp.RULES)
    _ = fbp.RULES | doubled_sine
    assert dict(fbp.RULES) == before


def test_two_rules_merge_into_a_table():
    table = straight_through | doubled_sine
    assert isinstance(table, Rules)
    assert set(table) == {lax.round_p, lax.sin_p}


def test_tables_merge_with_lists():
    table = Rules(constant(lax.floor_p, lax.ceil_p)) | [straight_through, [doubled_sine]]
    assert set(table) == {lax.floor_p, lax.ceil_p, lax.round_p, lax.sin_p}


def test_a_table_cannot_be_changed():
    with pytest.raises(TypeError):
        fbp.RULES[lax.sin_p] = doubled_sine
    with pytest.raises(TypeError):
        fbp.RULES.by_primitive[lax.sin_p] = doubled_sine
    with pytest.raises(AttributeError):
        fbp.RULES.by_primitive = {}
    with pytest.raises(AttributeError):
        doubled_sine.kind = "constant"


def test_equal_tables_have_equal_hashes():
    one, other = Rules(doubled_sine), Rules(doubled_sine)
    assert one != other
    assert (one == other) <= (hash(one) == hash(other))


def test_a_table_is_a_mapping():
    assert lax.sin_p in fbp.RULES
    assert Primitive("unheard_of") not in fbp.RULES
    assert fbp.RULES.get(Primitive("unheard_of")) is None
    with pytest.raises(KeyError):
        fbp.RULES[Primitive("unheard_of")]


# Tables for one call


def test_rules_hold_for_one_call():
    assert_same(gradient(jnp.round, X, rules=fbp.RULES | straight_through), jnp.ones(3))
    assert_same(gradient(jnp.round, X, rules=fbp.RULES), jnp.zeros(3))


@pytest.mark.parametrize(
    "wrap",
    [
        jax.jit,
        jax.checkpoint,
        jax.vmap,
        lambda f: lambda x: lax.scan(lambda _, x: (None, f(x)), None, x)[1],
        lambda f: lambda x: lax.cond(jnp.sum(x) > 0, f, f, x),
        lambda f: lambda x: lax.map(jax.jit(f), x),
        functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.everything_saveable),
    ],
    ids=["jit", "checkpoint", "vmap", "scan", "cond", "jit_in_map", "policy"],
)
def test_rules_reach_into_programs(wrap):
    changed = fbp.RULES | doubled_sine
    fun = wrap(jnp.sin)
    assert_same(gradient(fun, X, rules=changed), jnp.sin(X) ** 2)
    assert_same(gradient(fun, X, rules=fbp.RULES), jnp.cos(X))


def test_rules_belong_to_value_and_grad_and_vjp_too():
    changed = fbp.RULES | straight_through
    assert fbp.value_and_grad(jnp.round, rules=changed)(0.3)[1] == 1
    assert fbp.vjp(jnp.round, 0.3, rules=changed)[1](2.0)[0] == 2


def test_inner_gradients_keep_their_own_rules():
    inner = fbp.grad(jnp.sin, rules=fbp.RULES | doubled_sine)
    assert_same(fbp.grad(inner)(0.7), jax.grad(lambda x: jnp.sin(x) ** 2)(0.7))


# Five ways to state a rule


def test_constant_has_no_derivative():
    assert_same(gradient(jnp.sin, X, rules=fbp.RULES | constant(lax.sin_p)), jnp.zeros(3))
    assert [rule.kind for rule in constant(lax.sin_p, lax.cos_p)] == ["constant"] * 2


def test_what_only_constants_reach_needs_no_rule():
    without = fbp.Rules([rule for rule in fbp.RULES.values() if rule.primitive is not p.while_p])
    got = gradient(lambda x: x * count_up(jnp.round(x)), X, rules=without)
    assert_same(got, jnp.round(X) + 3)


def count_up(x):
    return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] + 1), (0, x))[1]


def test_derivative_multiplies_by_the_slope():
    rule = derivative(lax.atan2_p, lambda x, y, z: lax.mul(x, z), None)
    got = gradient(jnp.arctan2, X, X + 1, rules=fbp.RULES | rule, argnums=(0, 1))
    assert_same(got, (X * jnp.arctan2(X, X + 1), jnp.zeros(3)))


def test_a_slope_may_be_a_number():
    rule = derivative(lax.tanh_p, lambda x, y: 3)
    for dtype in ("float32", "bfloat16", "complex64"):
        got = fbp.vjp(jnp.tanh, X.astype(dtype), rules=fbp.RULES | rule)[1](X.astype(dtype))
        assert_same(got, (3 * X.astype(dtype),))


def test_transpose_serves_the_other_operands_with_its_last_function():
    rule = transpose(lax.add_p, lambda ct, x, y: lax.neg(ct))
    got = gradient(lax.add, X, X, rules=fbp.RULES | rule, argnums=(0, 1))
    assert_same(got, (-jnp.ones(3), -jnp.ones(3)))


def test_vjp_reads_the_output():
    rule = vjp(lax.exp_p, lambda ct, y, x: lax.mul(lax.mul(ct, y), x))
    assert_same(gradient(jnp.exp, X, rules=fbp.RULES | rule), jnp.exp(X) * X)


def test_vjp_jointly_answers_for_all_operands():
    seen = []

    def both(cts, outs, ins, wanted):
        seen.append(wanted)
        (ct,), (_, y) = cts, ins
        return [lax.mul(ct, y), None]

    rule = vjp_jointly(lax.mul_p, both)
    got = gradient(lax.mul, X, X + 1, rules=fbp.RULES | rule, argnums=(0, 1))
    assert_same(got, (X + 1, jnp.zeros(3)))
    gradient(lax.mul, X, X + 1, rules=fbp.RULES | rule)
    assert seen == [(True, True), (True, False)]


def test_functions_get_the_parameters_that_they_name():
    seen = {}

    def spread(ct, x, *, axes):
        seen["axes"] = axes
        return lax.full(x.shape, 2, x.dtype)

    rule = transpose(p.reduce_sum_p, spread)
    assert_same(gradient(lambda x: x, X, rules=fbp.RULES | rule), jnp.full(3, jnp.float32(2.0)))
    assert seen == {"axes": (0,)}


def test_functions_may_ask_for_all_parameters():
    seen = {}

    def spread(ct, x, **params):
        seen.update(params)
        return lax.full(x.shape, 2, x.dtype)

    gradient(lambda x: x, X, rules=fbp.RULES | transpose(p.reduce_sum_p, spread))
    assert seen["axes"] == (0,)


def test_call_applies_the_equation_itself():
    def halved(call, ins):
        assert call.needs_ct == call.has_out_ct == (True,)
        return [lax.sin(ins[0])], lambda cts: [lax.mul(cts[0], cts[0].dtype.type(0.5))]

    rule = call(lax.sin_p, halved)
    assert_same(gradient(jnp.sin, X, rules=fbp.RULES | rule), jnp.full(3, jnp.float32(0.5)))


def test_only_wanted_operands_are_asked_for():
    def never(ct, *_):
        raise AssertionError("this operand is a constant")

    rule = vjp(lax.mul_p, lambda ct, y, a, b: lax.mul(ct, b), never)
    assert_same(gradient(lambda x: x * X, X, rules=fbp.RULES | rule), X)


def test_a_scalar_operand_gets_the_sum_of_its_partners_cotangents():
    rule = transpose(lax.add_p, lambda ct, x, y: ct)
    got = gradient(lambda x: lax.add(X, lax.mul(x, 2.0)), 3.0, rules=fbp.RULES | rule)
    assert_same(got, jax.grad(lambda x: jnp.sum(X + x * 2))(3.0))


# Missing rules


unheard_of = Primitive("unheard_of")
unheard_of.def_impl(lambda x: x)
unheard_of.def_abstract_eval(lambda x: x)


@pytest.mark.parametrize(
    "wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["plain", "jit", "checkpoint"]
)
def test_a_missing_rule_names_the_primitive_the_line_and_the_mend(wrap):
    def fun(x):
        return jnp.sum(wrap(unheard_of.bind)(x))

    with pytest.raises(fbp.MissingRule) as error:
        fbp.grad(fun)(X)
    message = str(error.value)
    assert "'unheard_of'" in message
    assert "test_rule.py:" in message
    assert "fbp.grad(f, rules=fbp.RULES | fbp.rule.vjp(" in message
    assert "docs/rules.md" in message


def test_a_missing_rule_within_a_library_names_the_line_that_calls_it():
    without = Rules([rule for rule in fbp.RULES.values() if rule.primitive is not lax.exp_p])
    with pytest.raises(fbp.MissingRule, match=r"'exp'.*test_rule.py:\d+"):
        gradient(jax.nn.softmax, X, rules=without)


def test_the_mend_that_is_named_mends():
    rule = vjp(unheard_of, lambda ct, y, x: lax.mul(ct, x))
    assert_same(gradient(unheard_of.bind, X, rules=fbp.RULES | rule), X)


def test_a_missing_rule_off_the_way_of_the_gradient_is_fine():
    got = fbp.grad(lambda x: jnp.sum(x * unheard_of.bind(X)))(X)
    assert_same(got, X)
    got = fbp.grad(lambda x: jnp.sum(x * unheard_of.bind(lax.stop_gradient(x))))(X)
    assert_same(got, X)


def test_a_rule_without_tags_has_those_of_the_rule_that_it_replaces():
    assert lax.sin_p in (fbp.RULES | doubled_sine).tagged("elementwise")
    assert lax.sin_p in ((fbp.RULES | doubled_sine) | straight_through).tagged("elementwise")


def test_a_users_rule_can_have_tags():
    table = fbp.RULES | doubled_sine.tag("pole")
    assert lax.sin_p in table.tagged("pole")
    assert lax.sin_p not in fbp.RULES.tagged("pole")


def test_a_tag_that_nothing_asks_for_raises():
    with pytest.raises(ValueError, match=r"unknown tags \['cheep'\]: choose from elementwise"):
        doubled_sine.tag("cheep")
