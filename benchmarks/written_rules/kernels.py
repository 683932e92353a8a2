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
