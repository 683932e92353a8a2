"""Networks: an MLP, a ResNet block, transformer blocks, an LSTM, and a layer repeated."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.program import Program, weight


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross-entropy with labels 0, 1, 2, ..., as indicators."""
    return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits) * labels, axis=-1))


def one_hot(n: int, classes: int) -> jax.Array:
    """Labels 0, 1, 2, ..., as indicators."""
    return jax.nn.one_hot(jnp.arange(n) % classes, classes)


def mlp(layers: int = 20, width: int = 128, batch: int = 64) -> Program:
    """20 layers of width 128, batch 64."""
    params = [{"w": weight(i, width, width), "b": jnp.zeros(width)} for i in range(layers)]

    def loss(params, x, labels):
        for layer in params:
            x = jnp.tanh(x @ layer["w"] + layer["b"][None])
        return cross_entropy(x, labels)

    return Program(loss, params, (weight(100, batch, width), one_hot(batch, width)))


def cnn(size: int = 28, channels: int = 32, batch: int = 32) -> Program:
    """Make a ResNet block of 32 channels between two pooled convolutions, 28 x 28, batch 32."""
    params = {
        "stem": weight(0, 3, 3, 1, channels),
        "first": weight(1, 3, 3, channels, channels),
        "second": weight(2, 3, 3, channels, channels),
        "scale": jnp.ones(channels),
        "shift": jnp.zeros(channels),
        "head": weight(3, (size // 4) ** 2 * channels, 10),
    }

    def conv(x, w):
        return lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def pool(x):
        window = (1, 2, 2, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")

    def normalize(x, scale, shift):
        x = (x - x.mean((1, 2), keepdims=True)) * lax.rsqrt(x.var((1, 2), keepdims=True) + 1e-5)
        return x * scale[None, None, None] + shift[None, None, None]

    def loss(params, x, labels):
        x = pool(jax.nn.relu(conv(x, params["stem"])))
        h = jax.nn.relu(normalize(conv(x, params["first"]), params["scale"], params["shift"]))
        x = pool(jax.nn.relu(x + conv(h, params["second"])))
        return cross_entropy(x.reshape(x.shape[0], -1) @ params["head"], labels)

    return Program(loss, params, (weight(100, batch, size, size, 1), one_hot(batch, 10)))


def transformer(
    blocks: int = 2, width: int = 128, heads: int = 4, tokens: int = 64, batch: int = 8
) -> Program:
    """Two pre-norm blocks of width 128 with 4 heads, 64 tokens, batch 8."""
    params = [
        {
            "qkv": weight(10 * i, width, 3 * width),
            "out": weight(10 * i + 1, width, width),
            "up": weight(10 * i + 2, width, 4 * width),
            "down": weight(10 * i + 3, 4 * width, width),
            "scale1": jnp.ones(width),
            "scale2": jnp.ones(width),
        }
        for i in range(blocks)
    ]

    def norm(x, scale):
        x = x - x.mean(-1, keepdims=True)
        return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * scale[None, None]

    def attention(x, qkv, out):
        q, k, v = jnp.split(x @ qkv, 3, axis=-1)
        split = (batch, tokens, heads, width // heads)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q.reshape(split), k.reshape(split))
        mask = jnp.tril(jnp.ones((1, 1, tokens, tokens), bool))
        weights = jax.nn.softmax(jnp.where(mask, scores * (width // heads) ** -0.5, -1e30))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v.reshape(split))
        return mixed.reshape(batch, tokens, width) @ out

    def loss(params, x, labels):
        for block in params:
            x = x + attention(norm(x, block["scale1"]), block["qkv"], block["out"])
            x = x + jax.nn.gelu(norm(x, block["scale2"]) @ block["up"]) @ block["down"]
        return cross_entropy(x, labels)

    labels = jnp.broadcast_to(one_hot(tokens, width), (batch, tokens, width))
    return Program(loss, params, (weight(100, batch, tokens, width), labels))


def lstm(steps: int = 256, width: int = 64, batch: int = 32) -> Program:
    """One LSTM of width 64 over 256 steps, batch 32."""
    params = {
        "x": weight(0, width, 4 * width),
        "h": weight(1, width, 4 * width),
        "b": jnp.zeros(4 * width),
        "out": weight(2, width, 10),
    }

    def loss(params, xs, labels):
        def cell(carry, x):
            h, c = carry
            gates = x @ params["x"] + h @ params["h"] + params["b"][None]
            i, f, g, o = jnp.split(gates, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        start = jnp.zeros((batch, width))
        _, hs = lax.scan(cell, (start, start), xs)
        return cross_entropy(hs @ params["out"], labels)

    labels = jnp.broadcast_to(one_hot(batch, 10), (steps, batch, 10))
    return Program(loss, params, (weight(100, steps, batch, width), labels), scans=True)


def repeated(repeats: int = 64, width: int = 64, batch: int = 64) -> Program:
    """One jitted residual layer called 64 times, each time with its own parameters."""
    params = [
        {"w": weight(i, width, width), "b": jnp.zeros(width), "scale": jnp.ones(width)}
        for i in range(repeats)
    ]

    def loss(params, x, labels):
        @jax.jit
        def layer(x, params):
            h = x - x.mean(-1, keepdims=True)
            h = h * lax.rsqrt((h * h).mean(-1, keepdims=True) + 1e-5) * params["scale"][None]
            return x + 0.1 * jnp.tanh(h @ params["w"] + params["b"][None])

        for weights in params:
            x = layer(x, weights)
        return cross_entropy(x, labels)

    return Program(loss, params, (weight(100, batch, width), one_hot(batch, width)))
