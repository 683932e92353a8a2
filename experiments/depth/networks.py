"""Deep networks of equal blocks, whose parameters are stacked, so that depth costs no compiling."""

import jax
from jax.nn.initializers import variance_scaling

from fbp.nn import Layer, dense, layer_norm, relu, residual, serial

GAIN = 2.0  # variance of a weight times its inputs: keeps ReLU's signal (He et al. 2015)


def stacked(block: Layer, depth: int) -> Layer:
    """Stack a block `depth` times, each time with its own parameters.

    Shapes as the block's, which must keep them. Parameters: the block's, each with a first axis
    of `depth`.

    >>> params, shape = stacked(dense(3), 5).init(jax.random.key(0), (-1, 3))
    >>> params["kernel"].shape, shape
    ((5, 3, 3), (-1, 3))
    """

    def init(key, in_shape):
        keys = jax.random.split(key, depth)
        return jax.vmap(lambda k: block.init(k, in_shape)[0])(keys), tuple(in_shape)

    def apply(params, x, *, key=None):
        del key
        return jax.lax.scan(lambda h, layer: (block.apply(layer, h), None), x, params)[0]

    return Layer(init, apply)


def weights(width: int, gain: float = GAIN) -> Layer:
    """Make a dense layer whose weights have the variance gain / inputs."""
    return dense(width, kernel_init=variance_scaling(gain, "fan_in", "normal"))


def blocks(width: int) -> dict[str, Layer]:
    """One hidden layer of each kind of network, by the name of the kind."""
    return {
        "plain": serial(dense=weights(width), relu=relu()),
        "normalised": serial(dense=weights(width), norm=layer_norm(), relu=relu()),
        "residual": residual(relu=relu(), dense=weights(width)),
        "residual, normalised": residual(norm=layer_norm(), relu=relu(), dense=weights(width)),
    }


def network(kind: str, width: int, depth: int, classes: int) -> Layer:
    """Make an input layer, `depth` blocks of that kind, and an output layer."""
    end = layer_norm() if kind == "residual, normalised" else relu()
    return serial(
        first=weights(width),
        blocks=stacked(blocks(width)[kind], depth),
        end=end,
        head=dense(classes),
    )
