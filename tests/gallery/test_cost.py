"""What norms of single examples cost, by the compiled programs' own analysis."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbp import gallery

WIDTHS = (64, 128, 128, 32)


def mlp(params, x):
    for w, b in params[:-1]:
        x = jnp.tanh(x @ w + b[None])
    w, b = params[-1]
    return x @ w + b[None]


def loss(params, x):
    return jnp.mean(jnp.sum(mlp(params, x) ** 2, -1))


def params(widths=WIDTHS):
    rng = np.random.default_rng(0)
    f32 = lambda *shape: jnp.asarray(rng.normal(size=shape) / 10, jnp.float32)
    return [(f32(d, p), f32(p)) for d, p in pairwise(widths)]


def cost(fun, *args):
    compiled = jax.jit(fun).lower(*args).compile()
    return compiled.cost_analysis()["flops"], compiled.memory_analysis().temp_size_in_bytes


def both(params, *batch):
    batched = gallery.examples(loss, params, *batch)
    return batched.mean(), batched.norms()


@pytest.mark.optimized
@pytest.mark.parametrize("fun", [gallery.per_example_norms(loss), both], ids=["norms", "both"])
def test_norms_of_dense_layers_cost_one_gradient(fun):
    x = jnp.ones((256, WIDTHS[0]))
    flops, memory = cost(jax.grad(loss), params(), x)
    measured = cost(fun, params(), x)
    assert measured[0] <= 1.05 * flops
    assert measured[1] <= 2 * memory


def sum_of_layer(params, x):
    return jnp.mean(jnp.sum((x @ params) ** 2, axis=tuple(range(1, x.ndim))))


@pytest.mark.optimized
@pytest.mark.parametrize(("t", "d", "p"), [(4, 64, 96), (16, 48, 64), (128, 24, 32), (64, 8, 8)])
def test_norms_with_a_sequence_cost_the_cheaper_way(t, d, p):
    """Beside the backward pass to the layer's output, which the gradient needs too."""
    n, w = 8, jnp.ones((d, p))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(n, t, d)), jnp.float32)
    flops, _ = cost(gallery.per_example_norms(sum_of_layer), w, x)
    rest, _ = cost(lambda w, x: 2 * (x @ w), w, x)
    elementwise = 4 * n * t * p
    assert flops - rest - elementwise <= 1.1 * 2 * n * min(t**2 * (d + p), t * d * p)


def conv(w, x):
    y = jax.lax.conv_general_dilated(
        x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.mean(jnp.sum(y**2, axis=(1, 2, 3)))


@pytest.mark.optimized
@pytest.mark.parametrize(("size", "c", "p"), [(5, 16, 32), (14, 8, 16)])
def test_norms_of_a_convolution_cost_the_cheaper_way(size, c, p):
    n, t, d = 4, (size - 2) ** 2, 9 * c
    x = jnp.asarray(np.random.default_rng(0).normal(size=(n, size, size, c)), jnp.float32)
    w = jnp.ones((3, 3, c, p))
    flops, _ = cost(gallery.per_example_norms(conv), w, x)
    output = 2 * n * t * d * p + 4 * n * t * p
    assert flops - output <= 1.1 * 2 * n * min(t**2 * (d + p), t * d * p)
