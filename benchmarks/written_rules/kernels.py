"""Pallas kernels, and functions of the host, which have no derivative but the stated one."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from benchmarks.written_rules.row import Case, custom, normal, row

FORWARD = "https://github.com/jax-ml/jax/issues/21855"
NPU = "https://github.com/linkedin/Liger-Kernel/pull/1222"
DSL = "https://github.com/Dao-AILab/flash-attention/issues/1915"
HOST = "https://docs.jax.dev/en/latest/external-callbacks.html"


def kernel(body, *xs):
    """Run a kernel whose result is like its first operand."""
    shape = jax.ShapeDtypeStruct(xs[0].shape, xs[0].dtype)
    return pl.pallas_call(body, out_shape=shape, interpret=True)(*xs)


@row("sine", "a factor in the derivative of a kernel", FORWARD)
def kernel_forward(wrong):
    def sine_kernel(x, o):
        o[...] = jnp.sin(x[...])

    def sine(x):
        return kernel(sine_kernel, x)

    f = custom(sine, lambda kept, g: (g * (1.1 if wrong else 1.0) * jnp.cos(kept[0]),))
    return Case(lambda x: jnp.sum(f(x) ** 2), (normal(0, 5),))


@row("gelu", "the kernel of the backward pass leaves out a term", DSL)
def kernel_backward(wrong):
    def gelu(x):
        return x * jax.nn.sigmoid(1.702 * x)

    def slope_kernel(x, g, o):
        s = jax.nn.sigmoid(1.702 * x[...])
        term = 0.0 if wrong else 1.702 * x[...] * s * (1 - s)
        o[...] = g[...] * (s + term)

    f = custom(gelu, lambda kept, g: (kernel(slope_kernel, kept[0], g),))
    return Case(lambda x: jnp.sum(f(x) ** 2), (normal(0, 6),))


@row("product", "both kernels, and the first operand's cotangent is not transposed", NPU)
def kernels_of_a_product(wrong):
    def product_kernel(a, b, o):
        o[...] = a[...] @ b[...]

    def product(a, b):
        return kernel(product_kernel, a, b)

    def bwd(kept, g):
        a, b = kept
        return kernel(product_kernel, g, b if wrong else b.T), kernel(product_kernel, a.T, g)

    f = custom(product, bwd)
    return Case(lambda a, b: jnp.sum(jnp.tanh(f(a, b))), (normal(0, 3, 3), normal(1, 3, 3)))


@row("softmax", "the kernel ignores the cotangent's row sums", DSL)
def kernel_of_a_softmax(wrong):
    def softmax_kernel(x, o):
        e = jnp.exp(x[...] - jnp.max(x[...], -1, keepdims=True))
        o[...] = e / jnp.sum(e, -1, keepdims=True)

    def softmax(x):
        return kernel(softmax_kernel, x)

    def bwd(kept, g):
        y = softmax(kept[0])
        return (y * (g - (0.0 if wrong else jnp.sum(g * y, -1, keepdims=True))),)

    f, w = custom(softmax, bwd), normal(1, 4, 5)
    return Case(jax.jit(lambda x: jnp.sum(w * f(x))), (normal(0, 4, 5),))


@row("host_tanh", "a factor in the derivative of a function of the host", HOST)
def host_function(wrong):
    def host_tanh(x):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(
            lambda x: np.tanh(np.asarray(x)), shape, x, vmap_method="sequential"
        )

    def bwd(kept, g):
        y = host_tanh(kept[0])
        return (g * (1 - y * y) * (0.9 if wrong else 1.0),)

    f = custom(host_tanh, bwd)
    return Case(lambda x: jnp.sum(f(x) ** 2), (normal(0, 4),))


@row(
    "flash", "a factor in the keys' cotangent, in bfloat16, of blocks and a running maximum", DSL, 1
)
def kernel_of_attention_in_bfloat16(wrong):
    def flash_kernel(q, k, v, o):
        def block(i, state):
            total, highest, weight = state
            keys, values = (x[pl.ds(8 * i, 8), :].astype(jnp.float32) for x in (k, v))
            s = q[...].astype(jnp.float32) @ keys.T
            now = jnp.maximum(highest, s.max(-1))
            p, again = jnp.exp(s - now[:, None]), jnp.exp(highest - now)
            return total * again[:, None] + p @ values, now, weight * again + p.sum(-1)

        n = q.shape[0]
        start = jnp.zeros((n, 4)), jnp.full((n,), -jnp.inf), jnp.zeros((n,))
        total, _, weight = jax.lax.fori_loop(0, k.shape[0] // 8, block, start)
        o[...] = (total / weight[:, None]).astype(o.dtype)

    rows = pl.BlockSpec((8, 4), lambda i: (i, 0))
    every = pl.BlockSpec((16, 4), lambda _: (0, 0))

    def flash(q, k, v):
        shape = jax.ShapeDtypeStruct(q.shape, q.dtype)
        specs = {"in_specs": [rows, every, every], "out_specs": rows}
        return pl.pallas_call(flash_kernel, shape, grid=(2,), interpret=True, **specs)(q, k, v)

    def bwd(kept, g):
        q, k, v, g = (x.astype(jnp.float32) for x in (*kept, g))
        p = jax.nn.softmax(q @ k.T)
        dp = g @ v.T
        ds = p * (dp - jnp.sum(dp * p, -1, keepdims=True))
        cts = ds @ k, ds.T @ q * (0.9 if wrong else 1.0), p.T @ g
        return tuple(x.astype(jnp.bfloat16) for x in cts)

    f = custom(flash, bwd)
    args = tuple(normal(i, 16, 4, dtype=jnp.bfloat16) for i in range(3))
    return Case(lambda q, k, v: jnp.sum(f(q, k, v).astype(jnp.float32) ** 2), args)


@row("bell", "one entry of 1024 is half as large", DSL)
def one_entry_of_a_kernel(wrong):
    def bell_kernel(x, o):
        o[...] = jnp.exp(-(x[...] ** 2))

    def bell(x):
        return kernel(bell_kernel, x)

    def bwd(kept, g):
        (x,) = kept
        return ((-2 * g * x * jnp.exp(-(x**2))).at[-1, -1].multiply(0.5 if wrong else 1.0),)

    f = custom(bell, bwd)
    return Case(lambda x: jnp.sum(1.5 * f(x)), (normal(0, 32, 32),))


@row("host_sine", "50 of 600 entries are zero, of a function of the host", HOST)
def some_entries_of_a_host_function(wrong):
    def host_sine(x):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(
            lambda x: np.sin(np.asarray(x)), shape, x, vmap_method="sequential"
        )

    def bwd(kept, g):
        return ((g * jnp.cos(kept[0])).at[-50:].multiply(0.0 if wrong else 1.0),)

    f = custom(host_sine, bwd)
    return Case(lambda x: jnp.sum(f(x)), (normal(0, 600),))
