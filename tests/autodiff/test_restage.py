"""A program that is walked has every equation with its scopes; restaged, it computes the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from fbp.autodiff import graph as g
from fbp.autodiff import interpret
from fbp.autodiff.restage import bodies, restage, site_of, walk

X = jnp.array([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]])


def layer(x):
    with jax.named_scope("layer"):
        return jnp.sin(x) * 2


def scan(x):
    return lax.scan(lambda h, k: (layer(h) * k, h), x, jnp.arange(3.0), reverse=True)


def while_loop(x):
    return lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, layer(s[1])), (0, x))


def batch_of_while_loops(x):
    run = lambda x, n: lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, layer(s[1])), (0, x))
    return jax.vmap(run)(x, jnp.array([1, 4]))


def cond(x):
    return lax.switch(jnp.int32(x[0, 0] * 2), [layer, jnp.cos, lambda x: x], x)


def calls(x):
    return jax.jit(jax.checkpoint(lambda x: jax.nn.relu(layer(x))))(x)


def shard_map(x):
    mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.shard_map(layer, mesh=mesh, in_specs=P("i"), out_specs=P("i"))(x)


PROGRAMS = [scan, while_loop, batch_of_while_loops, cond, calls, shard_map]


def run(graph, args, around=None):
    """Run a program with all its bodies restaged."""
    env = interpret.Environment(graph, args)
    for i, eqn in enumerate(graph.eqns):
        site, ins = site_of(eqn, i, around), env.read(eqn.invars)
        if bodies(site):
            outs, _ = restage(
                site, ins, lambda body, ins, *_: (run(body.graph, ins, body.around), ())
            )
        else:
            outs = interpret.bind(eqn, ins)
        env.write(eqn.outvars, outs)
    return env.results(graph)


@pytest.mark.parametrize("fun", PROGRAMS)
def test_a_restaged_program_computes_the_same_bits(fun):
    graph, _ = g.stage(fun, X)
    got = jax.jit(lambda x: run(graph, (x,)))(X)
    for a, b in zip(got, jax.tree.leaves(jax.jit(fun)(X)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("fun", PROGRAMS)
def test_scopes_outside_are_carried_into_bodies(fun):
    def outer(x):
        with jax.named_scope("outer"):
            return fun(x)

    paths = {"/".join(site.scopes) for site in walk(g.stage(outer, X)[0])}
    assert "outer/layer" in paths


def test_keys_are_those_of_equations_and_branches():
    graph, _ = g.stage(cond, X)
    sites = list(walk(graph))
    assert len({site.key for site in sites}) == len(sites)
    (switch,) = [site for site in sites if site.eqn.primitive.name == "cond"]
    assert [body.around.key for body in bodies(switch)] == [(*switch.key, i) for i in range(3)]


def test_a_state_is_carried_and_parts_are_sliced():
    graph, _ = g.stage(scan, X)
    (eqn,) = [eqn for eqn in graph.eqns if eqn.primitive.name == "scan"]
    site = site_of(eqn, graph.eqns.index(eqn), None)

    def count(body, ins, state, part):
        return interpret.eval_graph(body.graph, ins), state + part * (body.iteration + 1)

    operands = [jnp.zeros(v.aval.shape, v.aval.dtype) for v in eqn.invars]
    _, total = restage(site, operands, count, jnp.int32(0), jnp.arange(3), numbered=True)
    assert total == 0 * 1 + 1 * 2 + 2 * 3


def doubled_until_large(x):
    return jax.lax.while_loop(lambda s: s[0] < 10, lambda s: (2 * s[0], s[1] + 1), (x, 0))


def again(body, ins, *_):
    return interpret.eval_graph(body.graph, ins), ()


def test_a_lane_of_a_batch_of_loops_ends_when_it_did():
    x = jnp.array([1.0, 4.0, 20.0])
    graph, _ = g.stage(jax.vmap(doubled_until_large), x)
    env = interpret.Environment(graph, [x])
    for i, eqn in enumerate(graph.eqns):
        ins = env.read(eqn.invars)
        if eqn.primitive.name == "while":
            outs, _ = restage(site_of(eqn, i, None), ins, again)
        else:
            outs = interpret.bind(eqn, ins)
        env.write(eqn.outvars, outs)
    values, counts = env.results(graph)
    np.testing.assert_array_equal(values, [16.0, 16.0, 20.0])
    np.testing.assert_array_equal(counts, [4, 2, 0])
