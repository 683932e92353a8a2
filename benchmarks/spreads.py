"""Losses in which a sum, a scale or a temperature, of size 1 along an axis, is spread over it."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.program import Program, normal, weight


def softmax(rows: int = 512, columns: int = 64) -> Program:
    """Make the softmax of 512 rows."""
    return Program(lambda x: jnp.mean(jnp.sin(jax.nn.softmax(x))), normal(0, rows, columns))


def temperature(rows: int = 512, columns: int = 64) -> Program:
    """Make the softmax of 512 rows at a temperature that is learned."""
    params = {"x": normal(0, rows, columns), "temperature": jnp.float32(1.3)}

    def loss(params):
        return jnp.mean(jnp.sin(jax.nn.softmax(params["x"] / params["temperature"])))

    return Program(loss, params, ulps=1024)


def attention(tokens: int = 512, width: int = 64) -> Program:
    """One head of attention over 512 tokens."""
    params = {name: normal(i, tokens, width) for i, name in enumerate("qkv")}

    def loss(params):
        weights = jax.nn.softmax(params["q"] @ params["k"].T * width**-0.5)
        return jnp.mean(jnp.sin(weights @ params["v"]))

    return Program(loss, params, ulps=1024)


def layer_norm(rows: int = 512, columns: int = 64) -> Program:
    """Layer normalization of 512 rows, by the standard deviation as the denominator."""
    params = {"x": normal(0, rows, columns), "scale": jnp.ones((1, columns))}

    def loss(params):
        x = params["x"] - params["x"].mean(-1, keepdims=True)
        x = x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
        return jnp.mean(jnp.sin(x * params["scale"]))

    return Program(loss, params, ulps=1024)


def unet_block(size: int = 16, channels: int = 32, batch: int = 4, groups: int = 8) -> Program:
    """Make the block of a diffusion U-Net: group norms, convolutions, the embedding of time, and
    attention over 16 x 16 pixels of 32 channels, batch 4."""
    params = {
        "first": weight(0, 3, 3, channels, channels),
        "second": weight(1, 3, 3, channels, channels),
        "time": weight(2, channels, channels),
        "qkv": weight(3, channels, 3 * channels),
        "out": weight(4, channels, channels),
        "scales": jnp.ones((3, channels)),
    }

    def norm(x, scale):
        grouped = x.reshape(batch, size * size, groups, channels // groups)
        grouped = grouped - grouped.mean((1, 3), keepdims=True)
        grouped = grouped / jnp.sqrt((grouped**2).mean((1, 3), keepdims=True) + 1e-5)
        return grouped.reshape(x.shape) * scale[None, None, None]

    def conv(x, w):
        return lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def attend(x, qkv, out):
        q, k, v = jnp.split(x.reshape(batch, size * size, channels) @ qkv, 3, axis=-1)
        scores = jnp.einsum("bqc,bkc->bqk", q, k) / channels**0.5
        return (jnp.einsum("bqk,bkc->bqc", jax.nn.softmax(scores), v) @ out).reshape(x.shape)

    def loss(params, x, time):
        first, second, third = params["scales"]
        h = conv(jax.nn.silu(norm(x, first)), params["first"])
        h = h + (jax.nn.silu(time) @ params["time"])[:, None, None]
        h = x + conv(jax.nn.silu(norm(h, second)), params["second"])
        h = h + attend(norm(h, third), params["qkv"], params["out"])
        return jnp.mean(h * h)

    data = (normal(5, batch, size, size, channels), normal(6, batch, channels))
    return Program(loss, params, data, ulps=1024)
