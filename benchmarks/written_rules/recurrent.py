"""Recurrent networks and loops: rules around a scan, and rules within one."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.written_rules.row import Case, custom, normal, row

TRUNCATED = "https://arxiv.org/abs/1705.08209"
DOCS = "https://github.com/jax-ml/jax/issues/3213"
DOUBLE = "https://github.com/pytorch/pytorch/issues/58509"


def steps(h, w, xs):
    """Return the states of a recurrent network."""

    def step(h, x):
        h = jnp.tanh(h @ w + x)
        return h, h

    return lax.scan(step, h, xs)[1]


@row("network", "propagates back over two steps only", TRUNCATED, operand=1)
def truncated_through_time(wrong):
    def network(h, w, xs):
        return steps(h, w, xs)[-1]

    def bwd(kept, g):
        h, w, xs = kept
        states = steps(h, w, xs)
        before = jnp.concatenate([h[None], states[:-1]])
        alive = jnp.arange(xs.shape[0]) >= (xs.shape[0] - 2 if wrong else 0)

        def step(carry, now):
            ct, dw = carry
            state, last, on = now
            d = ct * (1 - state**2)
            dw = dw + jnp.where(on, 1.0, 0.0) * jnp.outer(last, d)
            return (d @ w.T, dw), d

        (ct, dw), dxs = lax.scan(
            step, (g, jnp.zeros_like(w)), (states, before, alive), reverse=True
        )
        return ct, dw, dxs

    net = custom(network, bwd)
    w = 0.6 * normal(1, 4, 4)
    return Case(lambda h, w: jnp.sum(net(h, w, normal(2, 7, 4)) ** 2), (normal(0, 4), w))


@row("gate", "is wrong for large inputs, which come late in the loop", DOCS)
def wrong_late_in_a_scan(wrong):
    def gate(x):
        return jnp.sin(x)

    def bwd(kept, g):
        (x,) = kept
        return (g * jnp.cos(x) * jnp.where((x > 2.0) & wrong, -1.0, 1.0),)

    f = custom(gate, bwd)

    def fun(x):
        return lax.scan(lambda c, y: (c + f(c * y), None), x, jnp.linspace(0.5, 1.5, 6))[0]

    return Case(fun, (jnp.float32(1.0),))


@row("cell", "forgets the product of the gates", DOCS, operand=1)
def cell_in_a_scan(wrong):
    def cell(c, u):
        return c * jax.nn.sigmoid(u)

    def bwd(kept, g):
        c, u = kept
        s = jax.nn.sigmoid(u)
        return g * s, g * (1.0 if wrong else c) * s * (1 - s)

    f = custom(cell, bwd)

    def fun(w, xs):
        return jnp.sum(lax.scan(lambda c, x: (f(c, w * x) + x, None), jnp.ones(3), xs)[0])

    return Case(fun, (normal(0, 3), normal(1, 5, 3)))


@row("squash", "is wrong within a while_loop", DOCS)
def within_a_while_loop(wrong):
    def squash(x):
        return x / (1 + x * x)

    def bwd(kept, g):
        (x,) = kept
        return (g * (1 - x * x) / (1 + x * x) ** (1 if wrong else 2),)

    f = custom(squash, bwd)

    def fun(x):
        return lax.fori_loop(0, jnp.int32(4), lambda _, c: f(c) + x, x).sum()

    return Case(fun, (normal(0, 3),))


@row("linear_scan", "keeps an intermediate result that has no derivative", DOUBLE, None, x64=True)
def second_derivative_through_a_scan(wrong):
    def linear_scan(a, xs):
        return lax.scan(lambda h, x: (a * h + x, None), jnp.zeros_like(a), xs)[0]

    def states(a, xs):
        def step(h, x):
            return a * h + x, h

        return lax.scan(step, jnp.zeros_like(a), xs)[1]

    def bwd(kept, g):
        a, xs = kept
        before = states(lax.stop_gradient(a), xs) if wrong else states(a, xs)

        def step(carry, h):
            ct, da = carry
            return (ct * a, da + ct * h), ct

        (_, da), dxs = lax.scan(step, (g, jnp.zeros_like(a)), before, reverse=True)
        return da, dxs

    f = custom(linear_scan, bwd)
    xs = normal(1, 5, 3, dtype=jnp.float64)
    return Case(lambda a: jnp.sum(f(a, xs) ** 2), (0.5 * normal(0, 3, dtype=jnp.float64),))


@row("cumulative", "adds up from the wrong end", DOCS)
def cumulative_sum_is_not_reversed(wrong):
    def cumulative(x):
        return jnp.cumsum(x)

    def bwd(_, g):
        return (jnp.cumsum(g) if wrong else jnp.cumsum(g[::-1])[::-1],)

    f, w = custom(cumulative, bwd), normal(1, 7)
    return Case(lambda x: jnp.sum(w * f(x) ** 2), (normal(0, 7),))
