"""Training one small network with many pairs of learning rates."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import fbp

Speed = Callable[[Float[Array, "pairs 2"]], Float[Array, " pairs"]]

LARGEST_LOSS = 1e6
LAST = 20


def convergence_speed(width: int, steps: int, seed: int, at_once: int) -> Speed:
    """Pairs of learning rates -> how each run goes: above 0 it converges, below it diverges.

    The network is f(x) = v . tanh(sqrt(2 / width) x W) / width, the loss the mean squared error,
    weights and data are normal, with as many examples as weights; W has the first rate of a pair,
    v the second. With the losses as shares of the first, a run has converged if its last twenty are
    below 1 on average. The number is then the sum of the losses, else minus the sum of their
    reciprocals: the larger its absolute value, the longer the run was undecided.

    Args:
      width: of the input and the hidden layer.
      steps: of gradient descent on all examples.
      seed: of the weights and the data.
      at_once: runs side by side; the others wait.
    """
    examples = width * width + width
    keys = jax.random.split(jax.random.key(seed), 4)
    inner = jax.random.normal(keys[0], (width, width))
    outer = jax.random.normal(keys[1], (width,))
    x = jax.random.normal(keys[2], (examples, width))
    y = jax.random.normal(keys[3], (examples,))

    def loss_fn(weights):
        inner, outer = weights
        hidden = jnp.tanh((2 / width) ** 0.5 * (x @ inner))
        return jnp.mean((hidden @ outer / width - y) ** 2)

    def train(rates: Float[Array, " 2"]) -> Float[Array, ""]:
        def step(weights, _):
            loss, gradient = fbp.value_and_grad(loss_fn)(weights)
            pairs = zip(weights, gradient, rates, strict=True)
            return tuple(w - rate * g for w, g, rate in pairs), loss

        _, losses = jax.lax.scan(step, (inner, outer), length=steps)
        shares = jnp.nan_to_num(losses / losses[0], nan=LARGEST_LOSS)
        shares = jnp.minimum(shares, LARGEST_LOSS)
        converged = jnp.mean(shares[-LAST:]) < 1
        return jnp.where(converged, jnp.sum(shares), -jnp.sum(1 / shares))

    return jax.jit(lambda pairs: jax.lax.map(train, pairs, batch_size=at_once))
