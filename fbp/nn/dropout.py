"""Dropout: noise in training that keeps units from relying on each other."""

import jax
import jax.numpy as jnp

from fbp.nn.layer import Layer, LayerError, named_layer


def dropout(rate: float) -> Layer:
    """Make a layer that zeroes each entry with probability `rate` and scales the others.

    With a key, an entry becomes 0 or x / (1 - rate). Without a key the input is returned as it is,
    as is meant for evaluation. Any shape.

    Returns:
      A layer without parameters.

    Raises:
      LayerError: for a rate outside of [0, 1).

    Source: Srivastava et al. 2014, Dropout.

    >>> x = jnp.ones(100)
    >>> sorted(set(dropout(0.5).apply({}, x).tolist()))
    [1.0]
    >>> sorted(set(dropout(0.5).apply({}, x, key=jax.random.key(0)).tolist()))
    [0.0, 2.0]
    """
    if not 0 <= rate < 1:
        raise LayerError(("dropout",), f"the rate must be at least 0 and less than 1, got {rate}")

    def init(key, in_shape):
        del key
        return {}, tuple(in_shape)

    def apply(params, x, *, key=None):
        del params
        if key is None:
            return x
        mask = jax.random.bernoulli(key, 1 - rate, x.shape)
        return jnp.where(mask, x / (1 - rate), 0)

    return named_layer("dropout", init, apply)
