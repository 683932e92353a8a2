"""From `[network]` to layers."""

import math

import jax

from fbp import nn
from fbp.config import CNN, MLP, RNN, Network, Transformer
from fbp.nn import Layer, make_layer

Shape = tuple[int, ...]
CELLS = {"lstm": nn.lstm, "gru": nn.gru}


def build_network(network: Network, feature_shape: Shape, outputs: int) -> Layer:
    """Build the network that a config describes.

    Args:
      network: the config.
      feature_shape: shape of one example. A transformer and an RNN read the rows of an image
        one after another, or the features of a table.
      outputs: how many numbers it gives for each example.

    >>> network = build_network(RNN((16,)), (8, 8, 1), 10)
    >>> network.init(jax.random.key(0), (-1, 8, 8, 1))[1]
    (-1, 10)
    """
    match network:
        case MLP(widths, activation):
            return nn.mlp((*widths, outputs), activation=getattr(jax.nn, activation))
        case CNN(channels, widths, activation):
            return nn.cnn(channels, (*widths, outputs), activation=getattr(jax.nn, activation))
        case Transformer(width, depth, heads):
            length = feature_shape[0]
            body = nn.transformer(outputs, width=width, depth=depth, heads=heads, length=length)
            return nn.serial(rows=_rows(), transformer=body)
        case RNN(widths, cell):
            return nn.serial(rows=_rows(), rnn=nn.rnn(widths, outputs, cell=CELLS[cell]))


def _rows() -> Layer:
    """[batch, time, ...] -> [batch, time, features]."""

    def out_shape(in_shape: Shape) -> Shape:
        return (*in_shape[:2], math.prod(in_shape[2:]))

    return make_layer("rows", lambda _, x: x.reshape(out_shape(x.shape)), out_shape)
