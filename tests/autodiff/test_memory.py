"""What is spread over an axis costs no more backward than what jax.grad makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fbp
from tests.support.agreement import assert_agree, assert_same, total

X = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (256, 32)), jnp.float32)
COLUMN, ROW, NUMBER = X[:, :1] + 1, X[:1] + 1, jnp.float32(1.3)
IMAGES = X.reshape(4, 8, 8, 32)


def loss(fun):
    return lambda *args: total(fun(*args)) / 1024


def attention(q, k, v):
    return jax.nn.softmax(q @ k.T / q.shape[-1] ** 0.5) @ v


def layer_norm(x, scale):
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * scale


def unet_block(x, kernel, scale):
    """Group norm, a gate, a convolution, and attention over the pixels."""
    grouped = x.reshape(4, 64, 4, 8)
    grouped = grouped - grouped.mean((1, 3), keepdims=True)
    grouped = grouped / jnp.sqrt((grouped**2).mean((1, 3), keepdims=True) + 1e-5)
    gated = jax.nn.silu(grouped.reshape(x.shape) * scale[0, None, None, None])
    dimensions = ("NHWC", "HWIO", "NHWC")
    h = x + lax.conv_general_dilated(gated, kernel, (1, 1), "SAME", dimension_numbers=dimensions)
    pixels = h.reshape(4, 64, 32)
    scores = jnp.einsum("bqc,bkc->bqk", pixels, pixels) / 32**0.5
    return pixels + jnp.einsum("bqk,bkc->bqc", jax.nn.softmax(scores), pixels)


KERNEL = jnp.asarray(np.random.default_rng(1).normal(0, 0.05, (3, 3, 32, 32)), jnp.float32)

PROGRAMS = {
    "x / column": (loss(lax.div), X, COLUMN),
    "x / row": (loss(lax.div), X, ROW),
    "x / number": (loss(lambda x, y: x / y), X, NUMBER),
    "x / (1 + column^2)": (loss(lambda x, y: x / (1 + y * y)), X, COLUMN),
    "x / norm": (loss(lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)), X),
    "softmax": (loss(jax.nn.softmax), X),
    "softmax at a temperature": (loss(lambda x, t: jax.nn.softmax(x / t)), X, NUMBER),
    "log softmax at a temperature": (loss(lambda x, t: jax.nn.log_softmax(x / t)), X, NUMBER),
    "attention": (loss(attention), X, X + 1, 2 * X),
    "layer norm": (loss(layer_norm), X, ROW),
    "U-Net block": (loss(unet_block), IMAGES, KERNEL, ROW),
    "pow": (loss(lax.pow), X, COLUMN),
    "pow of a column": (loss(lax.pow), COLUMN, X),
    "atan2": (loss(lax.atan2), X, COLUMN),
    "hypot": (loss(jnp.hypot), X, COLUMN),
    "max": (loss(lax.max), X, COLUMN),
    "logaddexp": (loss(jnp.logaddexp), X, COLUMN),
    "rem": (loss(lax.rem), X, COLUMN),
    "clamp": (loss(lambda x, low: jnp.clip(x, low, low + 0.5)), X, COLUMN - 1.2),
    "complex": (loss(lambda x, y: jnp.abs(lax.complex(x, y))), X, COLUMN),
    "normal density": (loss(jax.scipy.stats.norm.logpdf), X, COLUMN, ROW),
    "Student's density": (loss(lambda x, s: jax.scipy.stats.t.logpdf(x, 3.0, 0.0, s)), X, COLUMN),
}


def compiled(library, fun, args):
    gradient = library.value_and_grad(fun, tuple(range(len(args))))
    return jax.jit(gradient).lower(*args).compile()


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_spread_costs_no_more_than_in_jax(name):
    fun, *args = PROGRAMS[name]
    ours, theirs = (compiled(library, fun, args) for library in (fbp, jax))
    assert_same(ours(*args), theirs(*args), tolerance=4096)
    temporary = [c.memory_analysis().temp_size_in_bytes for c in (ours, theirs)]
    accessed = [c.cost_analysis()["bytes accessed"] for c in (ours, theirs)]
    slack = 256  # XLA aligns its buffers
    assert temporary[0] <= 1.05 * temporary[1] + slack
    assert accessed[0] <= 1.05 * accessed[1]


def test_tanh_is_not_kept_for_two_uses_of_its_slope():
    def temporary(library):
        gradient = library.grad(lambda x: jnp.sum(jnp.tanh(x * x[:1])))
        return jax.jit(gradient).lower(IMAGES).compile().memory_analysis().temp_size_in_bytes

    assert temporary(fbp) <= 1.05 * temporary(jax)


DENOMINATORS = {"column": (8, 1), "row": (1, 3), "number": ()}


@pytest.mark.parametrize("size", [1e25, 1e-25])
@pytest.mark.parametrize("name", DENOMINATORS)
def test_a_quotient_keeps_its_range(name, size):
    """1 / y^2 would be 0 or infinite."""
    x = jnp.linspace(1, 2, 24, dtype=jnp.float32).reshape(8, 3)
    y = jnp.linspace(1, 1.5, 8, dtype=jnp.float32)[: np.prod(DENOMINATORS[name], dtype=int)]
    y = y.reshape(DENOMINATORS[name])
    slopes = fbp.grad(lambda x, y: jnp.sum(jnp.sin(x / y)), (0, 1))(x * size, y * size)
    want = jax.grad(lambda x, y: jnp.sum(jnp.sin(x / y)), (0, 1))(x, y)
    assert_same(slopes, jax.tree.map(lambda g: g / jnp.float32(size), want), tolerance=64)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
@pytest.mark.parametrize("name", DENOMINATORS)
def test_a_quotient_has_the_same_derivatives(name, dtype):
    x = jnp.linspace(1, 2, 24, dtype=dtype).reshape(8, 3)
    y = jnp.linspace(1, 1.5, 8, dtype=dtype)[: np.prod(DENOMINATORS[name], dtype=int)]
    y = y.reshape(DENOMINATORS[name])
    holomorphic = {"holomorphic": dtype == "complex64"}

    def of_denominator(y):
        return jnp.sum(jnp.sin(x / y))

    def derivatives(library):
        slope = library.grad(of_denominator, **holomorphic)
        curvature = library.grad(lambda y: jnp.sum(slope(y) ** 2), **holomorphic)
        return lambda y, batch: (slope(y), curvature(y), jax.vmap(slope)(batch))

    batch, tolerance = jnp.stack([y, y + 1]), 64 if dtype != "bfloat16" else 8
    assert_agree(derivatives(fbp), derivatives(jax), y, batch, tolerance=tolerance)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["softmax at a temperature", "layer norm", "attention"])
def test_normalizations_have_the_same_second_derivatives(name):
    fun, *args = PROGRAMS[name]
    args = [jnp.asarray(a, "float64")[:6] if jnp.ndim(a) else jnp.float64(a) for a in args]

    def product(library):
        def along(x, *rest):
            return library.vjp(lambda x: library.grad(fun)(x, *rest), x)[1](x)

        return along

    assert_agree(product(fbp), product(jax), *args, tolerance=65536)
