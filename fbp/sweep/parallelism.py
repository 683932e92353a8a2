"""Turn a function of one trial into one of all."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike
from jaxtyping import Int

from fbp.config import Sweep
from fbp.errors import InputError
from fbp.hosts import put_global
from fbp.train.trials import map_trials

TRIALS_AXIS = "trials"
Function = Callable[..., Any]
Kind = Literal["vmap", "seed", "map", "loop"]
KINDS = get_args(Kind)


@dataclass(frozen=True)
class Parallelism:
    """One way to run trials.

    Attributes:
      kind: `vmap` runs those of a device side by side, `map` one after another or `batch_size`
        at a time in one compiled loop, `seed` those of one seed, `batch_size` at a time, which
        share their batches; `loop` calls a compiled trial for one after another.
      batch_size: for `map` and `seed`.
      devices: how many devices the trials are divided over.
      seeds: for `seed`, how many seeds; of the trials in a row, each has the next one.
    """

    kind: Kind
    batch_size: int = 1
    devices: int = 1
    seeds: int = 1

    @property
    def mesh(self) -> Mesh:
        """The first devices, as many as needed. Raises InputError where there are fewer."""
        present = jax.devices()
        if self.devices > len(present):
            raise InputError(
                f"the trials ran on {self.devices} devices and here are {len(present)}: results "
                "would differ in the last digits; go on where there are as many"
            )
        return Mesh(np.array(present[: self.devices]), (TRIALS_AXIS,))

    @property
    def multiple(self) -> int:
        """Trials are padded to a multiple of this."""
        return self.devices * self.seeds

    def of(self, trials: int) -> "Parallelism":
        """Return this parallelism for another number of trials, over all devices that they can use.

        >>> Parallelism("seed", seeds=5).of(3).devices
        1
        """
        return replace(self, devices=devices_for(math.ceil(trials / self.seeds)))

    def on_same_devices(self, trials: int) -> "Parallelism":
        """Return this parallelism for another number of trials, on its devices or the first ones.

        >>> Parallelism("vmap", devices=4).on_same_devices(3).devices
        3
        """
        return replace(self, devices=min(self.devices, math.ceil(trials / self.seeds)))

    @property
    def trial_sharding(self) -> NamedSharding:
        """The sharding of arrays whose first dimension is the trials."""
        return NamedSharding(self.mesh, P(TRIALS_AXIS))

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of arrays that all trials share."""
        return NamedSharding(self.mesh, P())


def configured(sweep: Sweep, trials: int) -> Parallelism:
    """Return the parallelism that a config names, over all devices; `vmap` for `auto`."""
    kind = "vmap" if sweep.trials == "auto" else sweep.trials
    seeds = sweep.seeds if kind == "seed" else 1
    return Parallelism(kind, sweep.batch_size, seeds=seeds).of(trials)


def devices_for(trials: int) -> int:
    """Count the devices to divide trials over: one each at most, but all those of many hosts."""
    present = len(jax.devices())
    return min(present, trials) if jax.process_count() == 1 else present


def over_trials(fun: Function, parallelism: Parallelism, mesh: Mesh) -> Function:
    """Map `fun(trial, *shared)` over all trials, divided over the devices of a mesh.

    The number of trials is a multiple of the number of devices, see `pad_trials`.
    """
    return _sharded(lambda trials, *shared: _side_by_side(fun, parallelism, trials, *shared), mesh)


def over_seeds(fun: Function, parallelism: Parallelism, mesh: Mesh) -> Function:
    """Map `fun(trial, of_seed, *shared)` over all trials, `of_seed` indexed by the trial's seed.

    Returns a function `((trials, seeds), of_seeds, *shared)`, see `over_trials`. By `seed`, trials
    side by side are of one seed and have `of_seed` once for all.
    """

    def each(trials: Any, of_seeds: Any, *shared: Any) -> Any:
        one = lambda trial, *shared: fun(trial[0], _row(of_seeds, trial[1]), *shared)
        return _side_by_side(one, parallelism, trials, *shared)

    def grouped(trials: Any, of_seeds: Any, *shared: Any) -> Any:
        group = lambda members: _side_by_side(fun, parallelism, *members, *shared)
        by_seed = lambda leaf: leaf.reshape(-1, parallelism.seeds, *leaf.shape[1:]).swapaxes(0, 1)
        in_row = lambda leaf: leaf.swapaxes(0, 1).reshape(-1, *leaf.shape[2:])
        groups = jax.lax.map(group, (jax.tree.map(by_seed, trials[0]), of_seeds))
        return jax.tree.map(in_row, groups)

    return _sharded(grouped if parallelism.kind == "seed" else each, mesh)


