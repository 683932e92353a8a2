"""An MLP whose start and rates follow from its width in one of two ways.

The network is relu twice over, without biases, for a width w:

    first = x W1,  second = relu(first) W2,  outputs = relu(second) W3

In the standard parametrisation each kernel begins with variance 1 / inputs, and all have one
learning rate. In muP, with m = w / base width, W3 begins with variance 1 / (m w), and the rates
of W2 and W3 are 1 / m of that of W1; at the base width both are the same network.

Source: Yang et al., Tensor programs V: tuning large neural networks via zero-shot hyperparameter
transfer (2021), arXiv 2203.03466, table 3, column Adam.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import optax
from jax.nn.initializers import variance_scaling
from jaxtyping import Array, Float

from fbp.nn import Layer
from fbp.nn.layer import Params, named_layer

Activations = dict[str, Float[Array, "examples features"]]
Rate = Float[Array, ""] | float


@dataclass(frozen=True)
class Parametrization:
    """A network, and Adam with the rate that each of its kernels has for one learning rate."""

    network: Layer
    adam: Callable[[Rate], optax.GradientTransformation]


def standard(width: int, outputs: int) -> Parametrization:
    """Give every kernel the same variance rule and the same rate."""
    return Parametrization(_network(width, outputs, shrink=1.0), optax.adam)


def maximal_update(width: int, outputs: int, base_width: int) -> Parametrization:
    """muP: what is learnt by each layer keeps its size as the width grows."""
    shrink = base_width / width

    def adam(rate: Rate) -> optax.GradientTransformation:
        rates = {"first": rate, "second": rate * shrink, "outputs": rate * shrink}
        return optax.partition(
            {name: optax.adam(each) for name, each in rates.items()},
            {name: name for name in rates},
        )

    return Parametrization(_network(width, outputs, shrink), adam)


def activations(params: Params, x: Float[Array, "examples inputs"]) -> Activations:
    """Return each layer's output, before the relu."""
    first = x @ params["first"]
    second = jax.nn.relu(first) @ params["second"]
    return {"first": first, "second": second, "outputs": jax.nn.relu(second) @ params["outputs"]}


def _network(width: int, outputs: int, shrink: float) -> Layer:
    plain = variance_scaling(1.0, "fan_in", "truncated_normal")
    last = variance_scaling(shrink, "fan_in", "truncated_normal")

    def init(key, in_shape):
        keys = jax.random.split(key, 3)
        params = {
            "first": plain(keys[0], (in_shape[-1], width)),
            "second": plain(keys[1], (width, width)),
            "outputs": last(keys[2], (width, outputs)),
        }
        return params, (*in_shape[:-1], outputs)

    def apply(params, x, *, key=None):
        del key
        return activations(params, x)["outputs"]

    return named_layer("transferred", init, apply)
