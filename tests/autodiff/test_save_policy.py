"""What a backward pass stores: hand-made programs whose least stores are known."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import fbp
from fbp.autodiff import graph as g
from fbp.autodiff.avals import num_bytes
from fbp.autodiff.save_policy import (
    AGAIN,
    ONCE_MORE,
    by_policy,
    minimum_cut,
    save_everything,
)

X = jnp.ones((4,))


def program(fun, *args):
    graph, _ = g.stage(fun, *args)
    return graph


def size(v):
    return num_bytes(v.aval)


def stored(fun, *args, cost=size, cost_of_inputs=0):
    """The primitives whose results a minimum cut stores, where the outputs are what is read."""
    graph = program(fun, *args)
    free = set(graph.invars)
    store = minimum_cut(lambda v: cost_of_inputs if v in free else cost(v), fbp.RULES)
    chosen = store(graph.eqns, g.variables(graph.outvars) - free, free)
    return sorted(str(e.primitive) for e in graph.eqns if not chosen.isdisjoint(e.outvars))


def test_everything_is_what_is_read():
    graph = program(lambda x: jnp.sin(jnp.cos(x)), X)
    assert save_everything(graph.eqns, set(graph.outvars), set(graph.invars)) == set(graph.outvars)


# A minimum cut


def test_cheap_work_on_what_is_free_stores_nothing():
    assert stored(lambda x: jnp.sin(jnp.cos(x) * 2), X) == []


def test_what_is_dear_to_compute_is_stored():
    assert stored(lambda x: x @ jnp.ones((4, 4)), X) == ["dot_general"]


def test_one_value_is_stored_rather_than_the_many_made_from_it():
    def fan_out(x):
        y = lax.sort(x)
        return jnp.sin(y), jnp.cos(y), jnp.tanh(y)

    assert stored(fan_out, X) == ["sort"]


def test_the_many_are_stored_when_the_one_is_larger():
    def narrow(x):
        y = lax.sort(x)
        return lax.slice(y, (0,), (1,)), lax.slice(y, (1,), (2,))

    assert stored(narrow, X) == ["slice", "slice"]


def test_the_narrow_place_of_a_chain_is_stored():
    def hourglass(x):
        y = jnp.sin(lax.sort(x))
        narrow = lax.slice(y, (0,), (1,))
        return jnp.exp(lax.broadcast_in_dim(narrow, (4,), (0,)))

    assert stored(hourglass, X) == ["slice"]


def test_smaller_dtypes_are_cheaper():
    def narrow(x):
        return jnp.exp(lax.sort(x).astype(jnp.bfloat16)).astype(jnp.float32)

    assert stored(narrow, X) in (["convert_element_type"], ["exp"])


def test_what_costs_nothing_is_stored_rather_than_anything_else():
    graph = program(lambda x: jnp.sin(lax.sort(x)), X)
    (sort, sine) = graph.eqns
    for free_of_cost in (sort, sine):
        store = minimum_cut(lambda v, e=free_of_cost: 0 if v in e.outvars else 16, fbp.RULES)
        assert store(graph.eqns, set(graph.outvars), set(graph.invars)) == set(free_of_cost.outvars)


def test_inputs_may_have_a_price():
    def fun(x, y):
        return lax.neg(x) * lax.sign(y)

    assert stored(fun, X, X) == []
    assert stored(fun, X, X, cost_of_inputs=7) == []
    assert stored(fun, X, X, cost_of_inputs=9) == ["mul"]


def test_the_result_of_a_transcendental_function_is_stored_rather_than_its_operand():
    def gate(x):
        y = lax.sort(x)
        return jnp.tanh(y)

    assert stored(gate, X) == ["tanh"]


def test_both_are_stored_only_where_computing_again_costs_more_than_storing():
    def twice(x):
        y = lax.sort(x)
        return y * 2, jnp.tanh(y)

    graph = program(twice, X)
    both = {graph.eqns[0].outvars[0], graph.eqns[-1].outvars[0]}
    for again, expected in ((AGAIN, {graph.eqns[0].outvars[0]}), (ONCE_MORE, both)):
        store = minimum_cut(size, fbp.RULES, again=again)
        assert store(graph.eqns, set(graph.outvars), set(graph.invars)) == expected


def test_effects_are_not_repeated():
    def loud(x):
        jax.debug.callback(lambda _: None, x)
        return jax.pure_callback(lambda x: x, X, x)

    assert stored(loud, X) == ["pure_callback"]


def test_nothing_read_stores_nothing():
    graph = program(lambda x: jnp.sin(x), X)
    assert minimum_cut(lambda v: 1, fbp.RULES)(graph.eqns, set(), set(graph.invars)) == set()
    assert minimum_cut(lambda v: 1, fbp.RULES)((), set(), set()) == set()


def test_costs_of_many_gigabytes_do_not_overflow():
    def fun(x):
        y = lax.sort(x)
        return jnp.sin(y), jnp.cos(y)

    assert stored(fun, X, cost=lambda v: 2**40) == ["sort"]


@st.composite
def programs(draw):
    """Straight-line programs of cheap and dear operations over one input."""
    size = draw(st.integers(1, 8))
    choices = [
        (draw(st.sampled_from(["sin", "sort", "add", "slice"])), draw(st.integers(0, 20)))
        for _ in range(size)
    ]
    outs = draw(st.lists(st.integers(0, size), min_size=1, max_size=3))

    def fun(x):
        values = [x]
        for kind, i in choices:
            a, b = values[i % len(values)], values[-1]
            values.append(
                {
                    "sin": lambda a, b: lax.sin(a),
                    "sort": lambda a, b: lax.sort(a),
                    "add": lambda a, b: a + b if a.shape == b.shape else lax.neg(a),
                    "slice": lambda a, b: lax.slice(a, (0,), (max(1, a.size // 2),)),
                }[kind](a, b)
            )
        return [values[i] for i in outs]

    return fun


def is_enough(graph, chosen, read, free):
    """Whether all that is read can be made again, cheaply, from what is stored and free."""
    made = set(chosen) | set(free)
    for eqn in graph.eqns:
        if eqn.primitive in fbp.RULES.tagged("recomputable") and g.variables(eqn.invars) <= made:
            made |= set(eqn.outvars)
    return read <= made


def price(graph, chosen, read, free):
    """The bytes that are stored, and what the transcendental functions that run again cost."""
    total, needed = sum(map(size, chosen)), set(read) - chosen - free
    for eqn in reversed(graph.eqns):
        if not needed.isdisjoint(eqn.outvars):
            needed |= g.variables(eqn.invars) - chosen - free
            is_dear = eqn.primitive in fbp.RULES.tagged("transcendental")
            total += AGAIN * sum(map(size, eqn.outvars)) * is_dear
    return total


@settings(max_examples=40, derandomize=True)
@given(programs())
def test_a_minimum_cut_is_enough_and_no_subset_or_exchange_is_cheaper(fun):
    graph = program(fun, X)
    free, read = set(graph.invars), g.variables(graph.outvars) - set(graph.invars)
    chosen = minimum_cut(lambda v: 0 if v in free else size(v), fbp.RULES)(graph.eqns, read, free)
    assert is_enough(graph, chosen, read, free)
    values = [v for eqn in graph.eqns for v in eqn.outvars]
    subsets = (
        {v for i, v in enumerate(values) if bits >> i & 1} for bits in range(2 ** len(values))
    )
    least = min(
        price(graph, subset, read, free)
        for subset in subsets
        if is_enough(graph, subset, read, free)
    )
    assert price(graph, chosen, read, free) == least


# Policies


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (None, []),
        (jax.checkpoint_policies.everything_saveable, ["cos", "dot_general", "sin"]),
        (jax.checkpoint_policies.nothing_saveable, []),
        (jax.checkpoint_policies.dots_saveable, ["dot_general"]),
        (lambda primitive, *_, **__: primitive is lax.cos_p, ["cos"]),
    ],
    ids=["none", "everything", "nothing", "dots", "own"],
)
def test_a_policy_says_what_is_stored(policy, kept):
    graph = program(lambda x: jnp.sin(jnp.cos(x) @ jnp.ones((4, 4))), X)
    chosen = by_policy(policy)(graph.eqns, set(graph.outvars), set(graph.invars))
    names = [str(e.primitive) for e in graph.eqns if not chosen.isdisjoint(e.outvars)]
    assert sorted(name for name in names if name in ("sin", "cos", "dot_general")) == kept


def test_a_policy_sees_the_types_and_parameters():
    seen = []

    def policy(primitive, *avals, **params):
        seen.append((primitive, avals, params))
        return False

    graph = program(lambda x: jnp.sum(x), X)
    by_policy(policy)(graph.eqns, set(graph.outvars), set(graph.invars))
    ((primitive, (aval,), params),) = seen
    assert str(primitive) == "reduce_sum"
    assert aval.shape == (4,)
    assert params["axes"] == (0,)


def test_a_policy_stores_what_has_an_effect():
    graph = program(lambda x: jax.pure_callback(lambda x: x, X, x), X)
    (eqn,) = graph.eqns
    assert bool(eqn.effects) == bool(by_policy(None)(graph.eqns, set(), set(graph.invars)))
