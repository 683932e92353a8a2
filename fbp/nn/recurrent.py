"""Recurrent layers: a state that every step reads and writes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn.initializers import lecun_normal, orthogonal, zeros
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fbp.nn.dense import affine
from fbp.nn.layer import Layer, LayerError, Parameter, Params, Shape, make_layer


def lstm(features: int, *, sequence: bool = True, dtype: DTypeLike = jnp.float32) -> Layer:
    """Make a long short-term memory: a state h and a memory c, both zero before the first step.

        i, f, g, o = split(x_t W + h U + b)
        c <- sigmoid(f) c + sigmoid(i) tanh(g)
        h <- sigmoid(o) tanh(c)

    [batch, time, inputs] -> [batch, time, features], h after every step; with `sequence=False`
    [batch, features], h after the last. Parameters, whose columns are those of the gates i, f, g, o
    in this order: kernel W [inputs, 4 features], recurrent U [features, 4 features] and bias b
    [4 features], which starts at one for f, so that the memory is retained at first, else at zero.

    Args:
      features: size of h and of c.
      sequence: whether to return h after every step, or after the last one only.
      dtype: the parameters' dtype.

    Returns:
      The layer.

    Raises:
      LayerError: by `init` and `apply`, for an input that has other axes, or other inputs than W's.

    Source: Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000 (gate f).

    >>> params, out_shape = lstm(8, sequence=False).init(jax.random.key(0), (-1, 20, 3))
    >>> params["recurrent"].shape, out_shape
    ((8, 32), (-1, 8))
    """

    def parameters(in_shape):
        return _kernels(in_shape[-1], features, gates=4) | {
            "bias": Parameter((4 * features,), _open_forget_gate)
        }

    def forward(params, x):
        def step(state, projected):
            h, c = state
            recurrent = jnp.split(jnp.dot(h, params["recurrent"]), 4, axis=1)
            i, f, g, o = map(lax.add, projected, recurrent)
            c = lax.logistic(f) * c + lax.logistic(i) * lax.tanh(g)
            return lax.logistic(o) * lax.tanh(c), c

        zero = jnp.zeros((x.shape[0], features), jnp.result_type(x, params["kernel"]))
        return _scan_time(step, (zero, zero), 4, params, x, sequence)

    return make_layer("lstm", forward, _out_shape("lstm", features, sequence), parameters, dtype)


def gru(features: int, *, sequence: bool = True, dtype: DTypeLike = jnp.float32) -> Layer:
    """Make a gated recurrent unit: a state h, zero before the first step.

        r, z, n = split(x_t W + b),  r', z', n' = split(h U)
        r, z = sigmoid(r + r'), sigmoid(z + z')
        h <- (1 - z) tanh(n + r (n' + b')) + z h

    [batch, time, inputs] -> [batch, time, features], h after every step; with `sequence=False`
    [batch, features], h after the last. Parameters, whose columns are those of r, z, n in this
    order: kernel W [inputs, 3 features], recurrent U [features, 3 features], bias b [3 features]
    and recurrent_bias b' [features], which start at zero.

    Args:
      features: size of h.
      sequence: whether to return h after every step, or after the last one only.
      dtype: the parameters' dtype.

    Returns:
      The layer.

    Raises:
      LayerError: by `init` and `apply`, for an input that has other axes, or other inputs than W's.

    Source: Cho et al. 2014, Learning phrase representations using RNN encoder-decoder; r applied
    after the product with U, as in cuDNN.

    >>> params, out_shape = gru(8).init(jax.random.key(0), (-1, 20, 3))
    >>> params["recurrent"].shape, out_shape
    ((8, 24), (-1, 20, 8))
    """

    def parameters(in_shape):
        return _kernels(in_shape[-1], features, gates=3) | {
            "bias": Parameter((3 * features,), zeros),
            "recurrent_bias": Parameter((features,), zeros),
        }

    def forward(params, x):
        def step(state, projected):
            (h,) = state
            r, z, n = projected
            r_h, z_h, n_h = jnp.split(jnp.dot(h, params["recurrent"]), 3, axis=1)
            r, z = lax.logistic(r + r_h), lax.logistic(z + z_h)
            n = lax.tanh(n + r * (n_h + recurrent_bias))
            return (n + z * (h - n),)

        zero = jnp.zeros((x.shape[0], features), jnp.result_type(x, params["kernel"]))
        recurrent_bias = jnp.broadcast_to(params["recurrent_bias"], zero.shape)
        return _scan_time(step, (zero,), 3, params, x, sequence)

    return make_layer("gru", forward, _out_shape("gru", features, sequence), parameters, dtype)


def _kernels(inputs: int, features: int, gates: int) -> dict[str, Parameter]:
    return {
        "kernel": Parameter((inputs, gates * features), lecun_normal()),
        "recurrent": Parameter((features, gates * features), _orthogonal_gates),
    }


def _orthogonal_gates(key, shape: Shape, dtype: DTypeLike) -> Float[Array, "features columns"]:
    """Draw an orthogonal matrix for each gate, side by side: none shrinks or grows the state."""
    features, columns = shape
    square = lambda key: orthogonal()(key, (features, features), dtype)
    gates = jax.vmap(square)(jax.random.split(key, columns // features))
    return jnp.reshape(jnp.swapaxes(gates, 0, 1), shape)


def _open_forget_gate(key, shape: Shape, dtype: DTypeLike) -> Float[Array, " columns"]:
    del key
    features = shape[0] // 4
    return jnp.zeros(shape, dtype).at[features : 2 * features].set(1)


def _scan_time(
    step: Callable, start: tuple, gates: int, params: Params, x: Any, sequence: bool
) -> Any:
    """Return the states h, the first part of what `step` returns.

    The gates' terms in x are one product for all steps, split into gates before the loop: XLA makes
    slow code of a step that slices and splits at once.
    """

    def body(state, projected):
        state = step(state, projected)
        return state, state[0] if sequence else None

    projected = affine(jnp.swapaxes(x, 0, 1), params["kernel"], params["bias"])
    (h, *_), hs = lax.scan(body, start, jnp.split(projected, gates, axis=2))
    return h if hs is None else jnp.swapaxes(hs, 0, 1)


def _out_shape(name: str, features: int, sequence: bool):
    def out_shape(in_shape: Shape) -> Shape:
        if len(in_shape) != 3:
            raise LayerError(
                (name,), f"the input must be [batch, time, features], got shape {list(in_shape)}"
            )
        return (*in_shape[: 2 if sequence else 1], features)

    return out_shape
