"""Memory for time: a layer whose intermediate values are computed again in the backward pass."""

from collections.abc import Callable
from typing import Any

import jax

from fbp.nn.layer import Layer, named_layer

Policy = Callable[..., Any]


def remat(layer: Layer, policy: Policy | None = None) -> Layer:
    """The same layer, whose backward pass computes again what `policy` does not store.

    Name, parameters, shapes and errors are the layer's. Kept are its input and its parameters;
    to compute the rest again costs its forward pass once more. On a CPU, whose compiler uses
    the first results again, the memory falls within a scan only.

    Args:
      layer: a layer, or a network of them.
      policy: what is stored besides, one of `jax.checkpoint_policies`, such as
        `dots_with_no_batch_dims_saveable`; None for nothing.

    Source: Chen et al. 2016, Training deep nets with sublinear memory cost, arXiv 1604.06174.

    >>> import jax.numpy as jnp
    >>> import fbp
    >>> from fbp.nn import dense, serial, tanh
    >>> def kept(layer):
    ...     params, _ = layer.init(jax.random.key(0), (-1, 8))
    ...     _, pullback = fbp.vjp(lambda p: layer.apply(p, jnp.ones((100, 8))), params)
    ...     return sum(residual.bytes for residual in pullback.residuals)
    >>> layer = serial(dense(8), tanh(), dense(8), tanh())
    >>> kept(remat(layer)) < kept(layer) / 2
    True
    """
    return named_layer(layer.name, layer.init, jax.checkpoint(layer.apply, policy=policy))
