"""Trade time for memory: recompute a layer's intermediate values in the backward pass."""

from collections.abc import Callable
from typing import Any

import jax

from fbp.nn.layer import Layer, named_layer

Policy = Callable[..., Any]


def remat(layer: Layer, policy: Policy | None = None) -> Layer:
    """Return the same layer, whose backward pass recomputes what `policy` does not save.

    Name, parameters, shapes and errors are the layer's. Its input and its parameters are saved;
    recomputing the rest costs its forward pass once more. On a CPU, whose compiler merges the
    recomputation with the first computation, memory falls within a scan only.

    Args:
      layer: a layer, or a network of them.
      policy: what to save besides, one of `jax.checkpoint_policies`, such as
        `dots_with_no_batch_dims_saveable`; None for nothing.

    Returns:
      A layer with the outputs and the gradients of `layer`.

    Source: Chen et al. 2016, Training deep nets with sublinear memory cost, arXiv 1604.06174.

    >>> import jax.numpy as jnp
    >>> import fbp
    >>> from fbp.nn import dense, serial, tanh
    >>> def saved_bytes(layer):
    ...     params, _ = layer.init(jax.random.key(0), (-1, 8))
    ...     _, pullback = fbp.vjp(lambda p: layer.apply(p, jnp.ones((100, 8))), params)
    ...     return sum(residual.bytes for residual in pullback.residuals)
    >>> layer = serial(dense(8), tanh(), dense(8), tanh())
    >>> saved_bytes(remat(layer)) < saved_bytes(layer) / 2
    True
    """
    return named_layer(layer.name, layer.init, jax.checkpoint(layer.apply, policy=policy))
