"""Convolutions: one small dense layer, applied at every position."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jax.nn.initializers import lecun_normal, zeros
from jax.typing import DTypeLike

from fbp.nn.layer import Initializer, Layer, Parameter, make_layer
from fbp.nn.window import Padding, check_window, spatial_shape

DIMENSIONS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}


def conv(
    features: int,
    window: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    padding: Padding = "SAME",
    bias: bool = True,
    kernel_init: Initializer = lecun_normal(),  # noqa: B008
    dtype: DTypeLike = jnp.float32,
) -> Layer:
    """Make a convolution over one or two spatial axes: y[p] = sum_q x[p * stride + q] W[q] + b.

    [batch, *spatial, channels] -> [batch, *spatial', features], where spatial' is
    ceil(size / stride) with padding SAME, floor((size - window) / stride) + 1 with VALID.
    Parameters: kernel W [*window, channels, features], bias b [features], which starts at zero.

    Args:
      features: number of outputs at each position.
      window: size of the window along each spatial axis.
      strides: positions between two windows; 1 by default.
      padding: SAME surrounds the input with zeros, VALID uses only windows inside of it.
      bias: whether to add b.
      kernel_init: the distribution that W is drawn from.
      dtype: the parameters' dtype.

    Returns:
      The layer.

    Raises:
      LayerError: for a window and strides that do not fit each other; and by `init` and `apply`,
        for an input that has other axes or channels, or is smaller than the window.

    >>> import jax
    >>> params, out_shape = conv(8, (3, 3), strides=(2, 2)).init(jax.random.key(0), (-1, 28, 28, 1))
    >>> params["kernel"].shape, out_shape
    ((3, 3, 1, 8), (-1, 14, 14, 8))
    """
    window = tuple(window)
    strides = tuple(strides or (1,) * len(window))
    check_window("conv", window, strides)

    def out_shape(in_shape):
        return (in_shape[0], *spatial_shape("conv", in_shape, window, strides, padding), features)

    def parameters(in_shape):
        kernel = {"kernel": Parameter((*window, in_shape[-1], features), kernel_init)}
        return kernel | ({"bias": Parameter((features,), zeros)} if bias else {})

    def forward(params, x):
        dimensions = DIMENSIONS[len(window)]
        y = lax.conv_general_dilated(
            x, params["kernel"], strides, padding, dimension_numbers=dimensions
        )
        return y + jnp.broadcast_to(params["bias"], y.shape) if bias else y

    return make_layer("conv", forward, out_shape, parameters, dtype)
