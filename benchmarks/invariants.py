"""Scans whose bodies make something that no step changes, within a jit, a cond or another scan."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.program import Program, normal, weight


def _iterated(step, state: jax.Array, steps: int) -> jax.Array:
    """Return the mean square of the state after some steps."""
    state, _ = lax.scan(lambda state, _: (step(state), None), state, None, length=steps)
    return jnp.mean(state * state)


def implicit_euler(steps: int = 1000, size: int = 100) -> Program:
    """1,000 implicit Euler steps of a linear system of 100 unknowns, by `jnp.linalg.solve`."""

    def loss(state, matrix):
        return _iterated(lambda c: jnp.linalg.solve(matrix, c), state, steps)

    matrix = 1.01 * jnp.eye(size) + 0.001 * normal(0, size, size)
    return Program(loss, normal(1, size), (matrix,), ulps=4096)


def spectral(steps: int = 256, size: int = 256, batch: int = 8) -> Program:
    """256 steps of a linear wave by Fourier multipliers, 256 points, 8 waves."""
    params = {
        "state": normal(0, batch, size),
        "symbol": 1 + normal(1, 1, size // 2 + 1, scale=0.01),
    }

    def loss(params):
        def step(c):
            return jnp.fft.irfft(jnp.fft.rfft(c) * params["symbol"].astype(jnp.complex64), size)

        return _iterated(step, params["state"], steps)

    return Program(loss, params, ulps=4096)


def masked_steps(steps: int = 256, size: int = 256, batch: int = 8) -> Program:
    """256 damped steps in a fixed part of the state, chosen by a jitted `where`."""
    params = {"state": normal(0, batch, size), "rate": 0.5 + normal(1, batch, size, scale=0.1)}
    inside = normal(2, batch, size) > 0
    chosen = jax.jit(lambda mask, x, rate: jnp.where(mask, x * rate, jnp.sin(x)))

    def loss(params):
        return _iterated(lambda x: chosen(inside, x, params["rate"]), params["state"], steps)

    return Program(loss, params)


def weight_norm(steps: int = 128, width: int = 64, batch: int = 8) -> Program:
    """128 steps of a recurrent layer whose weights a jitted function normalizes, width 64."""
    params = {"v": weight(0, width, width), "g": 1 + normal(1, 1, width, scale=0.1)}
    normalized = jax.jit(lambda v, g: g * v / jnp.linalg.norm(v, axis=0, keepdims=True))

    def loss(params, h):
        return _iterated(lambda h: jnp.tanh(h @ normalized(**params)), h, steps)

    return Program(loss, params, (normal(2, batch, width),), ulps=4096)


def chosen_once(steps: int = 128, width: int = 64, batch: int = 8) -> Program:
    """128 steps of a recurrent layer whose weights a cond chooses and softplus makes positive."""
    params = {"w": weight(0, width, width), "sign": jnp.ones(())}

    def loss(params, h):
        def step(h):
            positive = jax.nn.softplus(params["w"]) / width
            w = lax.cond(params["sign"] > 0, lambda w: w @ w, jnp.sin, positive)
            return jnp.tanh(h @ (w - jax.nn.logsumexp(params["w"]) / width))

        return _iterated(step, h, steps)

    return Program(loss, params, (normal(2, batch, width),), ulps=4096)


def nested_scans(steps: int = 64, inner: int = 4, width: int = 64, batch: int = 8) -> Program:
    """64 times 4 steps of a recurrent layer whose weights are a product that no step changes."""
    params = {"a": weight(0, width, width), "b": weight(1, width, width)}
    product = jax.jit(lambda a, b: jnp.sin(a) @ b)

    def loss(params, h):
        def step(h, _):
            return jnp.tanh(h @ product(**params)), None

        return _iterated(lambda h: lax.scan(step, h, None, length=inner)[0], h, steps)

    return Program(loss, params, (normal(2, batch, width),), ulps=4096)
