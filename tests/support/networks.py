"""Layers under test: their parameters and inputs without the cost of compiling a draw."""

from typing import Any

import jax
import numpy as np

from fbp.nn import Layer

KEY = jax.random.key(0)


def draw(layer: Layer, in_shape: tuple[int, ...], dtype: Any = np.float32) -> tuple[Any, Any]:
    """Parameters and an input, from a normal distribution; none is zero."""
    rng = np.random.default_rng(0)
    params = jax.eval_shape(lambda: layer.init(KEY, in_shape)[0])
    normal = lambda shape: rng.normal(0, 0.5, shape).astype(dtype)
    return jax.tree.map(lambda leaf: normal(leaf.shape), params), normal(in_shape)


def out_shape_of(layer: Layer, in_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The output's shape, as `init` gives it."""
    shapes = []
    jax.eval_shape(lambda: shapes.append(layer.init(KEY, in_shape)[1]))
    return shapes[0]


def run(layer: Layer, params: Any, x: Any) -> np.ndarray:
    """The output, compiled as one program."""
    return np.asarray(jax.jit(layer.apply)(params, x))
