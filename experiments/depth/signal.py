"""How a gradient grows or shrinks from layer to layer: predicted, and measured.

A layer h -> act(W h + b) whose weights have the variance gain / inputs multiplies the squared norm
of the gradient by chi = gain E[act'(sqrt(q) z)^2] on its way back, where z is normal and q, the
variance of what enters act, is gain E[act(sqrt(q') z)^2] of the layer before. Source: Poole et
al. 2016, arXiv 1606.05340; Schoenholz et al. 2017, arXiv 1611.01232.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

import fbp
from experiments.depth.networks import stacked, weights
from fbp.nn import activation, dense, serial
from fbp.verify import gradient_statistics
from fbp.verify.statistics import LeafStatistics

ACTIVATIONS: dict[str, Callable] = {"ReLU": jax.nn.relu, "tanh": jnp.tanh}
DERIVATIVES: dict[str, Callable] = {
    "ReLU": lambda z: np.heaviside(z, 0.5),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
}
VALUES: dict[str, Callable] = {"ReLU": lambda z: np.maximum(z, 0), "tanh": np.tanh}
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(200)


def predicted(name: str, gain: float, depth: int) -> Float64[np.ndarray, " depth"]:
    """Predict the squared norm of the gradient at each layer over that at the last one.

    For inputs whose entries have a mean square of one.

    >>> print(predicted("ReLU", 1.0, 4))
    [0.125 0.25  0.5   1.   ]
    """
    variance, factors = gain, []
    for _ in range(depth - 1):
        factors.append(gain * _mean(lambda z: DERIVATIVES[name](z) ** 2, variance))
        variance = gain * _mean(lambda z: VALUES[name](z) ** 2, variance)
    return np.append(np.cumprod(factors[::-1])[::-1], 1.0)


def measured(
    name: str, gain: float, depth: int, width: int, seeds: int
) -> Float64[np.ndarray, " depth"]:
    """Measure the same of networks drawn at random: the geometric mean over seeds.

    The gradient is that of the first output for one random input with respect to the biases,
    which is the gradient with respect to what enters the activation.
    """
    block = serial(dense=weights(width, gain), act=activation(ACTIVATIONS[name]))
    network = serial(blocks=stacked(block, depth), head=dense(1))

    def norms(seed: Array) -> Float[Array, " depth"]:
        init_key, input_key = jax.random.split(jax.random.key(seed))
        params, _ = network.init(init_key, (1, width))
        x = jax.random.normal(input_key, (1, width))
        x = x / jnp.sqrt(jnp.mean(x**2))
        output = lambda params: network.apply(params, x)[0, 0]
        return layer_norms(output, params)["dense"]["bias"]

    by_seed = np.asarray(jax.jit(lambda s: jax.lax.map(norms, s))(jnp.arange(seeds)), np.float64)
    return np.exp(np.mean(2 * np.log(by_seed / by_seed[:, -1:]), axis=0))


def layer_norms(loss: Callable[[Any], Array], params: Any) -> Any:
    """Return the norm of a loss's gradient, by leaf of a block, for each of `params["blocks"]`."""
    grads = fbp.grad(loss)(params)["blocks"]
    statistics = jax.vmap(gradient_statistics)(params["blocks"], grads, grads)
    is_leaf = lambda node: isinstance(node, LeafStatistics)
    return jax.tree.map(lambda leaf: leaf.norm, statistics, is_leaf=is_leaf)


def _mean(function: Callable, variance: float) -> float:
    """E[function(z)] for a normal z of mean zero and that variance."""
    return float(NODE_WEIGHTS @ function(np.sqrt(variance) * NODES) / NODE_WEIGHTS.sum())
