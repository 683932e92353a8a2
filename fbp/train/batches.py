"""Choose the examples of each step."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from fbp.errors import InputError


def batch_indices(
    key: Key[Array, ""], start: Int[Array, ""] | int, steps: int, examples: int, batch_size: int
) -> Int[Array, "steps batch"]:
    """Return the examples of steps `start` to `start + steps`, as indices.

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


def check_batch(batch: Any) -> None:
    """Raise InputError where the leaves differ in their number of examples, with the path.

    >>> check_batch({"x": jnp.ones((8, 3)), "y": jnp.ones(5)})
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: batch['y'] has shape [5], but batch['x'] has shape [8, 3]: ...
    """
    leaves = [
        (f"batch{jax.tree_util.keystr(path)}", jnp.shape(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(batch)
    ]
    for name, shape in leaves:
        first, expected = leaves[0]
        if not shape or shape[0] != expected[0]:
            raise InputError(
                f"{name} has shape {list(shape)}, but {first} has shape {list(expected)}: the "
                "first dimension of every leaf counts the examples"
            )
