"""The networks that a fit builds."""

from dataclasses import dataclass

from fbp import nn
from fbp.nn import Layer


@dataclass(frozen=True)
class Architecture:
    """A network in a few numbers: convolutions for images, then dense layers.

    Attributes:
      channels: features of each 3 x 3 convolution, which halves the image; none for a table.
      widths: of the hidden dense layers.
      outputs: classes, or 1 for a regression.
      dropout: share of the units of each hidden dense layer that a training step leaves out.
    """

    channels: tuple[int, ...]
    widths: tuple[int, ...]
    outputs: int
    dropout: float = 0.0

    def __str__(self) -> str:
        convolutions = [f"convolution {c}" for c in self.channels]
        return " - ".join([*convolutions, *[f"dense {w}" for w in (*self.widths, self.outputs)]])


def build(architecture: Architecture) -> Layer:
    """Build the network: [batch, ...] -> [batch, outputs].

    >>> import jax
    >>> _, out_shape = build(Architecture((8,), (16,), 3)).init(jax.random.key(0), (-1, 8, 8, 1))
    >>> out_shape
    (-1, 3)
    """
    convolutions = [
        layer
        for channels in architecture.channels
        for layer in (nn.conv(channels, (3, 3)), nn.relu(), nn.max_pool((2, 2)))
    ]
    hidden = [
        layer
        for width in architecture.widths
        for layer in (nn.dense(width), nn.silu(), *_dropout(architecture.dropout))
    ]
    return nn.serial(*convolutions, nn.flatten(), *hidden, nn.dense(architecture.outputs))


def _dropout(rate: float) -> tuple[Layer, ...]:
    return (nn.dropout(rate),) if rate else ()
