"""Many processes as one: the first process broadcasts, the others follow.

All processes of a run call the same functions in the same order. With one process, nothing is
sent.
"""

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding

from fbp.errors import InputError

Value = TypeVar("Value")


def is_first() -> bool:
    """Return whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def broadcast(value: Value) -> Value:
    """Broadcast the first process's value (of clocks and files) to every process.

    >>> broadcast(0.25)
    0.25
    """
    if jax.process_count() == 1:
        return value
    from jax.experimental.multihost_utils import broadcast_one_to_all

    content = np.frombuffer(pickle.dumps(value), np.uint8)
    length = int(broadcast_one_to_all(np.array(len(content), np.int32)))
    told = content if is_first() else np.zeros(length, np.uint8)
    return pickle.loads(np.asarray(broadcast_one_to_all(told)).tobytes())


def on_first_process(call: Callable[..., Value], *args: Any) -> Value:
    """Call a function on the first process only, and broadcast its result.

    Raises InputError on every process if the call does.

    >>> on_first_process(max, 1, 2)
    2
    """
    if jax.process_count() == 1:
        return call(*args)
    outcome, complaint = None, None
    if is_first():
        try:
            outcome = call(*args)
        except InputError as error:
            complaint = str(error)
    outcome, complaint = broadcast((outcome, complaint))
    if complaint is not None:
        raise InputError(complaint)
    return outcome  # pyright: ignore[reportReturnType]


def gather_global(array: Any) -> np.ndarray:
    """Return the values of an array, wherever its shards are."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return np.asarray(array)
    from jax.experimental.multihost_utils import process_allgather

    return np.asarray(process_allgather(array, tiled=True))


def put_global(tree: Any, sharding: NamedSharding) -> Any:
    """Put arrays that every process has, or global arrays, on the devices of all processes.

    >>> mesh = jax.make_mesh((2,), ("trials",))
    >>> len(put_global(np.arange(4), NamedSharding(mesh, jax.P("trials"))).devices())
    2
    """
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return jax.jit(lambda leaf: leaf, out_shardings=sharding)(leaf)
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, values.__getitem__)

    return jax.tree.map(put, tree)
