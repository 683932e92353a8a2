"""Convolutions: one small dense layer, applied at every position."""

import itertools
import math
from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn.initializers import lecun_normal, zeros
from jax.typing import DTypeLike
from jaxtyping import Array, Num

from fbp.nn.layer import Initializer, Layer, Parameter, Shape, make_layer
from fbp.nn.window import Padding, by_platform, check_window, spatial_shape

DIMENSIONS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}
SMALL_PATCH = 36  # up to so many entries a CPU multiplies the patches faster than it convolves


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
        y = _convolve(x, params["kernel"], strides, padding)
        return y + jnp.broadcast_to(params["bias"], y.shape) if bias else y

    return make_layer("conv", forward, out_shape, parameters, dtype)


def _convolve(
    x: Num[Array, "batch *spatial channels"],
    kernel: Num[Array, "*window channels features"],
    strides: Shape,
    padding: Padding,
) -> Num[Array, "batch *positions features"]:
    """Convolve; where patches are small, by their product if the program is for a CPU."""
    convolution = lambda x, kernel: lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=DIMENSIONS[len(strides)]
    )
    if math.prod(kernel.shape[:-1]) > SMALL_PATCH:
        return convolution(x, kernel)
    product = partial(_patches_product, strides, padding)
    return by_platform(product, convolution)(x, kernel)


def _patches_product(
    strides: Shape,
    padding: Padding,
    x: Num[Array, "batch *spatial channels"],
    kernel: Num[Array, "*window channels features"],
) -> Num[Array, "batch *positions features"]:
    """Multiply a matrix of all patches of x by the kernel."""
    *window, channels, features = kernel.shape
    edges = lax.padtype_to_pads(x.shape[1:-1], window, strides, padding)
    x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *((*edge, 0) for edge in edges), (0, 0, 0)])
    spatial = zip(x.shape[1:-1], window, strides, strict=True)
    positions = [(size - extent) // stride + 1 for size, extent, stride in spatial]

    def shifted(offsets: Shape) -> Num[Array, "batch *positions channels"]:
        last = [o + (n - 1) * s + 1 for o, n, s in zip(offsets, positions, strides, strict=True)]
        return lax.slice(x, (0, *offsets, 0), (len(x), *last, channels), (1, *strides, 1))

    patches = lax.concatenate(
        [shifted(offsets) for offsets in itertools.product(*map(range, window))], x.ndim - 1
    )
    matrix = lax.reshape(kernel, (math.prod(window) * channels, features))
    return lax.dot_general(patches, matrix, (((x.ndim - 1,), (0,)), ((), ())))
