"""All trials as one compiled program: start, advance, measure."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Key

from fbp.config import Config
from fbp.sweep.grid import Grid, trials_of
from fbp.sweep.parallelism import (
    TRIALS_AXIS,
    Parallelism,
    configured,
    loop_over_trials,
    over_seeds,
    over_trials,
    pad_trials,
)
from fbp.sweep.problem import SweepProblem
from fbp.train.batches import batch_indices
from fbp.train.objective import Metrics, evaluate, mean_loss
from fbp.train.optimizer import make_optimizer
from fbp.train.scan_steps import Examples, scan_steps
from fbp.train.state import TrainState, initial_state
from fbp.train.step import Loss, Update, loss_and_grads_fn, make_update


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MonitoredState:
    """A trial's training state, monitored for divergence; in the program, one row for each trial.

    Attributes:
      train: the state of the training; of a trial that has diverged it is meaningless.
      limit: the loss above which it has diverged.
      diverged_at: the step at which it did, -1 before.
    """

    train: TrainState
    limit: Float[Array, ""]
    diverged_at: Int[Array, ""]


@dataclass(frozen=True)
class Program:
    """The compiled parts of a sweep. Arrays over the trials are as long as the grid.

    Attributes:
      parallelism: how trials run.
      start: `(grid, validation) -> (states, metrics)`: draws parameters, measures validation.
        The states are padded, see `Parallelism.multiple`.
      draw: `(start, steps) -> orders`: for each seed, the examples of each step; all trials of a
        seed share them.
      train: `(states, grid, orders, training, validation) -> (states, losses, metrics)`: an
        update of each trial for each step of the orders; the mean training loss of each, and its
        validation metrics. Donates the states' buffers.
      measure: `(params, split) -> metrics`.
      lower: takes the arguments of `train`, or their shapes; returns the program, lowered; in a
        loop that of one trial for each device.
      compile: takes the arguments of `train`; returns `train` compiled for such arrays.
    """

    parallelism: Parallelism
    start: Callable[..., Any]
    draw: Callable[..., Int[Array, "seeds steps batch"]]
    train: Callable[..., Any]
    measure: Callable[..., Any]
    lower: Callable[..., jax.stages.Lowered]
    compile: Callable[..., Callable[..., Any]]

    def advance(
        self,
        states: Any,
        grid: Grid,
        start: Any,
        training: Examples,
        validation: Examples,
        steps: int,
    ) -> tuple[Any, Array, Metrics]:
        """Run `train`, from step `start` for `steps` steps."""
        return self.train(states, grid, self.draw(start, steps), training, validation)


def make_program(
    config: Config,
    problem: SweepProblem,
    parallelism: Parallelism | None = None,
    mesh: Mesh | None = None,
) -> Program:
    """Compile a study's program, for the parallelism of the config or another, on its devices.

    A trial is trained exactly as `fbp.train.train` does with `key=jax.random.key(seed)` on one
    device; with `trials = "map"` or `"loop"` the result is the same bit for bit. With a `mesh`, its
    devices are used.
    """
    parallelism = parallelism or configured(config.sweep, len(trials_of(config.sweep)))
    mesh = mesh or parallelism.mesh
    trial_sharding, replicated = NamedSharding(mesh, P(TRIALS_AXIS)), NamedSharding(mesh, P())
    start_trial, train_trial, measure = _of_one_trial(config, problem)

    @functools.partial(jax.jit, out_shardings=(trial_sharding, replicated))
    def start(grid: Grid, validation: Examples):
        full = pad_trials(grid, parallelism.multiple)
        states, metrics = over_trials(start_trial, parallelism, mesh)(full, validation)
        return states, _first(len(grid.seed), metrics)

    @functools.partial(
        jax.jit,
        donate_argnums=0,
        in_shardings=(trial_sharding, trial_sharding, replicated, replicated, replicated),
        out_shardings=trial_sharding,
    )
    def train_padded(states, grid, orders, training, validation):
        trials = (states, grid), grid.seed
        return over_seeds(train_trial, parallelism, mesh)(trials, orders, training, validation)

    def lower(states, grid, *data):
        is_loop = parallelism.kind == "loop"
        size = parallelism.devices if is_loop else states.diverged_at.shape[0]
        sized = lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype)
        return train_padded.lower(*jax.tree.map(sized, (states, grid)), *data)

    def compile(states, grid, *data):
        return train_by(lower(states, grid, *data).compile())

    train_by = lambda run: _train(run, parallelism, trial_sharding, replicated)
    draw = _batch_orders(config, problem, parallelism, mesh)
    measure_all = _measure(measure, parallelism, mesh)
    return Program(parallelism, start, draw, train_by(train_padded), measure_all, lower, compile)


def _of_one_trial(
    config: Config, problem: SweepProblem
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Metrics]]:
    """Make the start, the training and the measurement of one trial."""
    forward, objective = problem.network.apply, problem.objective
    loss_and_grads = loss_and_grads_fn(mean_loss(forward, objective))
    measure = functools.partial(evaluate, forward, objective)

    def optimizer(hyperparameters: dict[str, Array]):
        return make_optimizer(config.optimizer, config.train, hyperparameters)

    def start_trial(grid: Grid, validation: Examples) -> tuple[MonitoredState, Metrics]:
        init_key, _, step_key = _keys(grid.seed)
        params, _ = problem.network.init(init_key, problem.in_shape)
        metrics = measure(params, *validation)
        state = initial_state(params, optimizer(grid.hyperparameters), step_key)
        limit = config.sweep.divergence_factor * metrics["loss"]
        return MonitoredState(state, limit, jnp.full((), -1, jnp.int32)), metrics

    def train_trial(pair: tuple[MonitoredState, Grid], order, training, validation):
        trial, grid = pair
        update = make_update(loss_and_grads, optimizer(grid.hyperparameters))
        trial, losses = scan_steps(_with_divergence_check(update), trial, training, order)
        metrics = measure(trial.train.params, *validation)
        return _mark_divergence(trial, metrics["loss"]), jnp.mean(losses), metrics

    return start_trial, train_trial, measure


def _batch_orders(
    config: Config, problem: SweepProblem, parallelism: Parallelism, mesh: Mesh
) -> Callable[..., Int[Array, "seeds steps batch"]]:
    """Compile the examples of each step, for each seed; the seeds divided over the devices."""
    examples, batch_size = len(problem.dataset.train), config.train.batch_size
    seeds, side_by_side = config.sweep.seeds, Parallelism("vmap", devices=parallelism.devices)

    @functools.partial(jax.jit, static_argnums=1, out_shardings=NamedSharding(mesh, P()))
    def draw(start: Any, steps: int):
        def order(seed: Any, start: Any):
            return batch_indices(_keys(seed)[1], start, steps, examples, batch_size)

        numbers = pad_trials(jnp.arange(seeds), parallelism.devices)
        return _first(seeds, over_trials(order, side_by_side, mesh)(numbers, start))

    return draw


def _measure(
    measure: Callable[..., Metrics], parallelism: Parallelism, mesh: Mesh
) -> Callable[..., Metrics]:
    """Compile `(params, split) -> metrics` of all trials."""

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, P()))
    def measure_padded(params, split):
        one = lambda params, *split: measure(params, *split)
        return over_trials(one, parallelism, mesh)(params, *split)

    def measure_all(params, split):
        padded = pad_trials(params, parallelism.multiple)
        divided = jax.device_put(padded, NamedSharding(mesh, P(TRIALS_AXIS)))
        return _first(len(jax.tree.leaves(params)[0]), measure_padded(divided, split))

    return measure_all


def _train(
    train_padded: Callable[..., Any],
    parallelism: Parallelism,
    trial_sharding: NamedSharding,
    replicated: NamedSharding,
) -> Callable[..., Any]:
    """Train all trials, by a function of all or, in a loop, of one for each device."""
    calls = lambda pair, *data: train_padded(*pair, *data)
    run = loop_over_trials(calls, trial_sharding) if parallelism.kind == "loop" else calls

    def train(states: Any, grid: Grid, *data: Any) -> tuple[Any, Array, Metrics]:
        padded = pad_trials(grid, parallelism.multiple)
        pair = jax.device_put((states, padded), trial_sharding)
        states, losses, metrics = run(pair, *jax.device_put(data, replicated))
        return states, *_first(len(grid.seed), (losses, metrics))

    return train


def _first(count: int, arrays: Any) -> Any:
    """Return the arrays without the padding."""
    return jax.tree.map(lambda leaf: leaf[:count], arrays)


def _keys(seed: Int[Array, ""]) -> Key[Array, " 3"]:
    """Return the keys of the parameters, of the order of examples, and of the steps."""
    return jax.random.split(jax.random.key(seed), 3)


def _with_divergence_check(
    update: Update,
) -> Callable[[MonitoredState, Any], tuple[MonitoredState, Loss]]:
    """Return the update of a trial that marks its divergence."""

    def judged_update(trial: MonitoredState, batch: Any) -> tuple[MonitoredState, Loss]:
        state, loss = update(trial.train, batch)
        return replace(_mark_divergence(trial, loss), train=state), loss

    return judged_update


def _mark_divergence(trial: MonitoredState, loss: Loss) -> MonitoredState:
    """Mark the trial if this loss is its first one out of bounds; NaN is."""
    diverges = (trial.diverged_at < 0) & ~(loss <= trial.limit)
    return replace(trial, diverged_at=jnp.where(diverges, trial.train.step, trial.diverged_at))
