"""A watched program computes what it computed before, and its records come out of loops."""

import chex
import jax
import jax.numpy as jnp
import pytest

from fbp.autodiff import graph as g
from fbp.autodiff.avals import differentiable
from fbp.verify.observe import Watch, observe, sites


def largest(site, ins, outs, iteration):
    """The largest entry that an equation made, and when."""
    values = [jnp.max(x) for x in outs if differentiable(jax.typeof(x)) and x.size]
    when = jnp.array([*iteration, -1], jnp.int32)
    return (jnp.max(jnp.stack(values)), when) if values else None


def larger(a, b):
    return jax.tree.map(lambda x, y: jnp.where(b[0] > a[0], y, x), a, b)


LARGEST = Watch(largest, larger)


def in_scan(x):
    return jax.lax.scan(
        lambda c, i: (c * jnp.where(i == 3, 0.5, 2.0), jnp.sin(c)), x, jnp.arange(5)
    )


def in_reversed_scan(x):
    return jax.lax.scan(lambda c, i: (c + i, c), x, jnp.arange(4.0), reverse=True)


def in_while(x):
    return jax.lax.while_loop(lambda c: c[0] < 100, lambda c: (c[0] * 2, jnp.cos(c[1])), (x, x))


def in_branches(x):
    return jax.lax.switch(jnp.int32(x), [jnp.sin, jnp.cos, lambda x: x + jnp.exp(x)], x)


def nested(x):
    def body(c, i):
        c = jax.lax.fori_loop(0, i, lambda _, c: c + 1.0, c)
        return jax.lax.cond(i > 2, jnp.sin, lambda c: 2 * c, c), c

    return jax.lax.scan(body, x, jnp.arange(5))


def calls(x):
    return jax.jit(jax.checkpoint(jax.nn.relu))(jax.nn.logsumexp(jnp.stack([x, 2 * x])))


PROGRAMS = [in_scan, in_reversed_scan, in_while, in_branches, nested, calls]


def watched(fun, x):
    graph, out = g.stage(fun, x)
    outs, records = observe(graph, (x,), LARGEST)
    return jax.tree.unflatten(jax.tree.structure(out), outs), records


@pytest.mark.parametrize("fun", PROGRAMS)
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.vmap])
def test_a_watched_program_computes_what_it_computed(fun, transform):
    x = jnp.array([0.5, 1.5, 2.5]) if transform is jax.vmap else 1.5
    got = transform(lambda x: watched(fun, x)[0])(x)
    want = transform(fun)(x)
    chex.assert_trees_all_close(got, want, rtol=1e-6)


@pytest.mark.parametrize("fun", PROGRAMS)
def test_every_record_has_its_site(fun):
    _, records = jax.jit(lambda x: watched(fun, x))(1.5)
    known = {site.key: site for site in sites(g.stage(fun, 1.5)[0])}
    assert records
    assert set(records) <= set(known)
    for key, (_, (_, when)) in records.items():
        assert when.shape == (known[key].loops + 1,)


def recorded(fun, x):
    """By primitive and loops around: (ran, largest, iteration)."""
    known = {site.key: site for site in sites(g.stage(fun, x)[0])}
    _, records = jax.jit(lambda x: watched(fun, x))(x)
    return {
        (known[key].eqn.primitive.name, *known[key].within): (
            bool(ran),
            float(value),
            when[:-1].tolist(),
        )
        for key, (ran, (value, when)) in records.items()
    }


def test_the_iteration_is_that_of_the_record_which_was_kept():
    records = recorded(in_scan, 1.0)
    assert records["mul", "scan"] == (True, 8.0, [2])
    assert records["scan",] == (True, 8.0, [])


def test_a_reversed_scan_counts_from_its_end():
    assert recorded(in_reversed_scan, 0.0)["add", "scan"] == (True, 6.0, [1])


def test_nested_loops_have_a_counter_each():
    assert recorded(nested, 1.0)["add", "scan", "while"][2] in ([2, 1], [3, 2], [4, 3])


def test_a_branch_that_did_not_run_says_so():
    records = recorded(in_branches, 0.5)
    assert records["sin", "cond"][0]
    assert not records["exp", "cond"][0]


def test_a_loop_that_did_not_run_says_so():
    assert not recorded(in_while, 200.0)["mul", "while"][0]


def test_a_scan_of_length_zero_says_so():
    empty = lambda x: jax.lax.scan(lambda c, y: (c * y, c), x, jnp.zeros((0,)))
    assert not recorded(empty, 1.0)["mul", "scan"][0]
