"""What was stored is not computed again: not in a loop, a branch or a jit either."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.experimental import io_callback

import fbp
from fbp.autodiff import graph as g
from fbp.autodiff.avals import struct
from fbp.autodiff.interpret import eval_graph
from fbp.autodiff.recompute import rematerialized, repeatable
from tests.support.agreement import assert_same
from tests.support.jaxprs import equations

X = jnp.linspace(0.2, 1.4, 4)


def step(x):
    slow = jnp.tan(x)
    return slow, jnp.sin(slow)


def scanned(x):
    def body(carry, scale):
        slow, fast = step(carry * scale)
        return fast, (slow, fast * scale)

    carry, ys = lax.scan(body, x, jnp.arange(1.0, 4.0))
    return (*ys, carry)


def branched(x):
    return lax.cond(x[0] > 0, step, lambda x: (x * 2, jnp.cos(x * 2)), x)


PROGRAMS = [jax.jit(step), scanned, branched]


def made(eqns, *names):
    inner = [e for eqn in eqns for e in (eqn, *equations_within(eqn))]
    return {name: sum(str(e.primitive) == name for e in inner) for name in names}


def equations_within(eqn):
    for value in eqn.params.values():
        for inner in value if isinstance(value, tuple | list) else (value,):
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@pytest.mark.parametrize("fun", PROGRAMS)
def test_what_is_left_is_made_from_what_is_stored(fun):
    graph, _ = g.stage(fun, X)
    values = eval_graph(graph, [X])
    stored, *missing = graph.outvars
    again, read = rematerialized(
        graph.eqns, g.variables(missing), g.variables([stored], graph.invars)
    )
    assert stored in read
    assert made(again, "tan") == {"tan": 0}
    rest = g.Graph(
        (*graph.invars, stored), tuple(missing), tuple(again), graph.constvars, graph.consts
    )
    assert_same(eval_graph(rest, [X, values[0]]), values[1:])


@pytest.mark.parametrize(
    "around",
    [
        jax.jit,
        lambda f: lambda x: lax.scan(lambda c, _: (f(c), None), x, length=2)[0],
        lambda f: lambda x: lax.cond(x[0] > 0, f, jnp.cos, x),
    ],
)
def test_prints_are_not_printed_again(around):
    def loud(x):
        jax.debug.print("{}", x)
        return jnp.sin(x)

    graph, _ = g.stage(around(loud), X)
    assert all(map(repeatable, graph.eqns))
    again, _ = rematerialized(graph.eqns, g.variables(graph.outvars), set(graph.invars))
    assert made(again, "debug_print") == {"debug_print": 0}
    got = g.Graph(graph.invars, graph.outvars, tuple(again), graph.constvars, graph.consts)
    assert_same(eval_graph(got, [X]), eval_graph(graph, [X]))


def test_what_the_host_returns_cannot_be_made_again():
    def asked(x):
        return io_callback(lambda x: x, jax.typeof(x), x)

    graph, _ = g.stage(jax.jit(asked), X)
    assert not any(map(repeatable, graph.eqns))


def test_a_copy_is_copied_back():
    graph, _ = g.stage(lambda x: jax.device_put(jnp.sin(x), jax.memory.Space.Host), X)
    sine, copy = graph.eqns
    again, read = rematerialized(graph.eqns, set(sine.outvars), {*copy.outvars, *graph.invars})
    assert set(copy.outvars) <= read
    assert made(again, "sin") == {"sin": 0}
    (back,) = again
    assert back.outvars == sine.outvars
    assert struct(back.outvars[0]).memory_space == jax.memory.Space.Device


def test_a_policy_sees_into_a_branch_that_gives_a_number():
    policy = save_only("cos")
    f = jax.checkpoint(lambda x: lax.cond(x > 0, jnp.sin, lambda x: x, x), policy=policy)
    assert_same(fbp.grad(fbp.grad(f))(3.0), jax.grad(jax.grad(f))(3.0))


def save_only(name):
    return lambda primitive, *_, **__: str(primitive) == name
