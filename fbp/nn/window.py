"""Windows that slide over the spatial axes, as convolution and pooling use them."""

from collections.abc import Callable
from typing import Any, Literal

import jax
from jax import lax

from fbp.nn.layer import LayerError, Shape

Padding = Literal["SAME", "VALID"]


def check_window(layer: str, window: Shape, strides: Shape) -> None:
    """Raise LayerError unless window and strides are sizes of the same one or two axes."""
    if len(window) not in (1, 2) or len(strides) != len(window) or min(window + strides) < 1:
        raise LayerError(
            (layer,),
            f"got window {list(window)} and strides {list(strides)}: give both one size of 1 or "
            "more for each spatial axis, of which there are one or two",
        )


def spatial_shape(
    layer: str, in_shape: Shape, window: Shape, strides: Shape, padding: Padding
) -> Shape:
    """Return the number of positions that a window has along each spatial axis.

    ceil(size / stride) with padding SAME, floor((size - window) / stride) + 1 with VALID.
    Raises LayerError for an input with other axes than the window, or smaller than it.
    """
    axes = ("batch", "width", "channels") if len(window) == 1 else AXES_2D
    if len(in_shape) != len(axes):
        raise LayerError(
            (layer,), f"the input must be [{', '.join(axes)}], got shape {list(in_shape)}"
        )
    sizes = in_shape[1:-1]
    if padding == "SAME":
        return tuple(-(-size // stride) for size, stride in zip(sizes, strides, strict=True))
    if any(size < extent for size, extent in zip(sizes, window, strict=True)):
        raise LayerError(
            (layer,), f"the window {list(window)} does not fit into an input {list(in_shape)}"
        )
    return tuple(
        (size - extent) // stride + 1
        for size, extent, stride in zip(sizes, window, strides, strict=True)
    )


def by_platform(cpu: Callable[..., Any], default: Callable[..., Any]) -> Callable[..., Any]:
    """Choose between two ways to compute the same, when the platform is known.

    Only the operands are stored for the backward pass, on each platform: what one way stored, the
    program of the other would hold room for.
    """
    cpu, default = (jax.checkpoint(way, prevent_cse=False) for way in (cpu, default))
    return lambda *operands: lax.platform_dependent(*operands, cpu=cpu, default=default)


AXES_2D = ("batch", "height", "width", "channels")
