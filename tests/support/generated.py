"""Random programs: expressions over a small environment of arrays, with programs within programs.

A program is a list of instructions (name, i, j, programs within): each applies an operation to
values number i and j and appends the result. It is plain data, so that hypothesis can shrink a
program that fails and print it.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from hypothesis import strategies as st
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from tests.support.agreement import total

Instruction = tuple[str, int, int, tuple]


def squash(x):
    """Keep values of the order of one, smoothly."""
    return x * lax.rsqrt(1 + x * x)


def like(y, x):
    """y in the shape of x."""
    return y if y.shape == x.shape else jnp.broadcast_to(jnp.mean(y), x.shape)


@jax.custom_jvp
def ramp(x):
    return jnp.maximum(x, 0.0)


@ramp.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return ramp(x), dx * jax.nn.sigmoid(4 * x)


@jax.custom_vjp
def clipped(x, y):
    return squash(x * y)


clipped.defvjp(lambda x, y: (clipped(x, y), (x, y)), lambda saved, ct: (ct * saved[1], jnp.sin(ct)))


def rows(x):
    """At least one axis."""
    return x[None] if x.ndim == 0 else x


UNARY = {
    "sin": jnp.sin, "cos": jnp.cos, "tanh": jnp.tanh, "exp": lambda x: jnp.exp(-x * x),
    "log1p": lambda x: jnp.log1p(x * x), "sqrt": lambda x: jnp.sqrt(1 + jnp.abs(x)),
    "logistic": jax.nn.sigmoid, "erf": lax.erf, "cube": lambda x: squash(x**3),
    "reciprocal": lambda x: 1 / (2 + jnp.sin(x)), "asinh": jnp.arcsinh, "atan": jnp.arctan,
    "abs": jnp.abs, "neg": jnp.negative, "floor": jnp.floor, "round": jnp.round, "sign": jnp.sign,
    "stop": lax.stop_gradient, "relu": jax.nn.relu, "gelu": jax.nn.gelu, "ramp": ramp,
    "name": lambda x: checkpoint_name(jnp.sin(x), "kept"),
    "sum": lambda x: squash(jnp.sum(x)), "max": jnp.max, "min": jnp.min, "mean": jnp.mean,
    "prod": lambda x: squash(jnp.prod(x)), "logsumexp": jax.nn.logsumexp,
    "softmax": lambda x: jax.nn.softmax(rows(x)), "cumsum": lambda x: squash(jnp.cumsum(x)),
    "cummax": lambda x: lax.cummax(rows(x)), "sort": lambda x: jnp.sort(rows(x)),
    "top": lambda x: lax.top_k(rows(x), 1)[0], "at_max": lambda x: jnp.ravel(x)[jnp.argmax(x)],
    "ravel": jnp.ravel, "transpose": jnp.transpose, "rev": lambda x: jnp.flip(x),
    "row": lambda x: rows(x)[0], "take": lambda x: rows(x)[jnp.array([0, -1, 0])],
    "slice": lambda x: rows(x)[1:] if rows(x).shape[0] > 1 else x,
    "pad": lambda x: jnp.pad(jnp.ravel(x)[:3], (1, 2), constant_values=0.5),
    "expand": lambda x: jnp.stack([x, -x]) if x.ndim < 2 else jnp.sum(x, 0),
    "set": lambda x: rows(x).at[0].set(0.25),
    "add_at": lambda x: rows(x).at[jnp.array([0, 0])].add(0.5),
    "multiply_at": lambda x: rows(x).at[0].multiply(0.5),
    "diagonal": lambda x: jnp.outer(jnp.ravel(x)[:3], jnp.ravel(x)[:3]).diagonal(),
}  # fmt: skip

BINARY = {
    "add": lambda x, y: squash(x + y), "sub": lambda x, y: x - y, "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (1 + y * y), "maximum": jnp.maximum, "minimum": jnp.minimum,
    "where": lambda x, y: jnp.where(x > y, x, -y), "atan2": lambda x, y: jnp.arctan2(x, 1 + y * y),
    "pow": lambda x, y: jnp.power(1 + x * x, squash(y)),
    "clamp": lambda x, y: lax.clamp(y - 1, x, y + 1),
    "concatenate": lambda x, y: jnp.concatenate([jnp.ravel(x), jnp.ravel(y)])[:4],
    "dot": lambda x, y: squash(jnp.dot(jnp.ravel(x), jnp.ravel(y))),
    "matmul": lambda x, y: squash(jnp.outer(x, y)[:2] @ jnp.ravel(y)),
    "dynamic_slice": lambda x, y: lax.dynamic_slice_in_dim(rows(x), jnp.argmax(y), 1),
    "dynamic_update": lambda x, y: lax.dynamic_update_slice_in_dim(
        rows(x), rows(y)[:1] * 2, jnp.argmin(x), 0
    ),
    "set_at": lambda x, y: rows(x).at[jnp.argmax(y) % rows(x).shape[0]].set(rows(y)[0] * 2),
    "convolve": lambda x, y: squash(jnp.convolve(jnp.ravel(x), jnp.ravel(y)[:2], mode="same")),
    "clipped": clipped,
}  # fmt: skip

POLICIES = (
    None,
    jax.checkpoint_policies.everything_saveable,
    jax.checkpoint_policies.dots_saveable,
    jax.checkpoint_policies.save_only_these_names("kept"),
)


def run(library: Any, body: Sequence[Instruction], values: Sequence[Any]) -> Any:
    """The last value of a program; gradients within it are made by `library`."""
    values = list(values)
    for name, i, j, within in body:
        x, y = values[i % len(values)], values[j % len(values)]
        if name in UNARY:
            values.append(UNARY[name](x))
        elif name in BINARY:
            values.append(BINARY[name](x, like(y, x)))
        else:
            bodies = [functools.partial(run, library, body) for body in within]
            values.append(NESTED[name](library, bodies, x, y, values))
    return values[-1]


def _jit(library, bodies, x, y, values):
    return jax.jit(lambda x, y: bodies[0]([x, y]))(x, y)


def _captured_jit(library, bodies, x, y, values):
    return jax.jit(lambda x: bodies[0]([*values, x]))(x)


def _checkpoint(policy, library, bodies, x, y, values):
    return jax.checkpoint(lambda x: bodies[0]([y, x]), policy=policy)(x)


def _scan(reverse, library, bodies, x, y, values):
    def step(carry, z):
        (c, d), (z, scale) = carry, z
        new = like(bodies[0]([*values, d, z, c]), c)
        return (new, like(c, d) * scale), new + like(z, new)

    xs = (jnp.stack([y, jnp.sin(y), -y]), jnp.array([0.5, 1.0, -0.5], x.dtype))
    (c, d), ys = lax.scan(step, (x, y), xs, reverse=reverse)
    return squash(c + ys[1] + like(d, c))


def _fori(library, bodies, x, y, values):
    return lax.fori_loop(
        0, 3, lambda i, c: like(bodies[0]([y, c]), c) * (1 + i).astype(c.dtype) / 3, x
    )


def _cond(library, bodies, x, y, values):
    first, second = bodies
    return lax.cond(
        jnp.sum(x) > 0.1,
        lambda x: like(first([*values, x]), x),
        lambda x: like(second([y, x]), x),
        x,
    )


def _switch(library, bodies, x, y, values):
    branches = [lambda x, b=b: like(b([*values, x]), x) for b in bodies]
    return lax.switch(jnp.argmax(jnp.ravel(y)), [*branches, jnp.sin], x)


def _vmap(library, bodies, x, y, values):
    return jnp.sum(jax.vmap(lambda x: bodies[0]([*values, x]))(jnp.stack([x, like(y, x)])), 0)


def _map(library, bodies, x, y, values):
    return jnp.mean(lax.map(lambda x: bodies[0]([y, x]), jnp.stack([x, like(y, x)])), 0)


def _gradient(library, bodies, x, y, values):
    return squash(library.grad(lambda x: total(bodies[0]([*values, x])))(x))


NESTED = {
    "jit": _jit, "captured_jit": _captured_jit, "scan": functools.partial(_scan, False),
    "reverse_scan": functools.partial(_scan, True), "fori": _fori, "cond": _cond,
    "switch": _switch, "vmap": _vmap, "map": _map, "gradient": _gradient,
    **{f"checkpoint_{i}": functools.partial(_checkpoint, p) for i, p in enumerate(POLICIES)},
}  # fmt: skip
BODIES = {"cond": 2, "switch": 2}


def programs(depth: int = 2, size: int = 6) -> st.SearchStrategy[tuple[Instruction, ...]]:
    """Programs of at most `size` instructions, with programs within to that depth."""
    operand = st.integers(0, 7)
    flat = st.tuples(st.sampled_from([*UNARY, *BINARY]), operand, operand, st.just(()))
    if depth == 0:
        return st.lists(flat, min_size=1, max_size=size).map(tuple)
    within = programs(depth - 1, max(2, size - 2))
    nested = st.sampled_from(sorted(NESTED)).flatmap(
        lambda name: st.tuples(
            st.just(name), operand, operand, st.tuples(*[within] * BODIES.get(name, 1))
        )
    )
    return st.lists(flat | flat | nested, min_size=1, max_size=size).map(tuple)
