"""Six networks, each with the ways in which people write `jax.checkpoint` into them by hand.

The list of ways was written before anything was measured: see Chen et al. 2016 for every k-th layer
and for blocks of the square root's size, and JAX's guide to `jax.checkpoint` for the policies.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

POLICIES = {
    "nothing": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots without batch": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
Way = Callable[[Callable, int], Callable]


def chain(layers: Sequence[Callable], every: int | None, policy: Any) -> Callable:
    """Compose layers, every few of them a checkpoint; None: none is."""

    def run(x):
        size = every or len(layers)
        for start in range(0, len(layers), size):
            part = layers[start : start + size]

            def stretch(x, part=part):
                for layer in part:
                    x = layer(x)
                return x

            x = stretch(x) if every is None else jax.checkpoint(stretch, policy=policy)(x)
        return x

    return run


def loop(step: Callable, length: int, blocks: int | None, policy: Any, each: bool) -> Callable:
    """Scan a step, each iteration a checkpoint, or in blocks that are checkpoints."""

    def run(carry, xs):
        body = jax.checkpoint(step, policy=policy, prevent_cse=False) if each else step
        if blocks is None:
            return lax.scan(body, carry, xs, length=length)
        size = length // blocks

        def block(carry, xs):
            return lax.scan(body, carry, xs, length=size)

        divided = jax.tree.map(lambda x: x.reshape(blocks, size, *x.shape[1:]), xs)
        carry, ys = lax.scan(
            jax.checkpoint(block, prevent_cse=False), carry, divided, length=blocks
        )
        return carry, jax.tree.map(lambda y: y.reshape(length, *y.shape[2:]), ys)

    return run


def unrolled_ways(count: int) -> dict[str, tuple[int | None, Any]]:
    """Return the ways to checkpoint a chain of layers: every k, and what is stored."""
    ways: dict[str, tuple[int | None, Any]] = {"plain": (None, None)}
    for every in sorted({1, 2, 4, round(math.sqrt(count))}):
        for name, policy in POLICIES.items():
            ways[f"every {every}, {name}"] = (every, policy)
    return ways


def scanned_ways(length: int) -> dict[str, tuple[int | None, Any, bool]]:
    """Return the ways to checkpoint a scan: in blocks or not, each iteration or not."""
    root = max(d for d in range(1, length) if length % d == 0 and d * d <= 2 * length)
    ways: dict[str, tuple[int | None, Any, bool]] = {"plain": (None, None, False)}
    for name, policy in POLICIES.items():
        ways[f"each, {name}"] = (None, policy, True)
        ways[f"{root} blocks, each, {name}"] = (root, policy, True)
    ways[f"{root} blocks"] = (root, None, False)
    return ways


def normal(seed: int, *shape: int) -> jax.Array:
    """Draw numbers of deviation 1 / sqrt(inputs)."""
    return jax.random.normal(jax.random.key(seed), shape) / math.sqrt(shape[-2] if shape[1:] else 1)


def mlp() -> tuple[dict[str, Callable], tuple]:
    """24 layers of 128, a batch of 512."""

    def loss(way):
        def f(ws, x):
            layers = [lambda h, w=w: jnp.tanh(h @ w) for w in ws]
            return jnp.mean(chain(layers, *way)(x) ** 2)

        return f

    args = ([normal(i, 128, 128) for i in range(24)], normal(99, 512, 128))
    return {name: loss(way) for name, way in unrolled_ways(24).items()}, args


def resnet() -> tuple[dict[str, Callable], tuple]:
    """12 residual blocks of two 3 x 3 convolutions, 16 channels, 16 images of 16 x 16."""

    def convolve(x, w):
        return lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def loss(way):
        def f(ws, x):
            layers = [
                lambda h, a=a, b=b: h + convolve(jax.nn.relu(convolve(h, a)), b) for a, b in ws
            ]
            return jnp.mean(chain(layers, *way)(x) ** 2)

        return f

    ws = [(0.1 * normal(i, 3, 3, 16, 16), 0.1 * normal(50 + i, 3, 3, 16, 16)) for i in range(12)]
    args = (ws, normal(99, 16, 16, 16, 16))
    return {name: loss(way) for name, way in unrolled_ways(12).items()}, args


def attention_layer(x: jax.Array, w: dict[str, jax.Array]) -> jax.Array:
    """Attend with four heads, then a dense layer of twice the width; x: [batch, time, width]."""
    batch, time, width = x.shape
    q, k, v = jnp.split(x @ w["qkv"], 3, axis=-1)
    q, k, v = (y.reshape(batch, time, 4, width // 4) for y in (q, k, v))
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(width / 4))
    x = x + jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape) @ w["out"]
    return x + jax.nn.gelu(x @ w["up"]) @ w["down"]


def attention_weights(seed: int) -> dict[str, jax.Array]:
    """Draw the weights of a layer of width 64."""
    shapes = {"qkv": (64, 192), "out": (64, 64), "up": (64, 128), "down": (128, 64)}
    return {name: 0.3 * normal(seed + i, *s) for i, (name, s) in enumerate(shapes.items())}


def transformer() -> tuple[dict[str, Callable], tuple]:
    """8 layers of width 64, unrolled; 4 sequences of 64."""

    def loss(way):
        def f(ws, x):
            layers = [lambda h, w=w: attention_layer(h, w) for w in ws]
            return jnp.mean(chain(layers, *way)(x) ** 2)

        return f

    args = ([attention_weights(10 * i) for i in range(8)], normal(99, 4, 64, 64))
    return {name: loss(way) for name, way in unrolled_ways(8).items()}, args


def scanned_transformer() -> tuple[dict[str, Callable], tuple]:
    """32 layers of width 64 as a scan; 4 sequences of 64."""

    def loss(way):
        def f(ws, x):
            run = loop(lambda h, w: (attention_layer(h, w), None), 32, *way)
            return jnp.mean(run(x, ws)[0] ** 2)

        return f

    layers = [attention_weights(10 * i) for i in range(32)]
    args = (jax.tree.map(lambda *ws: jnp.stack(ws), *layers), normal(99, 4, 64, 64))
    return {name: loss(way) for name, way in scanned_ways(32).items()}, args


def lstm() -> tuple[dict[str, Callable], tuple]:
    """256 steps of an LSTM of width 64, a batch of 32."""

    def loss(way):
        def f(w, xs):
            def step(state, x):
                h, c = state
                i, o, g, r = jnp.split(jnp.concatenate([h, x], -1) @ w, 4, axis=-1)
                c = jax.nn.sigmoid(r) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                h = jax.nn.sigmoid(o) * jnp.tanh(c)
                return (h, c), None

            start = (jnp.zeros((32, 64)), jnp.zeros((32, 64)))
            return jnp.mean(loop(step, 256, *way)(start, xs)[0][0] ** 2)

        return f

    args = (normal(0, 128, 256), normal(1, 256, 32, 64))
    return {name: loss(way) for name, way in scanned_ways(256).items()}, args


def ode() -> tuple[dict[str, Callable], tuple]:
    """1,000 steps of Runge and Kutta's method of order 4 through a field with 64 hidden units."""

    def loss(way):
        def f(ws, y):
            def field(y):
                return jnp.tanh(y @ ws[0]) @ ws[1]

            def step(y, _):
                a = field(y)
                b = field(y + 0.005 * a)
                c = field(y + 0.005 * b)
                d = field(y + 0.01 * c)
                return y + 0.01 * (a + 2 * b + 2 * c + d) / 6, None

            return jnp.mean(loop(step, 1000, *way)(y, None)[0] ** 2)

        return f

    args = ((normal(0, 16, 64), normal(1, 64, 16)), normal(2, 32, 16))
    return {name: loss(way) for name, way in scanned_ways(1000).items()}, args


NETWORKS = {
    "MLP, 24 layers": mlp,
    "ResNet, 12 blocks": resnet,
    "transformer, 8 layers": transformer,
    "transformer, scan of 32": scanned_transformer,
    "LSTM, 256 steps": lstm,
    "ODE, 1,000 steps": ode,
}
