"""All trials as one compiled program: start, advance, measure."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int

from fbp.compile_options import jit_to_run_once
from fbp.sweep.divergence import (
    MonitoredState,
    check_validation,
    monitored,
    with_divergence_check,
)
from fbp.sweep.grid import Grid
from fbp.sweep.parallelism import (
    TRIALS_AXIS,
    Parallelism,
    advance_over_seeds,
    configured,
    loop_over_trials,
    over_seeds,
    over_trials,
    pad_trials,
    take_trials,
)
from fbp.sweep.study import Study
from fbp.train.batches import batch_indices
from fbp.train.engine import keys_of
from fbp.train.objective import Metrics
from fbp.train.problem import Batches, Part, example_count
from fbp.train.state import TrainState

Trial = tuple[MonitoredState, Grid]


@dataclass(frozen=True)
class Program:
    """The compiled parts of a sweep. Arrays over the trials are as long as the grid.

    Attributes:
      parallelism: how trials run.
      start: `(grid, validation) -> (states, metrics)`: draws parameters, measures validation.
        The states are padded, see `Parallelism.multiple`.
      draw: `(start, steps) -> orders`: for each seed, the examples of each step; all trials of a
        seed share them. Where the training data are batches, the number of each step's batch.
      train: `(states, grid, orders, training, validation) -> (states, losses, metrics, layers)`: an
        update of each trial for each step of the orders; the mean training loss of each, its
        validation metrics, and what its last step is recorded to do to each layer, which is empty
        without `train.record`. Donates the states' buffers.
      measure: `(states, part) -> metrics`, of training states.
      lower: takes the arguments of `train`, or their shapes; returns the program, lowered; in a
        loop that of one trial for each device.
      compile: takes the arguments of `train`; returns `train` compiled for such arrays.
    """

    parallelism: Parallelism
    start: Callable[..., Any]
    draw: Callable[..., Int[Array, "seeds steps ..."]]
    train: Callable[..., Any]
    measure: Callable[..., Any]
    lower: Callable[..., jax.stages.Lowered]
    compile: Callable[..., Callable[..., Any]]

    def advance(
        self,
        states: Any,
        grid: Grid,
        start: Any,
        training: Part,
        validation: Part,
        steps: int,
    ) -> tuple[Any, Any, Metrics, Any]:
        """Run `train`, from step `start` for `steps` steps."""
        return self.train(states, grid, self.draw(start, steps), training, validation)


def make_program(
    study: Study, parallelism: Parallelism | None = None, mesh: Mesh | None = None
) -> Program:
    """Compile a study's program, for the parallelism of the config or another, on its devices.

    A trial is trained exactly as `fbp.train.train` does with `key=jax.random.key(seed)` on one
    device; with `trials = "map"` or `"loop"` the result is the same bit for bit. With a `mesh`, its
    devices are used.
    """
    parallelism = parallelism or configured(study.config.sweep, len(study.trials))
    mesh = mesh or parallelism.mesh
    trial_sharding, replicated = NamedSharding(mesh, P(TRIALS_AXIS)), NamedSharding(mesh, P())
    train_trial, measure_all = _training(study), _measure(study.engine.measure, parallelism, mesh)

    @functools.partial(
        jax.jit,
        donate_argnums=0,
        in_shardings=(trial_sharding, trial_sharding, replicated, replicated, replicated),
        out_shardings=trial_sharding,
    )
    def train_padded(states, grid, orders, training, validation):
        trials = (states, grid), grid.seed
        return advance_over_seeds(train_trial, parallelism, mesh)(
            trials, orders, training, validation
        )

    def lower(states, grid, *data):
        is_loop = parallelism.kind == "loop"
        size = parallelism.devices if is_loop else states.diverged_at.shape[0]
        sized = lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype)
        return train_padded.lower(*jax.tree.map(sized, (states, grid)), *data)

    def compile(states, grid, *data):
        return train_by(lower(states, grid, *data).compile())

    train_by = lambda run: _train(run, parallelism, trial_sharding, replicated)
    draw = _batch_orders(study, parallelism, mesh)
    start = _start(study, measure_all, parallelism, mesh)
    return Program(parallelism, start, draw, train_by(train_padded), measure_all, lower, compile)


def _training(study: Study) -> Callable[..., Any]:
    """Make the training of one trial."""
    engine, factor = study.engine, study.config.sweep.divergence_factor
    watch = lambda update: update and (lambda n: with_divergence_check(update(n), factor))
    watched = replace(engine, update=watch(engine.update), recorded=watch(engine.recorded))

    def train_trial(pair: Trial, order: Any, training: Part, validation: Part):
        trial, grid = pair
        advance = watched.advance_recorded
        trial, losses, layers = advance(trial, grid.hyperparameters, training, order)
        metrics, mean = engine.measure(trial.train, validation), jax.tree.map(jnp.mean, losses)
        return check_validation(trial, metrics["loss"]), mean, metrics, layers

    return train_trial


def _start(
    study: Study,
    measure_all: Callable[..., Metrics],
    parallelism: Parallelism,
    mesh: Mesh,
) -> Callable[[Grid, Part], tuple[MonitoredState, Metrics]]:
    """Compile the first states of all trials, and what validation says of them.

    Parameters are drawn once for each seed; trial by trial only where there are more seeds.
    """
    engine, seeds = study.engine, study.config.sweep.seeds
    once = functools.partial(
        jit_to_run_once,
        platform=mesh.devices.flat[0].platform,
        out_shardings=NamedSharding(mesh, P(TRIALS_AXIS)),
    )

    def draw(seed: Any) -> tuple[Any, Any]:
        return engine.draw(keys_of(seed)[0])

    def begin(grid: Grid, drawn: tuple[Any, Any]) -> TrainState:
        return engine.begin(drawn, keys_of(grid.seed)[2], grid.hyperparameters)

    @once
    def init(grid: Grid):
        padded = pad_trials(grid, parallelism.multiple)
        if len(grid.seed) < seeds:
            alone = lambda grid: begin(grid, draw(grid.seed))
            return over_trials(alone, parallelism, mesh)(padded)
        numbers = pad_trials(jnp.arange(seeds), parallelism.devices)
        drawn = _first(seeds, over_trials(draw, parallelism, mesh)(numbers))
        return over_seeds(begin, parallelism, mesh)((padded, padded.seed), drawn)

    @functools.partial(once, donate_argnums=0)
    def monitor(states, losses):
        factor = study.config.sweep.divergence_factor
        return jax.vmap(lambda state, loss: monitored(state, loss, factor))(states, losses)

    def start(grid: Grid, validation: Part):
        states = init(grid)
        metrics = measure_all(states, validation)
        return monitor(states, metrics["loss"]), _first(len(grid.seed), metrics)

    return start


def _batch_orders(
    study: Study, parallelism: Parallelism, mesh: Mesh
) -> Callable[..., Int[Array, "seeds steps ..."]]:
    """Compile the examples of each step, for each seed; the seeds divided over the devices."""
    training, batch_size = study.problem.parts["train"], study.config.train.batch_size
    seeds, side_by_side = study.config.sweep.seeds, Parallelism("vmap", devices=parallelism.devices)

    @functools.partial(
        jit_to_run_once,
        platform=mesh.devices.flat[0].platform,
        static_argnums=1,
        out_shardings=NamedSharding(mesh, P()),
    )
    def draw(start: Any, steps: int):
        if isinstance(training, Batches):
            return jnp.broadcast_to(jnp.arange(steps), (seeds, steps))

        def order(seed: Any, start: Any):
            count = example_count(training)
            return batch_indices(keys_of(seed)[1], start, steps, count, batch_size)

        numbers = pad_trials(jnp.arange(seeds), parallelism.devices)
        return _first(seeds, over_trials(order, side_by_side, mesh)(numbers, start))

    return draw


def _measure(
    measure: Callable[..., Metrics], parallelism: Parallelism, mesh: Mesh
) -> Callable[..., Metrics]:
    """Compile `(states, part) -> metrics` of all trials."""

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, P()))
    def measure_padded(states, part):
        return over_trials(measure, parallelism, mesh)(states, part)

    sharding = NamedSharding(mesh, P(TRIALS_AXIS))

    def measure_all(states, part):
        padded = pad_trials(states, parallelism.multiple)
        divided = jax.tree.map(lambda leaf: _put(leaf, sharding), padded)
        return _first(len(jax.tree.leaves(states)[0]), measure_padded(divided, part))

    return measure_all


def _put(leaf: Array, sharding: NamedSharding) -> Array:
    """Put an array where a sharding says; a key by its data, since JAX puts no key where the
    devices of other processes are."""
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.device_put(leaf, sharding)
    data = jax.device_put(jax.random.key_data(leaf), sharding)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))


def _train(
    train_padded: Callable[..., Any],
    parallelism: Parallelism,
    trial_sharding: NamedSharding,
    replicated: NamedSharding,
) -> Callable[..., Any]:
    """Train all trials, by a function of all or, in a loop, of one for each device."""
    calls = lambda pair, *data: train_padded(*pair, *data)
    run = loop_over_trials(calls, trial_sharding) if parallelism.kind == "loop" else calls

    def train(states: Any, grid: Grid, *data: Any) -> tuple[Any, Any, Metrics, Any]:
        padded = pad_trials(grid, parallelism.multiple)
        pair = jax.device_put((states, padded), trial_sharding)
        states, *measured = run(pair, *jax.device_put(data, replicated))
        losses, metrics, layers = _first(len(grid.seed), measured)
        return states, losses, metrics, layers

    return train


def _first(count: int, arrays: Any) -> Any:
    """Return the arrays without the padding."""
    if all(len(leaf) == count for leaf in jax.tree.leaves(arrays)):
        return arrays
    return take_trials(arrays, np.arange(count))
