"""Compute the gradient of a batch in parts, where it does not fit at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from fbp.errors import InputError
from fbp.train.batches import check_batch


def mean_over_microbatches(
    loss_and_grads: Callable[[Any, Any, Key[Array, ""]], Any], count: int
) -> Callable[[Any, Any, Key[Array, ""]], Any]:
    """Return a function of a batch: the mean loss and gradients of `count` equal parts of it.

    The parts follow each other in a scan within the step, so that the residuals of only one are in
    memory at a time. Part i is every `count`-th example from the i-th on, which leaves a batch that
    is divided over devices where it is, and has the key `fold_in(key, i)`.

    `with_guards(accumulate=)` averages over steps instead: each has its own batch and state, and
    `count` of them make one update. Here each step is one update.

    Raises InputError where `count` does not divide the batch.

    >>> from fbp.train.step import loss_and_grads_fn
    >>> loss_and_grads = loss_and_grads_fn(lambda params, x, key: jnp.mean(params * x))
    >>> in_halves = mean_over_microbatches(loss_and_grads, count=2)
    >>> loss, grads = in_halves(2.0, jnp.arange(4.0), jax.random.key(0))
    >>> print(loss, grads)
    3.0 1.5
    """
    if count == 1:
        return loss_and_grads

    def mean(params: Any, batch: Any, key: Key[Array, ""]) -> Any:
        parts = _parts(batch, count)

        def add(total: Any, at: Any) -> tuple[Any, None]:
            i, part = at
            one = loss_and_grads(params, part, jax.random.fold_in(key, i))
            return jax.tree.map(jnp.add, total, one), None

        first = jax.tree.map(lambda leaf: leaf[0], parts)
        shapes = jax.eval_shape(loss_and_grads, params, first, key)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        total, _ = jax.lax.scan(add, zeros, (jnp.arange(count), parts))
        return jax.tree.map(lambda leaf: leaf / count, total)

    return mean


def _parts(batch: Any, count: int) -> Any:
    check_batch(batch)
    examples = {jnp.shape(leaf)[0] for leaf in jax.tree.leaves(batch)}
    if any(size % count for size in examples):
        raise InputError(
            f"a batch of {examples.pop()} examples cannot be divided into {count} microbatches: "
            "give a divisor"
        )
    return jax.tree.map(
        lambda leaf: jnp.swapaxes(jnp.reshape(leaf, (-1, count, *jnp.shape(leaf)[1:])), 0, 1), batch
    )
