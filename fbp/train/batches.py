"""Which examples each step sees."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key


def batch_indices(
    key: Key[Array, ""], start: Int[Array, ""] | int, steps: int, examples: int, batch_size: int
) -> Int[Array, "steps batch"]:
    """The examples of steps `start` to `start + steps`, as indices.

    Each epoch is a new permutation of all examples, drawn from `fold_in(key, epoch)` and cut
    into batches; the remainder that fills none is left out of that epoch. The batch of a step
    depends on `key` and the step alone, however the steps are divided into calls.

    >>> batch_indices(jax.random.key(0), 0, steps=2, examples=4, batch_size=2).shape
    (2, 2)
    """
    per_epoch = examples // batch_size
    first = start // per_epoch
    epochs = first + jnp.arange((steps - 2) // per_epoch + 2)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, epochs)
    orders = jax.vmap(jax.random.permutation, (0, None))(keys, examples)
    batches = orders[:, : per_epoch * batch_size].reshape(-1, batch_size)
    return jax.lax.dynamic_slice_in_dim(batches, start - first * per_epoch, steps)
