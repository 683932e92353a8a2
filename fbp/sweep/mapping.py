"""How a function of one trial becomes one of all."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fbp.config import Sweep
from fbp.errors import InputError

AXIS = "trials"


@dataclass(frozen=True)
class Mapping:
    """One way to run trials.

    Attributes:
      kind: `vmap` runs those of a device side by side, `map` one after another or `batch_size`
        at a time in one compiled loop, `loop` calls a compiled trial for one after another.
      batch_size: for `map`.
      devices: the trials are divided over so many.
    """

    kind: Literal["vmap", "map", "loop"]
    batch_size: int = 1
    devices: int = 1

    @property
    def mesh(self) -> Mesh:
        """The first devices, as many as needed. Raises InputError where there are fewer."""
        present = jax.devices()
        if self.devices > len(present):
            raise InputError(
                f"the trials ran on {self.devices} devices and here are {len(present)}: results "
                "would differ in the last digits; go on where there are as many"
            )
        return Mesh(np.array(present[: self.devices]), (AXIS,))

    @property
    def over_trials(self) -> NamedSharding:
        """Where arrays with a leading dimension over the trials are."""
        return NamedSharding(self.mesh, P(AXIS))

    @property
    def everywhere(self) -> NamedSharding:
        """Where arrays are that all trials share."""
        return NamedSharding(self.mesh, P())


def given(sweep: Sweep, trials: int) -> Mapping:
    """The mapping that a config names, over all devices; `vmap` where it leaves the choice."""
    kind = "vmap" if sweep.trials == "auto" else sweep.trials
    return Mapping(kind, sweep.batch_size, devices_for(trials))


def devices_for(trials: int) -> int:
    """How many devices trials are divided over: one each at most, but all those of many hosts."""
    present = len(jax.devices())
    return min(present, trials) if jax.process_count() == 1 else present


def over_trials(fun: Callable[..., Any], how: Mapping, mesh: Mesh) -> Callable[..., Any]:
    """`fun(trial, *shared)`, of all trials, divided over the devices of a mesh.

    The number of trials is a multiple of the number of devices, see `padded`.
    """

    def part(trials: Any, *shared: Any) -> Any:
        one = lambda trial: fun(trial, *shared)
        if how.kind == "vmap":
            return jax.vmap(one)(trials)
        batch_size = how.batch_size if how.kind == "map" and how.batch_size > 1 else None
        return jax.lax.map(one, trials, batch_size=batch_size)

    def mapped(trials: Any, *shared: Any) -> Any:
        specs = (P(AXIS), *(P() for _ in shared))
        return jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=P(AXIS), check_vma=False)(
            trials, *shared
        )

    return mapped


def padded(trials: Any, devices: int) -> Any:
    """The trials, the last one again until they divide over the devices.

    >>> print(padded(jnp.arange(3), 2))
    [0 1 2 2]
    """
    count = len(jax.tree.leaves(trials)[0])
    if count % devices == 0:
        return trials
    index = np.minimum(np.arange(-(-count // devices) * devices), count - 1)
    return jax.tree.map(lambda leaf: leaf[index], trials)


def looped(call: Callable[..., Any], spread: NamedSharding) -> Callable[..., Any]:
    """`call(trials, *shared)` for one trial of each device after another, joined again.

    `spread` is how arrays over the trials are divided over the devices.
    """
    devices = spread.num_devices

    @functools.partial(jax.jit, out_shardings=spread)
    def split(trials: Any) -> list[Any]:
        starts = range(0, len(jax.tree.leaves(trials)[0]), devices)
        cut = lambda i: jax.tree.map(lambda leaf: leaf[i : i + devices], trials)
        return [cut(i) for i in starts]

    @functools.partial(jax.jit, out_shardings=spread)
    def join(parts: list[Any]) -> Any:
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)

    return lambda trials, *shared: join([call(part, *shared) for part in split(trials)])
