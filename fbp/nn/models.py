"""Ready-made networks, each a `serial` of the layers of this package."""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array

from fbp.nn.activation import activation as activation_layer
from fbp.nn.attention import multi_head_attention
from fbp.nn.combine import residual, serial
from fbp.nn.conv import conv
from fbp.nn.dense import dense
from fbp.nn.embed import embedding, positional_embedding
from fbp.nn.layer import Layer, LayerError
from fbp.nn.norm import layer_norm
from fbp.nn.pool import flatten, global_average_pool, max_pool
from fbp.nn.recurrent import lstm

Activation = Callable[[Array], Array]


def mlp(
    widths: Sequence[int],
    *,
    activation: Activation = jax.nn.relu,
    dtype: DTypeLike = jnp.float32,
) -> Layer:
    """Make a multi-layer perceptron: dense layers, with an activation between each two.

    [batch, ...] -> [batch, widths[-1]]; the features of an example are flattened first.

    Args:
      widths: features of each dense layer, the output's last.
      activation: between two dense layers.
      dtype: the parameters' dtype.

    Returns:
      The network.

    Raises:
      LayerError: for no widths; and by `init` and `apply`, for an input that does not fit.

    >>> params, out_shape = mlp([32, 10]).init(jax.random.key(0), (-1, 64))
    >>> list(params), out_shape
    (['0_flatten', '1_dense', '2_relu', '3_dense'], (-1, 10))
    """
    return serial(*_perceptron("mlp", widths, activation, dtype))


def cnn(
    channels: Sequence[int],
    widths: Sequence[int],
    *,
    activation: Activation = jax.nn.relu,
    dtype: DTypeLike = jnp.float32,
) -> Layer:
    """Make a convolutional network: 3 x 3 convolutions, each halving the image, then an MLP.

    [batch, height, width, channels] -> [batch, widths[-1]].

    Args:
      channels: features of each convolution, followed by an activation and 2 x 2 max-pooling.
      widths: of the dense layers, as in `mlp`.
      activation: of convolutions and dense layers.
      dtype: the parameters' dtype.

    Returns:
      The network.

    Raises:
      LayerError: for no widths; and by `init` and `apply`, for an input that does not fit: a side
        must be at least 2 to the power of the number of convolutions.

    >>> params, out_shape = cnn([16, 32], [64, 10]).init(jax.random.key(0), (-1, 28, 28, 1))
    >>> params["7_dense"]["kernel"].shape, out_shape
    ((1568, 64), (-1, 10))
    """
    blocks = [
        layer
        for features in channels
        for layer in (
            conv(features, (3, 3), dtype=dtype),
            activation_layer(activation),
            max_pool((2, 2)),
        )
    ]
    return serial(*blocks, *_perceptron("cnn", widths, activation, dtype))


