"""Many steps in one compiled program."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

State = TypeVar("State")
Examples = tuple[Float[Array, "examples ..."], Num[Array, " examples"]]


def scan_steps(
    update: Callable[[State, Any], tuple[State, Any]],
    state: State,
    examples: Any,
    indices: Int[Array, "steps ..."],
) -> tuple[State, Any]:
    """Scan an update over the rows of `indices`: return the last state, and each step's outputs.

    A row has the indices of a batch's examples; or it is one index, where each of `examples` is a
    whole batch.

    >>> add = lambda total, batch: (total + jnp.sum(batch[0]), total)
    >>> data = jnp.arange(4.0), jnp.zeros(4)
    >>> total, history = scan_steps(add, jnp.zeros(()), data, jnp.array([[0, 1], [2, 3]]))
    >>> print(total, history)
    6.0 [0. 1.]
    """

    examples = jax.tree.map(jnp.asarray, examples)

    def step(state: State, index: Int[Array, "..."]) -> tuple[State, Any]:
        batch = jax.tree.map(lambda leaf: leaf[index], examples)
        return update(state, batch)

    return jax.lax.scan(step, state, indices)
