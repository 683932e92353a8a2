"""A joint program and its halves compute the same, whatever is stored between them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import fbp
from fbp.autodiff import graph as g
from fbp.autodiff.avals import num_bytes
from fbp.autodiff.interpret import eval_graph
from fbp.autodiff.masks import merge_by_mask, not_, select
from fbp.autodiff.partition import cut, joint, partition, rematerialized
from fbp.autodiff.save_policy import by_policy, minimum_cut, save_everything
from tests.support.agreement import assert_same

X = jnp.linspace(0.1, 1.0, 4)
MATRIX = jnp.linspace(-1.0, 1.0, 16).reshape(4, 4)
CT = jnp.linspace(2.0, -1.0, 4)


def network(x, w):
    hidden = jnp.tanh(w @ jnp.sin(x))
    return jnp.sort(hidden * x), hidden


STORES = {
    "everything": save_everything,
    "minimum": minimum_cut(lambda v: num_bytes(v.aval), fbp.RULES),
    "nothing": by_policy(None),
    "dots": by_policy(jax.checkpoint_policies.dots_saveable),
}


def program(fun, *args, needs_ct=None, has_out_ct=None):
    graph, _ = g.stage(fun, *args)
    needs_ct = needs_ct or (True,) * len(graph.invars)
    has_out_ct = has_out_ct or (True,) * len(graph.outvars)
    return joint(graph, fbp.RULES, needs_ct, has_out_ct, (False,) * len(graph.invars))


# The joint program


def test_a_joint_program_is_the_function_and_its_pullback():
    whole = program(network, X, MATRIX)
    results = eval_graph(whole.graph, (X, MATRIX, CT, CT + 1))
    outs, pullback = jax.vjp(network, X, MATRIX)
    assert_same(tuple(results[:2]), outs)
    assert_same(tuple(results[2:]), pullback((CT, CT + 1)))


def test_a_joint_program_takes_cotangents_of_useful_outputs_only():
    whole = program(network, X, MATRIX, needs_ct=(False, True), has_out_ct=(False, True))
    assert whole.signature.has_in_ct == (False, True)
    results = eval_graph(whole.graph, (X, MATRIX, CT))
    _, pullback = jax.vjp(network, X, MATRIX)
    assert_same(results[2], pullback((jnp.zeros(4), CT))[1])


def test_a_joint_program_is_remembered_while_its_graph_lives():
    graph, _ = g.stage(network, X, MATRIX)
    masks = ((True, True), (True, True), (False, False))
    assert joint(graph, fbp.RULES, *masks) is joint(graph, fbp.RULES, *masks)
    other = joint(graph, fbp.RULES, (True, False), *masks[1:])
    assert other is not joint(graph, fbp.RULES, *masks)


def test_linear_inputs_have_no_value():
    graph, _ = g.stage(lambda x, t: (jnp.sin(x), jnp.cos(x) * t), X, X)
    whole = joint(graph, fbp.RULES, (False, True), (False, True), (False, True))
    assert whole.signature.linear_outs == (False, True)
    out, ct = eval_graph(whole.graph, (X, CT))
    assert_same((out, ct), (jnp.sin(X), jnp.cos(X) * CT))


# The cut


@pytest.mark.parametrize("store", STORES)
def test_a_cut_keeps_the_meaning(store):
    parts = partition(program(network, X, MATRIX), STORES[store], lambda half, _: half)
    outs, pull = parts.run((X, MATRIX))
    want, pullback = jax.vjp(network, X, MATRIX)
    assert_same(tuple(outs), want)
    assert_same(tuple(pull([CT, CT + 1])), pullback((CT, CT + 1)))


@pytest.mark.parametrize("store", STORES)
def test_a_cotangent_that_never_arrived_is_zero(store):
    parts = partition(program(network, X, MATRIX), STORES[store], lambda half, _: half)
    _, pull = parts.run((X, MATRIX))
    _, pullback = jax.vjp(network, X, MATRIX)
    assert_same(tuple(pull([None, CT])), pullback((jnp.zeros(4), CT)))


def test_the_forward_half_knows_no_cotangent():
    whole = program(network, X, MATRIX)
    parts = cut(whole, save_everything)
    _, cts = whole.graph.invars[:2], set(whole.graph.invars[2:])
    assert cts.isdisjoint(g.variables(*(e.invars for e in parts.forward.eqns)))
    assert set(parts.backward.invars) >= cts


def test_everything_stored_means_nothing_computed_twice():
    parts = cut(program(network, X, MATRIX), save_everything)
    made = [{v for e in half.eqns for v in e.outvars} for half in (parts.forward, parts.backward)]
    assert made[0].isdisjoint(made[1])


def test_nothing_stored_means_only_inputs_and_outputs_are_read():
    parts = cut(program(network, X, MATRIX), by_policy(None))
    assert {r.origin for r in parts.residuals} <= {"input", "output"}
    assert len(parts.forward.outvars) == 2


def test_outputs_that_are_read_are_not_stored_again():
    parts = cut(program(jnp.exp, X), save_everything)
    assert [r.origin for r in parts.residuals] == ["output"]
    assert len(parts.forward.outvars) == 1


def test_inputs_that_are_read_are_not_stored_again():
    parts = cut(program(lambda x, y: x * y, X, X), save_everything)
    assert [r.origin for r in parts.residuals] == ["input", "input"]


def test_an_output_that_is_an_input_is_read_as_one():
    parts = partition(program(lambda x: (x, x * x), X), save_everything, lambda half, _: half)
    outs, pull = parts.run((X,))
    assert_same(tuple(outs), (X, X * X))
    assert_same(tuple(pull([CT, CT])), jax.vjp(lambda x: (x, x * x), X)[1]((CT, CT)))


def test_what_is_cheaply_made_of_constants_is_not_stored():
    spread = jax.jit(lambda row: jnp.broadcast_to(2 * row, (3, 4)))
    parts = cut(program(lambda x: x * spread(MATRIX[0]), jnp.ones((3, 4))), save_everything)
    assert not parts.residuals


def test_what_costs_much_to_make_of_constants_is_stored():
    parts = cut(program(lambda x: x * (MATRIX @ MATRIX), MATRIX), save_everything)
    assert [r.origin for r in parts.residuals] == ["stored"]


def test_what_a_jit_makes_of_literals_beside_other_outputs_is_never_stored():
    @jax.jit
    def both(n):
        return jnp.exp(jnp.arange(4.0)), n + 1

    def fun(x, n):
        factor, n = both(n)
        return x * factor, n

    masks = {"needs_ct": (True, False), "has_out_ct": (True, False)}
    parts = cut(program(fun, X, 3, **masks), save_everything)
    assert not parts.residuals


def test_what_literals_make_is_never_stored():
    def fun(x):
        return x * jnp.exp(jnp.arange(4.0))

    parts = cut(program(fun, X), save_everything)
    assert [r for r in parts.residuals if r.origin == "stored"] == []


def test_literal_outputs_are_outputs():
    parts = partition(
        program(lambda x: (1.0, jnp.sin(x)), X), save_everything, lambda half, _: half
    )
    outs, pull = parts.run((X,))
    assert float(outs[0]) == 1.0
    assert_same(tuple(pull([None, CT])), (jnp.cos(X) * CT,))


def test_closed_over_arrays_are_not_stored():
    data = np.ones((4, 4), np.float32)
    parts = cut(program(lambda x: jnp.asarray(data) @ x, X), save_everything)
    assert parts.residuals == ()


def test_each_half_is_wrapped():
    seen = []

    def wrap(half, direction):
        seen.append((direction, len(half.eqns)))
        return half

    partition(program(jnp.sin, X), save_everything, wrap)
    assert [direction for direction, _ in seen] == ["forward", "backward"]


def test_effects_stay_in_the_half_that_has_them():
    def loud(x):
        jax.debug.callback(lambda _: None, x)
        return jnp.sin(x)

    parts = cut(program(loud, X), save_everything)
    assert [any(e.effects for e in half.eqns) for half in (parts.forward, parts.backward)] == [
        True,
        False,
    ]


CHOICES = st.lists(
    st.tuples(st.sampled_from(["sin", "mul", "dot", "cumsum", "add"]), st.integers(0, 9)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=25, derandomize=True)
@given(CHOICES, st.sets(st.integers(0, 40)))
def test_any_store_keeps_the_meaning(choices, kept):
    operations = {
        "sin": lambda a, b: lax.sin(a),
        "mul": lambda a, b: a * b,
        "dot": lambda a, b: MATRIX @ a,
        "cumsum": lambda a, b: lax.cumsum(a),
        "add": lambda a, b: a + b,
    }

    def fun(x):
        values = [x]
        for kind, i in choices:
            values.append(operations[kind](values[i % len(values)], values[-1]))
        return values[-1]

    def arbitrary(eqns, read, free):
        made = [v for eqn in eqns for v in eqn.outvars]
        return {v for i, v in enumerate(made) if i in kept}

    parts = partition(program(fun, X), arbitrary, lambda half, _: half)
    outs, pull = parts.run((X,))
    want, pullback = jax.vjp(fun, X)
    assert_same(tuple(outs), (want,), tolerance=8)
    assert_same(tuple(pull([CT])), pullback(CT), tolerance=64)


# Its parts


def test_only_what_is_missing_is_computed_again():
    graph, _ = g.stage(lambda x: jnp.sin(jnp.cos(jnp.tanh(x))), X)
    tanh, cos, sin = graph.eqns
    again, read = rematerialized(graph.eqns, set(sin.outvars), set(tanh.outvars))
    assert again == [cos, sin]
    assert set(tanh.outvars) <= read


def test_masks_select_and_merge():
    mask = (True, False, True)
    assert select(mask, "abc") == ["a", "c"]
    assert merge_by_mask(mask, "ac", "b") == ["a", "b", "c"]
    assert merge_by_mask(mask, "ac") == ["a", None, "c"]
    assert not_(mask) == (False, True, False)
    with pytest.raises(ValueError, match="zip"):
        select(mask, "ab")


# From outside


def test_memory_of_vjp_is_that_of_what_is_read():
    _, pullback = fbp.vjp(functools.partial(network, w=MATRIX), X)
    shapes = sorted((r.origin, r.shape) for r in pullback.residuals)
    assert ("constant 0", (4, 4)) in shapes
    assert sum(r.bytes for r in pullback.residuals) == sum(
        leaf.nbytes for leaf in jax.tree.leaves(pullback)
    )