def transformer(
    outputs: int,
    *,
    width: int,
    depth: int,
    heads: int,
    length: int,
    vocabulary: int | None = None,
    head: Literal["classifier", "language_model"] = "classifier",
    each_block: Callable[[Layer], Layer] = lambda block: block,
    dtype: DTypeLike = jnp.float32,
) -> Layer:
    """Make a transformer of pre-norm blocks over tokens or vectors, with learned positions.

    Tokens [batch, time] or vectors [batch, time, features] -> [batch, outputs], or
    [batch, time, outputs] for a language model. A block is x + attention(norm(x)), then
    x + dense(gelu(dense(norm(x)))), the inner layer four times as wide.

    Args:
      outputs: number of outputs: classes, or tokens.
      width: features at each position.
      depth: number of blocks.
      heads: of each attention; must divide the width.
      length: longest time, in positions.
      vocabulary: number of tokens; None for vectors, to which a dense layer is applied.
      head: a classifier averages over time; a language model attends to the past only and
        has outputs at each position.
      each_block: a function applied to each block, such as `remat`.
      dtype: the parameters' dtype.

    Returns:
      The network.

    Raises:
      LayerError: for an unknown head; and by `init` and `apply`, for an input that does not fit,
        or heads that do not divide the width.

    Sources: Vaswani et al. 2017, Attention is all you need; Xiong et al. 2020, On layer
    normalization in the transformer architecture (pre-norm).

    >>> network = transformer(10, width=32, depth=2, heads=4, length=28)
    >>> params, out_shape = network.init(jax.random.key(0), (-1, 28, 28))
    >>> sorted(params), out_shape
    (['block_0', 'block_1', 'embed', 'head', 'norm', 'pool', 'position'], (-1, 10))
    """
    if head not in ("classifier", "language_model"):
        raise LayerError(("transformer",), f"head must be classifier or language_model, got {head}")
    classifies = head == "classifier"
    embed = (
        dense(width, dtype=dtype)
        if vocabulary is None
        else embedding(vocabulary, width, dtype=dtype)
    )
    block = each_block(_block(width, heads, not classifies, dtype))
    blocks = {f"block_{i}": block for i in range(depth)}
    return serial(
        embed=embed,
        position=positional_embedding(length, dtype=dtype),
        **blocks,
        norm=layer_norm(dtype=dtype),
        **({"pool": global_average_pool()} if classifies else {}),
        head=dense(outputs, dtype=dtype),
    )


def rnn(
    widths: Sequence[int],
    outputs: int,
    *,
    cell: Callable[..., Layer] = lstm,
    vocabulary: int | None = None,
    sequence: bool = False,
    dtype: DTypeLike = jnp.float32,
) -> Layer:
    """Make a stack of recurrent layers, then a dense layer.

    Tokens [batch, time] or vectors [batch, time, features] -> [batch, outputs], of the state
    after the last step; with `sequence`, [batch, time, outputs], of the states after each.

    Args:
      widths: features of each recurrent layer.
      outputs: number of outputs.
      cell: `lstm`, `gru`, or a function of the same arguments.
      vocabulary: number of tokens, embedded in widths[0] features; None for vectors.
      sequence: whether there are outputs after each step.
      dtype: the parameters' dtype.

    Returns:
      The network.

    Raises:
      LayerError: for no widths; and by `init` and `apply`, for an input that does not fit.

    >>> from fbp.nn import gru
    >>> params, out_shape = rnn([32, 32], 10, cell=gru).init(jax.random.key(0), (-1, 28, 28))
    >>> list(params), out_shape
    (['0_gru', '1_gru', 'head'], (-1, 10))
    """
    _require_widths("rnn", widths)
    *lower, top = widths
    embed = {} if vocabulary is None else {"embed": embedding(vocabulary, widths[0], dtype=dtype)}
    cells = [cell(width, sequence=True, dtype=dtype) for width in lower]
    cells.append(cell(top, sequence=sequence, dtype=dtype))
    named_cells = {f"{i}_{layer.name}": layer for i, layer in enumerate(cells)}
    return serial(**embed, **named_cells, head=dense(outputs, dtype=dtype))


def _perceptron(name: str, widths: Sequence[int], activation: Activation, dtype: DTypeLike):
    _require_widths(name, widths)
    *hidden, last = widths
    yield flatten()
    for width in hidden:
        yield dense(width, dtype=dtype)
        yield activation_layer(activation)
    yield dense(last, dtype=dtype)


def _block(width: int, heads: int, causal: bool, dtype: DTypeLike) -> Layer:
    return serial(
        attention=residual(
            norm=layer_norm(dtype=dtype),
            attention=multi_head_attention(heads, causal=causal, dtype=dtype),
        ),
        mlp=residual(
            norm=layer_norm(dtype=dtype),
            up=dense(4 * width, dtype=dtype),
            activation=activation_layer(jax.nn.gelu),
            down=dense(width, dtype=dtype),
        ),
    )


def _require_widths(name: str, widths: Sequence[int]) -> None:
    if not widths:
        raise LayerError((name,), "no widths were given: give one or more")
