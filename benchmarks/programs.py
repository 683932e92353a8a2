"""The losses whose gradients are timed: an MLP, a CNN, a transformer block and an LSTM."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Params = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """A loss, made anew for each measurement so that no trace of it is cached, and its inputs."""

    name: str
    make: Callable[[], Callable[..., jax.Array]]
    params: Params
    batch: tuple[jax.Array, ...]


def _normal(seed: int, *shape: int) -> jax.Array:
    scale = shape[-2] ** -0.5 if len(shape) > 1 else 0.1
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, shape), jnp.float32)


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    log_probabilities = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.sum(log_probabilities * labels, axis=-1))


def _one_hot(n: int, classes: int) -> jax.Array:
    return jax.nn.one_hot(jnp.arange(n) % classes, classes)


def mlp() -> Program:
    """20 layers of width 128, batch 64."""
    params = {f"{i}": {"w": _normal(i, 128, 128), "b": jnp.zeros(128)} for i in range(20)}

    def make():
        def loss(params, x, labels):
            for layer in params.values():
                x = jnp.tanh(x @ layer["w"] + layer["b"])
            return _cross_entropy(x, labels)

        return loss

    return Program("mlp", make, params, (_normal(100, 64, 128), _one_hot(64, 128)))


def cnn() -> Program:
    """A ResNet block of 32 channels between two pooled convolutions, 28 x 28 images, batch 32."""
    params = {
        "stem": _normal(0, 3, 3, 1, 32),
        "first": _normal(1, 3, 3, 32, 32),
        "second": _normal(2, 3, 3, 32, 32),
        "scale": jnp.ones(32),
        "shift": jnp.zeros(32),
        "head": _normal(3, 7 * 7 * 32, 10),
    }

    def conv(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def pool(x):
        window = (1, 2, 2, 1)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")

    def normalise(x, scale, shift):
        x = (x - x.mean((1, 2), keepdims=True)) * jax.lax.rsqrt(x.var((1, 2), keepdims=True) + 1e-5)
        return x * scale + shift

    def make():
        def loss(params, x, labels):
            x = pool(jax.nn.relu(conv(x, params["stem"])))
            h = jax.nn.relu(normalise(conv(x, params["first"]), params["scale"], params["shift"]))
            x = pool(jax.nn.relu(x + conv(h, params["second"])))
            return _cross_entropy(x.reshape(x.shape[0], -1) @ params["head"], labels)

        return loss

    images = _normal(100, 32, 28, 28, 1)
    return Program("cnn", make, params, (images, _one_hot(32, 10)))


def transformer() -> Program:
    """Two pre-norm blocks of width 128 with 4 heads, 64 tokens, batch 8."""
    width, heads, tokens = 128, 4, 64
    params = {
        f"{i}": {
            "qkv": _normal(10 * i, width, 3 * width),
            "out": _normal(10 * i + 1, width, width),
            "up": _normal(10 * i + 2, width, 4 * width),
            "down": _normal(10 * i + 3, 4 * width, width),
            "scale1": jnp.ones(width),
            "scale2": jnp.ones(width),
        }
        for i in range(2)
    }

    def norm(x, scale):
        x = x - x.mean(-1, keepdims=True)
        return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * scale

    def attention(x, qkv, out):
        batch = x.shape[0]
        q, k, v = jnp.split(x @ qkv, 3, axis=-1)
        split = (batch, tokens, heads, width // heads)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q.reshape(split), k.reshape(split))
        mask = jnp.tril(jnp.ones((tokens, tokens), bool))
        weights = jax.nn.softmax(jnp.where(mask, scores * (width // heads) ** -0.5, -1e30))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v.reshape(split))
        return mixed.reshape(batch, tokens, width) @ out

    def make():
        def loss(params, x, labels):
            for block in params.values():
                x = x + attention(norm(x, block["scale1"]), block["qkv"], block["out"])
                x = x + jax.nn.gelu(norm(x, block["scale2"]) @ block["up"]) @ block["down"]
            return _cross_entropy(x, labels)

        return loss

    labels = jnp.broadcast_to(_one_hot(tokens, width), (8, tokens, width))
    return Program("transformer", make, params, (_normal(100, 8, tokens, width), labels))


def lstm() -> Program:
    """One LSTM of width 64 over 128 steps, batch 32."""
    steps, batch, width = 128, 32, 64
    params = {
        "x": _normal(0, width, 4 * width),
        "h": _normal(1, width, 4 * width),
        "b": jnp.zeros(4 * width),
        "out": _normal(2, width, 10),
    }

    def make():
        def loss(params, xs, labels):
            def cell(carry, x):
                h, c = carry
                gates = x @ params["x"] + h @ params["h"] + params["b"]
                i, f, g, o = jnp.split(gates, 4, axis=-1)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                h = jax.nn.sigmoid(o) * jnp.tanh(c)
                return (h, c), h

            start = jnp.zeros((batch, width))
            _, hs = jax.lax.scan(cell, (start, start), xs)
            return _cross_entropy(hs @ params["out"], labels)

        return loss

    labels = jnp.broadcast_to(_one_hot(batch, 10), (steps, batch, 10))
    return Program("lstm", make, params, (_normal(100, steps, batch, width), labels))


PROGRAMS: tuple[Callable[[], Program], ...] = (mlp, cnn, transformer, lstm)
