"""Dense layers: every output is a weighted sum of all features."""

import jax.numpy as jnp
from jax.nn.initializers import lecun_normal, zeros
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from fbp.nn.layer import Initializer, Layer, LayerError, Parameter, Shape, make_layer


def dense(
    features: int,
    *,
    bias: bool = True,
    kernel_init: Initializer = lecun_normal(),  # noqa: B008
    dtype: DTypeLike = jnp.float32,
) -> Layer:
    """Make a linear map of the last axis: y = x W + b.

    [..., inputs] -> [..., features]. Parameters: kernel W [inputs, features], bias b [features],
    which starts at zero.

    Args:
      features: number of outputs.
      bias: whether to add b.
      kernel_init: the distribution that W is drawn from.
      dtype: the parameters' dtype.

    Returns:
      The layer.

    Raises:
      LayerError: by `init` and `apply`, for an input without axes, or with another number of
        inputs than W's.

    >>> import jax
    >>> params, out_shape = dense(3).init(jax.random.key(0), (-1, 2))
    >>> params["kernel"].shape, params["bias"].shape, out_shape
    ((2, 3), (3,), (-1, 3))
    """

    def out_shape(in_shape: Shape) -> Shape:
        if not in_shape:
            raise LayerError(("dense",), "the input must have an axis of features, got shape []")
        return (*in_shape[:-1], features)

    def parameters(in_shape):
        kernel = {"kernel": Parameter((in_shape[-1], features), kernel_init)}
        return kernel | ({"bias": Parameter((features,), zeros)} if bias else {})

    def forward(params, x):
        return affine(x, params["kernel"], params.get("bias"))

    return make_layer("dense", forward, out_shape, parameters, dtype)


def affine(
    x: Float[Array, "... inputs"],
    kernel: Float[Array, "inputs features"],
    bias: Float[Array, " features"] | None,
) -> Float[Array, "... features"]:
    """Return the map of a dense layer: x W + b, or x W without b."""
    y = jnp.dot(x, kernel)
    return y if bias is None else y + jnp.broadcast_to(bias, y.shape)
