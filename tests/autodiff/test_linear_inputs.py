"""Programs run on linear inputs: what depends on them has no value, everything else has.

A `custom_jvp` rule made by `jax.jvp` is such a program, in which jits, branches and loops get a
primal together with its tangent. Its gradient is that of the function itself.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import fbp
from fbp.autodiff import graph as g
from fbp.autodiff.undefined import LinearInputRead, UndefinedPrimal, is_undefined, undefined
from tests.support.agreement import assert_agree, assert_same

X = jnp.float32(1.3)
MESH = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))


def by_jvp(fun):
    """The same function, with the rule that `jax.jvp` makes."""
    wrapped = jax.custom_jvp(fun)
    wrapped.defjvp(lambda primals, tangents: jax.jvp(fun, primals, tangents))
    return wrapped


def in_branch(x):
    index, y = lax.cond(x > 1, lambda x: (jnp.int32(2), x * x), lambda x: (jnp.int32(0), x), x)
    return y * index.astype(x.dtype)


def in_scan(x):
    def step(carry, _):
        count, y = carry
        up, z = jax.jit(lambda y: (jnp.sin(y) > 0, jnp.cos(y)))(y)
        return (count + up.astype(jnp.int32), z), up

    (count, y), ups = lax.scan(step, (jnp.int32(0), x), length=3)
    return jnp.where((count > 1) & ups[0], y * x, -x)


def in_while(x):
    def body(state):
        i, rounded, y = state
        return i + 1, rounded + jax.jit(jnp.round)(y), y * x

    _, rounded, y = lax.while_loop(lambda s: s[0] < 3, body, (jnp.int32(0), 0 * x, x))
    return rounded * y


def while_by_value(x):
    _, n = lax.while_loop(lambda s: s[0] < 10, lambda s: (s[0] * 2, s[1] + 1), (x, jnp.int32(0)))
    return jnp.where(n > 2, x * x, x)


def stopped_carry(x):
    return lax.scan(lambda c, _: (lax.stop_gradient(c) * 1.5, c * x), x, length=3)[1].sum()


def through_layers(x):
    def body(c, _):
        i, y = lax.cond(c > 0, lambda c: (jnp.floor(c) + 1, c * x), lambda c: (c, c), c)
        return y, i * y

    return jax.jit(lambda x: lax.scan(body, x, length=2))(x)[1].sum()


def at_random(x):
    key = jax.jit(lambda x: jax.random.fold_in(jax.random.key(0), x.astype(jnp.int32)))(x)
    return jax.random.uniform(key) * x * x


def on_devices(x):
    def body(x):
        return jax.jit(jnp.round)(x), x * x, lax.psum(x, "i")

    body = jax.shard_map(body, mesh=MESH, in_specs=P("i"), out_specs=(P("i"), P("i"), P()))
    rounded, square, total = body(x * jnp.arange(1.0, 3.0))
    return jnp.sum(rounded * square) * jnp.sum(total)


def solved(x):
    a = jnp.array([2.0, 3.0]) * x
    y = lax.custom_linear_solve(
        lambda v: a * v, jnp.ones(2) * x**3, lambda _, b: b / a, symmetric=True
    )
    return y[jax.jit(jnp.argmax)(y)] * jax.jit(jnp.ceil)(x)


def closing_over(x):
    return jax.jit(lambda y: (jnp.floor(y) * x, jnp.floor(x)))(2 * x)[0]


PROGRAMS = {
    "round": lambda x: jnp.round(x) * x,
    "jit": lambda x: jnp.where(jax.jit(lambda x: jnp.sin(x) > 0)(x), x * x, -x),
    "two_outputs": lambda x: (lambda y, up: jnp.where(up, x * y, -x))(
        *jax.jit(lambda x: (jnp.sin(x), jnp.sin(x) > 0))(x)
    ),
    "dead": lambda x: (jax.jit(lambda x: (jnp.sin(x), x > 0))(x), x * x)[1],
    "stopped": lambda x: jax.jit(lambda x: lax.stop_gradient(jnp.tanh(x)))(x) * x,
    "index": lambda x: jnp.arange(4.0)[jnp.searchsorted(jnp.arange(4.0), x)] * x,
    "switch": lambda x: lax.switch(
        jax.jit(lambda x: x.astype(jnp.int32))(x), [jnp.sin, jnp.cos, jnp.tan], x
    ),
    "power": lambda x: x ** jax.jit(lambda x: jnp.floor(x) + 2)(x),
    "sort": lambda x: (lambda v: jnp.sort(v)[1:].sum() * jnp.argsort(v)[2].astype(v.dtype))(
        jnp.stack([x, -x, 2 * x])
    ),
    "checkpoint": lambda x: jnp.where(jax.checkpoint(lambda x: jnp.sin(x) > 0)(x), x * x, -x),
    "checkpoint_policy": lambda x: jnp.multiply(
        *jax.checkpoint(
            lambda x: (jnp.round(x), jnp.sin(x) * x),
            policy=jax.checkpoint_policies.dots_saveable,
        )(x)
    ),
    "cond": in_branch,
    "scan": in_scan,
    "while": in_while,
    "while_by_value": while_by_value,
    "stopped_carry": stopped_carry,
    "scan_cond_jit": through_layers,
    "key": at_random,
    "shard_map": on_devices,
    "linear_solve": solved,
    "closure": closing_over,
    "jvp": lambda x: jax.jvp(lambda x: jnp.round(x) * x * x, (x,), (x * x,))[1],
    "linearize": lambda x: jax.linearize(lambda x: jax.jit(jnp.round)(x) * x * x, x)[1](x),
}


@pytest.mark.parametrize("fun", PROGRAMS.values(), ids=PROGRAMS)
def test_a_rule_made_by_jvp_has_the_functions_own_gradient(fun):
    gradients = [fbp.grad(f) for f in (by_jvp(fun), by_jvp(by_jvp(fun)), fun)]
    once, twice, own, forward = jax.jit(lambda x: [g(x) for g in (*gradients, jax.jacfwd(fun))])(X)
    assert_same(once, own, 8)
    assert_same(twice, own, 8)
    assert_same(own, forward, 8)


@pytest.mark.parametrize("name", ["two_outputs", "scan", "while", "cond"])
def test_a_rule_made_by_jvp_has_the_functions_own_second_derivative(name):
    fun = PROGRAMS[name]
    ours, theirs = fbp.grad(fbp.grad(by_jvp(fun))), jax.jacfwd(jax.jacfwd(fun))
    assert_agree(ours, theirs, X, tolerance=16)


def test_a_rule_with_symbolic_zeros_may_be_made_by_jvp():
    def fun(x, y):
        return jax.jit(jnp.round)(x) * x * y

    wrapped = jax.custom_jvp(fun)

    def rule(primals, tangents):
        (x, y), (dx, _) = primals, tangents
        return jax.jvp(lambda x: fun(x, y), (x,), (dx,))

    wrapped.defjvp(rule, symbolic_zeros=True)
    assert_same(fbp.grad(wrapped)(X, 2.0), jnp.float32(2))


def test_a_loop_whose_pullback_nobody_asks_for_stays_one_loop_and_saves_no_states():
    def rule(primals, tangents):
        (x,), (dx,) = primals, tangents
        count, _, _ = lax.while_loop(
            lambda s: s[0] < 3,
            lambda s: (s[0] + 1, s[1] * x, s[2] * x),
            (jnp.int32(0), x, dx),
        )
        return x * 2, dx * count.astype(x.dtype)

    fun = jax.custom_jvp(lambda x: x * 2)
    fun.defjvp(rule)
    assert_same(fbp.grad(fun)(X), jnp.float32(3))
    (loop,) = [e for e in jax.make_jaxpr(fbp.grad(fun))(X).eqns if e.primitive.name == "while"]
    assert not any(v.aval.ndim for v in loop.outvars)


# Linear functions


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: jnp.multiply(*jax.jit(lambda x: (2 * x, jnp.sin(3.0)))(x)),
        lambda x: lax.scan(lambda c, _: ((c[0] * 2, c[1] + 1), None), (x, 0.5), length=3)[0][0],
        lambda x: (lambda s: s[1] * s[0])(
            lax.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, 2 * s[1]), (1.0, x))
        ),
        lambda x: jnp.multiply(
            *lax.cond(True, lambda x: (3 * x, jnp.cos(1.0)), lambda x: (x, jnp.cos(2.0)), x)
        ),
        lambda x: jnp.multiply(*jax.checkpoint(lambda x: (jnp.cos(0.5), 2 * x))(x)),
    ],
    ids=["jit", "scan", "while", "cond", "checkpoint"],
)
def test_the_transpose_of_a_multiplication_by_one_number_is_itself(fun):
    (got,) = fbp.linear_transpose(fun, X)(1.0)
    np.testing.assert_allclose(got, fun(jnp.float32(1)), rtol=1e-6)


def test_a_carry_that_becomes_known_does_not_carry_a_cotangent():
    def fun(x):
        return lax.scan(lambda c, _: (jnp.zeros(()), 2 * c), x, length=3)[1].sum()

    assert_same(fbp.linear_transpose(fun, X)(1.0), (jnp.float32(2),))


# What reads a value that is not there is told


NOT_LINEAR = {
    "product": (lambda t: t * t, "'mul' reads"),
    "function": (jnp.sin, "'sin' reads"),
    "condition": (
        lambda t: lax.while_loop(lambda s: s < 3, lambda s: s * 2, t),
        "condition of a while loop depends",
    ),
    "branch": (lambda t: lax.cond(t > 0, lambda t: t, lambda t: 2 * t, t), "index of a cond"),
    "mask": (lambda t: jnp.where(t > 0, t, 2 * t), "value of a linear input"),
    "count": (
        lambda t: lax.fori_loop(0, t.astype(jnp.int32), lambda _, t: 2 * t, t),
        "condition of a while loop depends",
    ),
}


@pytest.mark.parametrize(("of_tangent", "what"), NOT_LINEAR.values(), ids=NOT_LINEAR)
def test_what_reads_a_linear_input_is_named(of_tangent, what):
    crooked = jax.custom_jvp(jnp.sin)
    crooked.defjvp(lambda primals, tangents: (jnp.sin(primals[0]), of_tangent(tangents[0])))
    with pytest.raises(TypeError, match=rf"{what}.*test_linear_inputs.py:\d+"):
        fbp.grad(lambda x: crooked(x) * 2)(X)
    with pytest.raises(TypeError, match=rf"not linear in its arguments.*{what}"):
        fbp.linear_transpose(of_tangent, X)(1.0)


@pytest.mark.parametrize(
    "read",
    [bool, float, int, complex, len, iter, np.asarray, lambda x: x[0]],
)
def test_an_undefined_value_says_what_it_is(read):
    unknown = UndefinedPrimal(jax.typeof(X))
    assert is_undefined(unknown)
    assert (unknown.shape, unknown.dtype, unknown.ndim, unknown.size) == ((), X.dtype, 0, 1)
    assert jax.tree.leaves(unknown) == [unknown]
    with pytest.raises(LinearInputRead, match=r"value of a linear input, .*float32\[\]"):
        read(unknown)


def test_an_equation_that_holds_a_program_is_known_output_by_output():
    def fun(x, t):
        return jax.jit(lambda x, t: (jnp.sin(x), jnp.cos(x) * t, t))(x, t)

    graph, _ = g.stage(fun, X, X)
    outs = fbp.autodiff.backprop.known(fbp.RULES, graph, [X, *undefined(graph.invars[1:])])
    assert [is_undefined(x) for x in outs] == [False, True, True]
    assert_same(outs[0], jnp.sin(X))
