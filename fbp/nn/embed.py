"""Embeddings: a vector for each token, and one for each position."""

import jax.numpy as jnp
from jax.nn.initializers import normal
from jax.typing import DTypeLike

from fbp.nn.layer import Layer, LayerError, Parameter, Shape, make_layer


def embedding(vocabulary: int, features: int, *, dtype: DTypeLike = jnp.float32) -> Layer:
    """Make a layer that looks tokens up in a table: y = E[x].

    Integers [...] from 0 to vocabulary - 1 -> [..., features]. A token outside of that range
    gives NaN, since no error can be raised in a compiled program. Parameters: embedding E
    [vocabulary, features], normal with variance 1 / features.

    Args:
      vocabulary: number of tokens.
      features: size of each token's vector.
      dtype: the parameters' dtype.

    Returns:
      The layer.

    Raises:
      LayerError: by `apply`, for tokens that are not integers.

    >>> import jax
    >>> params, _ = embedding(10, 4).init(jax.random.key(0), (-1, 3))
    >>> embedding(10, 4).apply(params, jnp.array([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def parameters(_: Shape) -> dict[str, Parameter]:
        return {"embedding": Parameter((vocabulary, features), normal(features**-0.5))}

    def forward(params, x):
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise LayerError(
                ("embedding",), f"tokens must be integers, got {x.dtype}{list(x.shape)}"
            )
        rows = jnp.asarray(params["embedding"]).at[x]
        return rows.get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)

    return make_layer(
        "embedding", forward, lambda in_shape: (*in_shape, features), parameters, dtype
    )


def positional_embedding(length: int, *, dtype: DTypeLike = jnp.float32) -> Layer:
    """Make a layer that adds a learned vector to each position: y[:, t] = x[:, t] + E[t].

    [batch, time, features] -> the same, with time at most `length`. Parameters: embedding E
    [length, features], normal with standard deviation 0.02.

    Args:
      length: the longest time, in positions.
      dtype: the parameters' dtype.

    Returns:
      The layer.

    Raises:
      LayerError: by `init` and `apply`, for an input with other axes, a longer one, and for other
        features than E's.

    >>> import jax
    >>> layer = positional_embedding(16)
    >>> params, _ = layer.init(jax.random.key(0), (-1, 16, 4))
    >>> layer.apply(params, jnp.zeros((2, 5, 4))).shape
    (2, 5, 4)
    """

    def out_shape(in_shape: Shape) -> Shape:
        if len(in_shape) != 3 or in_shape[1] > length:
            raise LayerError(
                ("positional_embedding",),
                f"the input must be [batch, time, features], time at most {length}, "
                f"got shape {list(in_shape)}",
            )
        return in_shape

    def parameters(in_shape):
        return {"embedding": Parameter((length, in_shape[-1]), normal(0.02))}

    def forward(params, x):
        return x + jnp.broadcast_to(params["embedding"][: x.shape[1]], x.shape)

    return make_layer("positional_embedding", forward, out_shape, parameters, dtype)
