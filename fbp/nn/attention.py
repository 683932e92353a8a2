"""Self-attention: every position takes what it needs from the others."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn.initializers import lecun_normal, zeros
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fbp.nn.dense import affine
from fbp.nn.layer import Layer, LayerError, Parameter, Shape, at_least_float32, make_layer

Heads = Float[Array, "batch time heads features"]


def multi_head_attention(
    heads: int, *, causal: bool = False, dtype: DTypeLike = jnp.float32
) -> Layer:
    """Make a self-attention: softmax(Q K^T / sqrt(d)) V for each head, then a dense layer.

    [batch, time, features] -> the same, d = features / heads. Q, K and V are dense layers of the
    input, computed as one. Parameters: qkv_kernel [features, 3 features], whose columns are those
    of Q, K and V in this order, each split into heads; out_kernel [features, features]; qkv_bias
    and out_bias, which start at zero.

    Args:
      heads: number of heads, which must divide the features.
      causal: whether a position attends to itself and those before it only.
      dtype: the parameters' dtype.

    Returns:
      The layer.

    Raises:
      LayerError: by `init` and `apply`, for an input with other axes, or features that the heads
        do not divide or that are not the parameters'.

    Source: Vaswani et al. 2017, Attention is all you need.

    >>> params, out_shape = multi_head_attention(4).init(jax.random.key(0), (-1, 10, 32))
    >>> params["qkv_kernel"].shape, out_shape
    ((32, 96), (-1, 10, 32))
    """

    def out_shape(in_shape: Shape) -> Shape:
        if len(in_shape) != 3 or heads < 1 or in_shape[-1] % heads:
            raise LayerError(
                ("multi_head_attention",),
                f"the input must be [batch, time, features], its features a multiple of {heads} "
                f"heads, got shape {list(in_shape)}",
            )
        return in_shape

    def parameters(in_shape):
        features = in_shape[-1]
        return {
            "qkv_kernel": Parameter((features, 3 * features), lecun_normal()),
            "qkv_bias": Parameter((3 * features,), zeros),
            "out_kernel": Parameter((features, features), lecun_normal()),
            "out_bias": Parameter((features,), zeros),
        }

    def forward(params, x):
        split = (*x.shape[:-1], heads, x.shape[-1] // heads)
        projected = affine(x, params["qkv_kernel"], params["qkv_bias"])
        q, k, v = (jnp.reshape(part, split) for part in jnp.split(projected, 3, axis=-1))
        mixed = _attend(q, k, v, causal)
        return affine(jnp.reshape(mixed, x.shape), params["out_kernel"], params["out_bias"])

    return make_layer("multi_head_attention", forward, out_shape, parameters, dtype)


def _attend(q: Heads, k: Heads, v: Heads, causal: bool) -> Heads:
    """Return softmax(Q K^T / sqrt(d)) V, with the softmax in float32 or wider."""
    scores = lax.dot_general(
        q, k, (((3,), (3,)), ((0, 2), (0, 2))), preferred_element_type=at_least_float32(q.dtype)
    )
    scores = scores * q.shape[-1] ** -0.5
    if causal:
        past = jnp.tri(q.shape[1], dtype=bool)
        scores = jnp.where(jnp.broadcast_to(past, scores.shape), scores, -jnp.inf)
    weights = jax.nn.softmax(scores).astype(v.dtype)
    return jnp.swapaxes(lax.dot_general(weights, v, (((3,), (1,)), ((0, 1), (0, 2)))), 1, 2)
