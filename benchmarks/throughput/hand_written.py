"""The same trials written by hand with jax.grad and optax, in every way that JAX offers.

Each run gives the trained parameters.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from benchmarks.throughput.work import B1, B2, CLASSES, EPSILON, Work


def jit_vmap(work: Work) -> Callable[[], Any]:
    """jit(vmap(scan)): all trials side by side."""
    return _compiled(work, jax.vmap(_trial(work), in_axes=(0, 0, 0, None, None)))


def jit_map(work: Work) -> Callable[[], Any]:
    """jit(lax.map(scan)): one trial after another, in one program."""
    return _compiled(work, functools.partial(_mapped, _trial(work)))


def shard_vmap(work: Work) -> Callable[[], Any]:
    """jit(shard_map(vmap(scan))): the trials divided over the devices, side by side on each."""
    return _compiled(work, _sharded(jax.vmap(_trial(work), in_axes=(0, 0, 0, None, None))))


def shard_map(work: Work) -> Callable[[], Any]:
    """jit(shard_map(lax.map(scan))): the trials divided over the devices, in a loop on each."""
    return _compiled(work, _sharded(functools.partial(_mapped, _trial(work))))


def jit_scan(work: Work) -> Callable[[], Any]:
    """jit(scan), called for one trial after another."""
    train, data = jax.jit(_trial(work)), (jnp.asarray(work.x), jnp.asarray(work.y))
    keys, rates, orders = _arguments(work)

    def run() -> list[Any]:
        return [
            jax.block_until_ready(train(*trial, *data))
            for trial in zip(keys, rates, orders, strict=True)
        ]

    return run


def python_loop(work: Work) -> Callable[[], Any]:
    """Call a jitted step in a Python loop, its state donated; some of the trials."""
    x, y = jnp.asarray(work.x), jnp.asarray(work.y)
    step = jax.jit(_step(work), donate_argnums=(0, 1))
    init = jax.jit(functools.partial(parameters, work))

    def train(rate: float, seed: int) -> Any:
        params = init(jax.random.key(seed))
        state = _adam(rate).init(params)
        for index in work.orders[seed]:
            params, state = step(params, state, rate, x[index], y[index])
        return jax.block_until_ready(params)

    return lambda: [train(*trial) for trial in work.some_trials]


def _compiled(work: Work, train: Callable[..., Any]) -> Callable[[], Any]:
    call = jax.jit(train)
    arguments = (*_arguments(work), jnp.asarray(work.x), jnp.asarray(work.y))

    return lambda: jax.block_until_ready(call(*arguments))


def _arguments(work: Work) -> tuple[Any, Any, Any]:
    rates, seeds = (np.array(column) for column in zip(*work.trials, strict=True))
    keys = jax.vmap(jax.random.key)(seeds)
    return keys, jnp.asarray(rates, jnp.float32), jnp.asarray(work.orders[seeds])


def _mapped(train: Callable[..., Any], keys: Any, rates: Any, orders: Any, x: Any, y: Any) -> Any:
    return jax.lax.map(lambda trial: train(*trial, x, y), (keys, rates, orders))


def _sharded(train: Callable[..., Any]) -> Callable[..., Any]:
    mesh = Mesh(np.array(jax.devices()), ("trials",))
    over = P("trials")
    specs = (over, over, over, P(), P())
    return jax.shard_map(train, mesh=mesh, in_specs=specs, out_specs=over, check_vma=False)


def _trial(work: Work) -> Callable[..., Any]:
    step = _step(work)

    def train(key: Any, rate: Any, order: Any, x: Any, y: Any) -> Any:
        params = parameters(work, key)

        def body(carry: Any, index: Any) -> Any:
            return step(*carry, rate, x[index], y[index]), None

        (params, _), _ = jax.lax.scan(body, (params, _adam(rate).init(params)), order)
        return params

    return train


def _step(work: Work) -> Callable[..., Any]:
    def loss(params: Any, x: Any, y: Any) -> Any:
        logits = _forward(work, params, x)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))

    def step(params: Any, state: Any, rate: Any, x: Any, y: Any) -> Any:
        grads = jax.grad(loss)(params, x, y)
        updates, state = _adam(rate).update(grads, state)
        return optax.apply_updates(params, updates), state

    return step


def _adam(rate: Any) -> optax.GradientTransformation:
    return optax.adam(rate, b1=B1, b2=B2, eps=EPSILON)


def parameters(work: Work, key: Any) -> dict[str, Any]:
    """Draw a trial's parameters before its first step as fbp draws them."""
    shapes = {"hidden": (work.features, work.hidden), "out": (work.hidden, CLASSES)}
    if work.kind == "cnn":
        a, b = work.channels
        shapes |= {"conv1": (3, 3, 1, a), "conv2": (3, 3, a, b)}
    keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
    draw = jax.nn.initializers.lecun_normal()
    return {
        name: {"w": draw(keys[name], shape), "b": jnp.zeros(shape[-1])}
        for name, shape in shapes.items()
    }


def _forward(work: Work, params: dict[str, Any], x: Any) -> Any:
    if work.kind == "cnn":
        for name in ("conv1", "conv2"):
            y = jax.lax.conv_general_dilated(
                x, params[name]["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            y = jax.nn.relu(y + params[name]["b"][None, None, None])
            window = (1, 2, 2, 1)
            x = jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, window, window, "VALID")
        x = x.reshape(len(x), -1)
    hidden = jax.nn.relu(x @ params["hidden"]["w"] + params["hidden"]["b"][None])
    return hidden @ params["out"]["w"] + params["out"]["b"][None]