def advance_over_seeds(fun: Function, parallelism: Parallelism, mesh: Mesh) -> Function:
    """Map `fun((state, trial), of_seed, *shared) -> (state, *measured)` over all trials.

    As `over_seeds`; where trials run one after another, a state takes the place of the one before,
    so that memory holds the states once: `jax.lax.map` would write them beside the old ones.
    """
    if parallelism.kind != "map" or parallelism.batch_size > 1:
        return over_seeds(fun, parallelism, mesh)

    def in_turn(trials: Any, of_seeds: Any, *shared: Any) -> Any:
        (states, rest), seeds = trials

        def advance(states: Any, i: Any) -> Any:
            pair = _row(states, i), _row(rest, i)
            state, *measured = fun(pair, _row(of_seeds, seeds[i]), *shared)
            put = lambda rows, row: jax.lax.dynamic_update_index_in_dim(rows, row, i, 0)
            return jax.tree.map(put, states, state), measured

        states, measured = jax.lax.scan(advance, states, jnp.arange(len(seeds)))
        return states, *measured

    return _sharded(in_turn, mesh)


def _row(rows: Any, i: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[i], rows)


def _side_by_side(fun: Function, parallelism: Parallelism, trials: Any, *shared: Any) -> Any:
    """Map `fun(trial, *shared)` over a device's trials, as many at a time as configured."""
    at_once = {"vmap": None, "loop": 1}.get(parallelism.kind, parallelism.batch_size)
    return map_trials(lambda trial: fun(trial, *shared), trials, at_once)


def _sharded(part: Function, mesh: Mesh) -> Function:
    """Map `part(trials, *shared)` over the trials of each device."""

    def sharded(trials: Any, *shared: Any) -> Any:
        specs = {"in_specs": (P(TRIALS_AXIS), *(P() for _ in shared)), "out_specs": P(TRIALS_AXIS)}
        return jax.shard_map(part, mesh=mesh, **specs, check_vma=False)(trials, *shared)

    return sharded


def round_up(count: int, multiple: int) -> int:
    """Return the least multiple that is not smaller than `count`.

    >>> round_up(3, 2)
    4
    """
    return math.ceil(count / multiple) * multiple


def pad_trials(trials: Any, multiple: int) -> Any:
    """Repeat the last trial until the number of trials is a multiple.

    >>> print(pad_trials(jnp.arange(3), 2))
    [0 1 2 2]
    """
    count = len(jax.tree.leaves(trials)[0])
    if count % multiple == 0:
        return trials
    return take_trials(trials, np.minimum(np.arange(round_up(count, multiple)), count - 1))


@jax.jit  # of all leaves one program: compiling one a leaf takes longer than a small sweep trains
def take_trials(trials: Any, indices: Int[ArrayLike, " trials"]) -> Any:
    """Return copies of the trials at these indices."""
    return jax.tree.map(lambda leaf: leaf[indices], trials)


def select_trials(trials: Any, indices: Sequence[int], parallelism: Parallelism) -> Any:
    """Copy the trials at these indices, padded, and divided over the devices."""
    chosen = take_trials(trials, np.array(indices))
    return put_global(pad_trials(chosen, parallelism.multiple), parallelism.trial_sharding)


def loop_over_trials(call: Function, sharding: NamedSharding) -> Function:
    """Call `call(trials, *shared)` for one trial of each device after another, and concatenate.

    `sharding` is how arrays over the trials are divided over the devices.
    """
    devices = sharding.num_devices

    @functools.partial(jax.jit, out_shardings=sharding)
    def split(trials: Any) -> list[Any]:
        starts = range(0, len(jax.tree.leaves(trials)[0]), devices)
        cut = lambda i: jax.tree.map(lambda leaf: leaf[i : i + devices], trials)
        return [cut(i) for i in starts]

    @functools.partial(jax.jit, out_shardings=sharding)
    def join(parts: list[Any]) -> Any:
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)

    return lambda trials, *shared: join([call(part, *shared) for part in split(trials)])
