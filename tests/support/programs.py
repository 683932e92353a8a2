"""Small scalar functions that between them use every kind of program within a program."""

import jax
import jax.numpy as jnp
from jax import lax

from tests.support.agreement import total

X = jnp.linspace(-0.9, 1.2, 4)
W = jnp.cos(jnp.arange(16.0)).reshape(4, 4)


def mlp(x):
    return jnp.sum(jnp.tanh(W @ jax.nn.silu(W @ x)) ** 2)


def loop(x):
    def body(c, y):
        c = jnp.tanh(W @ c + y)
        return c, jnp.sin(c) * y

    c, ys = lax.scan(body, x, jnp.stack([x, x * x, jnp.cos(x)]))
    return total((c, ys))


def short_loop(x):
    return total(lax.scan(lambda c, y: (jnp.sin(c * y), c), x, jnp.stack([x, X]))[0])


def loop_of_constants(x):
    return total(lax.scan(lambda c, _: (jnp.sin(c * x) + x, None), X, length=3)[0])


def branch(x):
    return total(lax.cond(x[0] > 0, jnp.sin, lambda x: jnp.exp(x) * x, x))


def branch_in_loop(x):
    def body(c, y):
        return lax.cond(y[0] > 0, lambda c: jnp.sin(c * x), lambda c: c * c * y, c), None

    return total(lax.scan(body, x, jnp.stack([x, -x]))[0])


def remat(x):
    return jnp.sum(jax.checkpoint(lambda x: jnp.sin(jnp.tanh(W @ x)) * x)(x))


def remat_with_policy(x):
    policy = jax.checkpoint_policies.dots_saveable
    return jnp.sum(jax.checkpoint(lambda x: jnp.sin(jnp.tanh(W @ x)) * x, policy=policy)(x))


def remat_in_loop(x):
    body = jax.checkpoint(lambda c, y: (jnp.sin(c * y), c))
    return total(lax.scan(body, x, jnp.stack([x, x + 1])))


def jits(x):
    inner = jax.jit(lambda x: jnp.sin(x) * x)
    return jnp.sum(jax.jit(lambda x: inner(inner(x)) * x)(x))


@jax.custom_jvp
def soft(x):
    return jnp.log1p(jnp.exp(x))


@soft.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return soft(x), dx * jax.nn.sigmoid(x)


@jax.custom_vjp
def damped(x):
    return jnp.sin(x)


damped.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (ct * jnp.cos(x) * x,))


def custom_jvp(x):
    return jnp.sum(soft(W @ soft(x)) * x)


def custom_vjp(x):
    return jnp.sum(damped(W @ damped(x)) * x)


def indexing(x):
    y = x[jnp.array([0, 2, 2])] * x[1]
    return jnp.sum(jnp.sin(x.at[1:].multiply(2.0)) * x) + jnp.max(y) * jnp.sum(jnp.sort(x)[:2] ** 3)


PROGRAMS = {
    fun.__name__: fun
    for fun in (
        mlp, loop, short_loop, loop_of_constants, branch, branch_in_loop, remat, remat_with_policy,
        remat_in_loop, jits, custom_jvp, custom_vjp, indexing,
    )
}  # fmt: skip
