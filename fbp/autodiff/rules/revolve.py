"""The saved states of a loop of unknown length, from which it is run backward.

While the loop runs, every stride-th state is saved, and the stride doubles when the slots run
out (Wang, Moin and Iaccarino, Minimal repetition dynamic checkpointing algorithm for unsteady
adjoint calculation, 2009). When its length is known, the states between two saved ones are
computed again, and some of them saved, such that the repetitions are fewest (Griewank and
Walther, Algorithm 799: revolve, 2000).
"""

from collections.abc import Sequence
from functools import cache
from math import comb
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

FREE = -1
MOST_REPETITIONS = 64


class SavedStates(NamedTuple):
    """Saved states, each with the number of its step; one more place takes what is not kept."""

    steps: jax.Array
    states: list[jax.Array]

    @property
    def latest(self) -> tuple[jax.Array, list[Any]]:
        """The last of the saved steps, and its state."""
        slot = jnp.argmax(self.steps)
        return self.steps[slot], [lax.dynamic_index_in_dim(s, slot, 0, False) for s in self.states]

    def save(self, step: Any, state: Sequence[Any], keep: Any) -> "SavedStates":
        """Save a state in a free place, if it is to be kept."""
        num_slots = self.steps.size
        slot = jnp.where(keep, jnp.argmin(self.steps), num_slots)
        steps = jnp.where(np.arange(num_slots) == slot, step, self.steps)
        states = [
            lax.dynamic_update_index_in_dim(saved, x, slot, 0)
            for saved, x in zip(self.states, state, strict=True)
        ]
        return SavedStates(steps, states)

    def without(self, dropped: Any) -> "SavedStates":
        """Free some places."""
        return self._replace(steps=jnp.where(dropped, FREE, self.steps))


def free(steps: jax.Array) -> jax.Array:
    """Count the free slots."""
    return jnp.sum(steps == FREE, dtype=np.int32)


def empty(num_slots: int, state: Sequence[Any]) -> SavedStates:
    """Return slots in which no state is saved."""
    free_slots = [lax.broadcast(x, (num_slots + 1,)) for x in state]
    return SavedStates(jnp.full(num_slots, FREE, np.int32), free_slots)


def save_online(
    saved: SavedStates, step: Any, state: Sequence[Any], stride: Any
) -> tuple[SavedStates, Any]:
    """Save a state while the loop's length is unknown, and return the stride to continue with.

    All slots are for a stride of 1; a longer one leaves half of them to `first_stop`.
    """

    def is_full(carry: Any) -> Any:
        steps, stride = carry
        is_full = free(steps) <= jnp.where(stride == 1, 0, steps.size // 2)
        return (step % stride == 0) & is_full

    def double(carry: Any) -> Any:
        steps, stride = carry
        return jnp.where(steps % (2 * stride) == 0, steps, FREE), 2 * stride

    steps, stride = lax.while_loop(is_full, double, (saved.steps, stride))
    return saved._replace(steps=steps).save(step, state, step % stride == 0), stride


def first_stop(free_slots: Any, length: Any, num_slots: int) -> Any:
    """Return how far to go before saving the next state, if `length` states are to be visited from
    the last to the first, the first is saved, and `free_slots` of `num_slots` are free.

    With s saved states and r repetitions, binomial(s + r, s) states can be visited.
    """
    visited = jnp.asarray(_visited(num_slots + 1))
    with_all, with_one_less = visited[free_slots + 1], visited[free_slots]
    repetitions = jnp.sum(with_all < length, dtype=np.int32)
    before = jnp.maximum(repetitions - 1, 0)
    fewest = jnp.minimum(with_all[before], length - with_one_less[before])
    far = jnp.where(repetitions < MOST_REPETITIONS, fewest, length // 2)
    return jnp.where(free_slots > 0, far, length - 1)


@cache
def _visited(most: int) -> np.ndarray:
    """Return binomial(s + r, s) for s saved states (rows) and r repetitions (columns)."""
    largest = np.iinfo(np.int32).max
    rows = [
        [min(comb(s + r, s), largest) for r in range(MOST_REPETITIONS)] for s in range(most + 1)
    ]
    return np.array(rows, np.int32)
