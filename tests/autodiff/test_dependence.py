"""Which outputs depend on which inputs, and an equation in two by that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec

from fbp.autodiff import graph as g
from fbp.autodiff.dependence import (
    dependent_variables,
    depends,
    independent,
    parted,
    split_by_dependence,
)
from fbp.autodiff.interpret import eval_graph
from tests.support.agreement import assert_same

X = jnp.linspace(0.1, 1.0, 4)
Y = jnp.linspace(1.0, 2.0, 4)
MESH = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))


def both(x, y):
    """One output of x alone, one of both, one of y alone."""
    return jnp.sin(x), x * y, jnp.cos(y)


def branches(x, y):
    index = lax.iota(np.int32, 2)[1]  # known, but not to the trace
    return lax.switch(index, [both, lambda x, y: (x, x - y, y)], x, y)


def scanned(x, y):
    def step(carry, _):
        a, b, c = carry
        return (a + 1, jnp.sin(b) * a, c * b), (a, c)

    (a, b, _), (_, cs) = lax.scan(step, (x, x, y), None, length=3)
    return a + b, cs[0], lax.stop_gradient(y)


def scanned_in_turn(x, y):
    """y reaches the first output in the second iteration only."""
    (a, b), _ = lax.scan(lambda c, _: ((c[1], c[1] * 2), None), (x, y), None, length=3)
    return x, a, b


def looped(x, y):
    def body(state):
        i, a, b = state
        return i + 1, jnp.sin(a), b * a

    _, a, b = lax.while_loop(lambda state: state[0] < 3, body, (0, x, y))
    return a, b, jnp.cos(y)


@jax.custom_jvp
def stated(x, y):
    return both(x, y)


stated.defjvp(lambda primals, tangents: (stated(*primals), jax.jvp(both, primals, tangents)[1]))

PROGRAMS = {
    "jit": jax.jit(both),
    "jit of a jit": jax.jit(lambda x, y: jax.jit(both)(x, y)),
    "cond": branches,
    "scan": scanned,
    "while": looped,
    "checkpoint": jax.checkpoint(both),
    "shard_map": jax.shard_map(
        both, mesh=MESH, in_specs=PartitionSpec("i"), out_specs=PartitionSpec("i")
    ),
}


@pytest.mark.parametrize("name", [*PROGRAMS, "custom_jvp"])
def test_dependence_is_told_by_output(name):
    fun = jax.jit(PROGRAMS.get(name, stated))
    (eqn,) = g.stage(fun, X, Y)[0].eqns
    assert depends(eqn, (True, False)) == (True, True, False)
    assert depends(eqn, (False, True)) == (False, True, True)
    assert depends(eqn, (False, False)) == (False, False, False)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_parted_program_computes_the_same(name):
    graph, _ = g.stage(PROGRAMS[name], X, Y)
    pairs = list(parted(graph.eqns, graph.invars[1:]))
    known = [eqn for eqn, hit in pairs if not hit]
    assert graph.invars[1] not in g.variables(*(eqn.invars for eqn in known))
    assert graph.outvars[0] in {v for eqn in known for v in eqn.outvars}
    whole = g.Graph(graph.invars, graph.outvars, tuple(eqn for eqn, _ in pairs))
    made = [v for eqn in whole.eqns for v in eqn.outvars]
    assert len(made) == len(set(made))
    assert_same(tuple(eval_graph(whole, (X, Y))), tuple(eval_graph(graph, (X, Y))))


def test_a_carry_is_reached_after_enough_iterations():
    graph, _ = g.stage(scanned_in_turn, X, Y)
    dependent = dependent_variables(graph.eqns, graph.invars[1:])
    assert [v in dependent for v in graph.outvars] == [False, True, True]


def test_all_that_a_loop_changes_depends_on_when_it_ends():
    def loop(x, n):
        return lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] * 2), (0, x))

    (eqn,) = g.stage(loop, 1.0, 3)[0].eqns
    place = [isinstance(v, g.Var) and v.aval.dtype == np.int32 for v in eqn.invars]
    assert depends(eqn, tuple(place)) == (True, True)


def test_all_outputs_depend_on_the_index_of_a_branch():
    def fun(i, x):
        return lax.cond(i, lambda x: (x, -x), lambda x: (2 * x, -x), x)

    graph, _ = g.stage(fun, True, X)
    dependent = dependent_variables(graph.eqns, graph.invars[:1])
    assert all(v in dependent for v in graph.outvars)


def test_an_equation_with_effects_is_not_parted():
    @jax.jit
    def fun(x, y):
        jax.debug.print("{}", x)
        return both(x, y)

    (eqn,) = g.stage(fun, X, Y)[0].eqns
    assert depends(eqn, (False, True)) == (False, True, True)
    assert independent(eqn, (False, True)) is None


def test_the_rule_of_a_custom_function_keeps_its_equation_whole():
    (eqn,) = g.stage(stated, X, Y)[0].eqns
    assert independent(eqn, (False, True)) is None


def test_equations_are_split_by_what_they_depend_on():
    graph, _ = g.stage(lambda x, y: (jnp.sin(x), jnp.cos(y), x * y), X, X)
    before, after = split_by_dependence(graph.eqns, graph.invars[1:])
    assert [str(e.primitive) for e in before] == ["sin"]
    assert [str(e.primitive) for e in after] == ["cos", "mul"]
