"""Normalization: zero mean and unit variance for each example, then a learned scale and shift."""

import jax.numpy as jnp
from jax import lax
from jax.nn.initializers import ones, zeros
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fbp.nn.layer import Layer, LayerError, Parameter, Shape, at_least_float32, make_layer


def layer_norm(*, epsilon: float = 1e-5, dtype: DTypeLike = jnp.float32) -> Layer:
    """Make a normalization of the last axis.

    y = scale * (x - mean) / sqrt(variance + epsilon) + bias. [..., features] -> the same.
    Parameters: scale and bias [features], which start at one and zero. Mean and variance are
    computed in float32 or wider.

    Args:
      epsilon: added to the variance, in the square of the input's unit.
      dtype: the parameters' dtype.

    Returns:
      The layer.

    Raises:
      LayerError: by `init` and `apply`, for an input without axes, or with other features than
        the parameters'.

    Source: Ba, Kiros and Hinton 2016, Layer normalization.

    >>> import jax
    >>> params, _ = layer_norm().init(jax.random.key(0), (-1, 2))
    >>> print(layer_norm().apply(params, jnp.array([[3.0, 5.0]])).round(3))
    [[-1.  1.]]
    """

    def out_shape(in_shape: Shape) -> Shape:
        if not in_shape:
            raise LayerError(
                ("layer_norm",), "the input must have an axis of features, got shape []"
            )
        return in_shape

    def forward(params, x):
        return _affine(params, _normalize(x, (-1,), epsilon))

    return make_layer("layer_norm", forward, out_shape, _scale_and_bias, dtype)


def group_norm(groups: int, *, epsilon: float = 1e-5, dtype: DTypeLike = jnp.float32) -> Layer:
    """Make a normalization of groups of channels over all positions, by `layer_norm`'s formula.

    [batch, *spatial, channels] -> the same. Parameters: scale and bias [channels], which start at
    one and zero. With one group per channel this is instance normalization.

    Args:
      groups: number of groups, which must divide the channels.
      epsilon: added to the variance, in the square of the input's unit.
      dtype: the parameters' dtype.

    Returns:
      The layer.

    Raises:
      LayerError: by `init` and `apply`, where the groups do not divide the channels, or the
        channels are not the parameters'.

    Source: Wu and He 2018, Group normalization.

    >>> import jax
    >>> params, out_shape = group_norm(4).init(jax.random.key(0), (-1, 7, 7, 16))
    >>> params["scale"].shape, out_shape
    ((16,), (-1, 7, 7, 16))
    """

    def out_shape(in_shape: Shape) -> Shape:
        if len(in_shape) < 2 or groups < 1 or in_shape[-1] % groups:
            raise LayerError(
                ("group_norm",),
                f"the input must be [batch, *spatial, channels], its channels a multiple of "
                f"{groups} groups, got shape {list(in_shape)}",
            )
        return in_shape

    def forward(params, x):
        grouped = jnp.reshape(x, (*x.shape[:-1], groups, x.shape[-1] // groups))
        axes = (*range(1, x.ndim - 1), x.ndim)
        return _affine(params, jnp.reshape(_normalize(grouped, axes, epsilon), x.shape))

    return make_layer("group_norm", forward, out_shape, _scale_and_bias, dtype)


def _scale_and_bias(in_shape: Shape) -> dict[str, Parameter]:
    return {"scale": Parameter(in_shape[-1:], ones), "bias": Parameter(in_shape[-1:], zeros)}


def _normalize(
    x: Float[Array, "..."], axes: tuple[int, ...], epsilon: float
) -> Float[Array, "..."]:
    wide = x.astype(at_least_float32(x.dtype))
    centered = wide - jnp.mean(wide, axes, keepdims=True)
    variance = jnp.mean(jnp.square(centered), axes, keepdims=True)
    return (centered * lax.rsqrt(variance + epsilon)).astype(x.dtype)


def _affine(params: dict, x: Float[Array, "... features"]) -> Float[Array, "... features"]:
    scale, bias = (jnp.broadcast_to(params[name], x.shape) for name in ("scale", "bias"))
    return x * scale + bias
