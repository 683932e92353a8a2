"""Pooling: reduce a window, or a whole example, to one number for each channel."""

import functools
import math
from collections.abc import Callable, Sequence
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from fbp.nn.layer import Layer, LayerError, Shape, make_layer
from fbp.nn.window import Padding, by_platform, check_window, spatial_shape

WIDEST = 16  # sum of a block's sides: its entries are compared one by one


def max_pool(
    window: Sequence[int], *, strides: Sequence[int] | None = None, padding: Padding = "VALID"
) -> Layer:
    """Make a layer that takes the largest entry of each window.

    [batch, *spatial, channels] -> [batch, *spatial', channels], with one or two spatial axes;
    spatial' as in `conv`.

    Args:
      window: size of the window along each spatial axis.
      strides: positions between two windows; the window's size by default.
      padding: SAME surrounds the input with minus infinity, VALID uses only windows inside of it.

    Returns:
      A layer without parameters.

    Raises:
      LayerError: for a window and strides that do not fit each other; and by `init` and `apply`,
        for an input that has other axes or is smaller than the window.

    >>> import jax
    >>> max_pool((2, 2)).init(jax.random.key(0), (-1, 28, 28, 8))
    ({}, (-1, 14, 14, 8))
    """

    def pool(x, dimensions, steps):
        lowest = np.array(-np.inf, x.dtype)
        windowed = lambda x: lax.reduce_window(x, lowest, lax.max, dimensions, steps, padding)
        tiled = not any(size % extent for size, extent in zip(x.shape, dimensions, strict=True))
        if dimensions != steps or sum(dimensions) > WIDEST or not (tiled or padding == "VALID"):
            return windowed(x)
        by_blocks = partial(_largest_of_blocks, dimensions)
        return by_platform(by_blocks, windowed)(x)

    return _pool("max_pool", pool, window, strides, padding)


def _largest_of_blocks(block: Shape, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the largest entry of each block, NaN if it holds one; of equal ones the first is it,
    which gets the cotangent.

    XLA's windows take several times as long on a CPU, above all backward.
    """
    inner = x.ndim - 2
    for axis in reversed([i for i, extent in enumerate(block) if extent > 1]):
        extent = block[axis]
        count = x.shape[axis] // extent
        x = lax.slice_in_dim(x, 0, count * extent, axis=axis)
        blocks = lax.reshape(x, (*x.shape[:axis], count, extent, *x.shape[axis + 1 :]))
        if axis == inner:
            entries = [lax.index_in_dim(blocks, i, axis + 1, keepdims=False) for i in range(extent)]
        else:  # the cotangent is then one concatenation, and no sum of padded parts
            parts = lax.split(blocks, (1,) * extent, axis=axis + 1)
            entries = [lax.squeeze(part, (axis + 1,)) for part in parts]
        x = functools.reduce(_larger, entries)
    return x


def _larger(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    return lax.select((a >= b) | (a != a), a, b)


def average_pool(
    window: Sequence[int], *, strides: Sequence[int] | None = None, padding: Padding = "VALID"
) -> Layer:
    """Make a layer that takes the mean of each window; padding is not counted.

    Shapes are those of `max_pool`.

    Args:
      window: size of the window along each spatial axis.
      strides: positions between two windows; the window's size by default.
      padding: SAME surrounds the input with padding, VALID uses only windows inside of it.

    Returns:
      A layer without parameters.

    Raises:
      LayerError: as `max_pool`.

    >>> x = jnp.arange(4.0).reshape(1, 4, 1)
    >>> print(average_pool((2,)).apply({}, x).ravel())
    [0.5 2.5]
    """

    def pool(x, dimensions, steps):
        add = lambda a: lax.reduce_window(
            a, np.zeros((), x.dtype), lax.add, dimensions, steps, padding
        )
        if padding == "VALID":
            return add(x) / math.prod(dimensions)
        sums = add(x)
        counts = add(jnp.ones((1, *x.shape[1:-1], 1), x.dtype))
        return sums / jnp.broadcast_to(counts, sums.shape)

    return _pool("average_pool", pool, window, strides, padding)


def global_max_pool() -> Layer:
    """Make a layer that takes the largest entry of each channel.

    [batch, *spatial, channels] -> [batch, channels].

    Returns:
      A layer without parameters.

    Raises:
      LayerError: by `init` and `apply`, for an input without spatial axes.

    >>> import jax
    >>> global_max_pool().init(jax.random.key(0), (-1, 7, 7, 16))
    ({}, (-1, 16))
    """
    return _global_pool("global_max_pool", jnp.max)


def global_average_pool() -> Layer:
    """Make a layer that takes the mean of each channel.

    [batch, *spatial, channels] -> [batch, channels].

    Returns:
      A layer without parameters.

    Raises:
      LayerError: by `init` and `apply`, for an input without spatial axes.

    >>> print(global_average_pool().apply({}, jnp.array([[[1.0], [2.0], [6.0]]])))
    [[3.]]
    """
    return _global_pool("global_average_pool", jnp.mean)


def flatten() -> Layer:
    """Make a layer that puts all features of an example in one axis.

    [batch, ...] -> [batch, features].

    Returns:
      A layer without parameters.

    Raises:
      LayerError: by `init` and `apply`, for an input without axes.

    >>> import jax
    >>> flatten().init(jax.random.key(0), (-1, 8, 8, 1))
    ({}, (-1, 64))
    """

    def out_shape(in_shape: Shape) -> Shape:
        if not in_shape:
            raise LayerError(("flatten",), "the input must have a batch axis, got shape []")
        return (in_shape[0], math.prod(in_shape[1:]))

    return make_layer("flatten", lambda _, x: jnp.reshape(x, out_shape(x.shape)), out_shape)


def _pool(
    name: str,
    pool: Callable[[Float[Array, "..."], Shape, Shape], Float[Array, "..."]],
    window: Sequence[int],
    strides: Sequence[int] | None,
    padding: Padding,
) -> Layer:
    window = tuple(window)
    strides = tuple(strides or window)
    check_window(name, window, strides)
    return make_layer(
        name,
        lambda _, x: pool(x, (1, *window, 1), (1, *strides, 1)),
        lambda shape: (shape[0], *spatial_shape(name, shape, window, strides, padding), shape[-1]),
    )


def _global_pool(name: str, reduce: Callable) -> Layer:
    def out_shape(in_shape: Shape) -> Shape:
        if len(in_shape) < 3:
            raise LayerError(
                (name,),
                f"the input must be [batch, *spatial, channels], got shape {list(in_shape)}",
            )
        return (in_shape[0], in_shape[-1])

    return make_layer(name, lambda _, x: reduce(x, axis=tuple(range(1, x.ndim - 1))), out_shape)
