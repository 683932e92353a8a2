"""Activations: a function of each entry, as a layer."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fbp.nn.layer import Layer, make_layer


def activation(fn: Callable[[Array], Array]) -> Layer:
    """Make a layer of any function that keeps the shape of its input: y = fn(x).

    Returns:
      A layer without parameters, named `fn.__name__`.

    >>> print(activation(jnp.sin).apply({}, jnp.zeros(2)))
    [0. 0.]
    """
    name = getattr(fn, "__name__", "activation")
    return make_layer(name, lambda _, x: fn(x), lambda in_shape: in_shape)


def relu() -> Layer:
    """Make the layer y = max(x, 0), whose derivative at 0 is 0.

    Returns:
      A layer without parameters, for inputs of any shape.

    >>> print(relu().apply({}, jnp.array([-1.0, 2.0])))
    [0. 2.]
    """
    return activation(jax.nn.relu)


def gelu() -> Layer:
    """Make the layer y = x Phi(x), Phi the normal distribution, by its approximation with tanh.

    Returns:
      A layer without parameters, for inputs of any shape.

    Source: Hendrycks and Gimpel 2016, Gaussian error linear units.

    >>> f"{gelu().apply({}, jnp.array(-1.0)):.2f}"
    '-0.16'
    """
    return activation(jax.nn.gelu)


def silu() -> Layer:
    """Make the layer y = x / (1 + exp(-x)), also called swish.

    Returns:
      A layer without parameters, for inputs of any shape.

    >>> f"{silu().apply({}, jnp.array(-1.0)):.2f}"
    '-0.27'
    """
    return activation(jax.nn.silu)


def elu() -> Layer:
    """Make the layer y = x for x > 0, else exp(x) - 1.

    Returns:
      A layer without parameters, for inputs of any shape.

    >>> f"{elu().apply({}, jnp.array(-1.0)):.2f}"
    '-0.63'
    """
    return activation(jax.nn.elu)


def softplus() -> Layer:
    """Make the layer y = log(1 + exp(x)).

    Returns:
      A layer without parameters, for inputs of any shape.

    >>> f"{softplus().apply({}, jnp.array(-1.0)):.2f}"
    '0.31'
    """
    return activation(jax.nn.softplus)


def tanh() -> Layer:
    """Make the layer y = tanh(x).

    Returns:
      A layer without parameters, for inputs of any shape.

    >>> f"{tanh().apply({}, jnp.array(-1.0)):.2f}"
    '-0.76'
    """
    return activation(jnp.tanh)


def sigmoid() -> Layer:
    """Make the layer y = 1 / (1 + exp(-x)).

    Returns:
      A layer without parameters, for inputs of any shape.

    >>> f"{sigmoid().apply({}, jnp.array(-1.0)):.2f}"
    '0.27'
    """
    return activation(jax.nn.sigmoid)


def softmax() -> Layer:
    """Make the layer y_i = exp(x_i) / sum_j exp(x_j), over the last axis.

    Returns:
      A layer without parameters, for inputs of one axis or more.

    >>> print(softmax().apply({}, jnp.array([[0.0, 0.0]])))
    [[0.5 0.5]]
    """
    return activation(jax.nn.softmax)
