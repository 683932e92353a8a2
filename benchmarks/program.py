"""What a benchmark differentiates: a loss, its parameters and its data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Loss = Callable[..., jax.Array]


@dataclass(frozen=True)
class Program:
    """loss(params, *data), to be differentiated in params.

    `for_jax` is the same function written so that `jax.grad` can differentiate it, where it
    cannot as it stands. `scans` says that most of the work is a loop. `ulps` is how far the two
    gradients may lie apart, in units in the last place of the largest element.
    """

    loss: Loss
    params: Any
    data: tuple[Any, ...] = ()
    for_jax: Loss | None = None
    scans: bool = False
    ulps: int = 64

    def losses(self) -> dict[str, Loss]:
        """Make the loss that each side differentiates anew, so that no trace of it is cached."""
        return {"fbp": _anew(self.loss), "jax": _anew(self.for_jax or self.loss)}


def _anew(fun: Loss) -> Loss:
    return lambda *args: fun(*args)


def normal(seed: int, *shape: int, scale: float = 1.0) -> jax.Array:
    """Float32 numbers from a normal distribution."""
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, shape), jnp.float32)


def weight(seed: int, *shape: int) -> jax.Array:
    """Draw a matrix that preserves the size of what it is multiplied with."""
    return normal(seed, *shape, scale=shape[-2] ** -0.5)
