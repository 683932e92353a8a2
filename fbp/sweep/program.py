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
from fbp.sweep.mapping import AXIS, Mapping, given, looped, over_seeds, over_trials, padded
from fbp.sweep.problem import Problem
from fbp.train.batches import batch_indices
from fbp.train.objective import Measures, evaluate, mean_loss
from fbp.train.optimizer import make_optimizer
from fbp.train.repeat import Examples, repeat
from fbp.train.state import TrainState, initial_state
from fbp.train.step import Loss, Update, adjust, carry_back


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrialState:
    """A trial between two steps; in the program, with a leading dimension over the trials.

    Attributes:
      train: the state of the training; of a trial that has diverged it says nothing.
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
      how: the way from one trial to all.
      start: `(grid, validation) -> (states, measures)`: parameters drawn, validation measured.
        The states are padded, see `Mapping.multiple`.
      draw: `(start, steps) -> orders`: for each seed, the examples of each step; all trials of a
        seed share them.
      train: `(states, grid, orders, training, validation) -> (states, losses, measures)`: an
        update of each trial for each step of the orders; the mean training loss of each, and its
        validation measures. The states' buffers are given away.
      measure: `(params, split) -> measures`.
      lower: what `train` is called with, or its shapes, `->` the program, not compiled yet; in a
        loop that of one trial for each device.
      compile: what `train` is called with `-> train`, compiled for such arrays.
    """

    how: Mapping
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
    ) -> tuple[Any, Array, Measures]:
        """`train`, from step `start` for `steps` steps."""
        return self.train(states, grid, self.draw(start, steps), training, validation)


def make_program(
    config: Config, problem: Problem, how: Mapping | None = None, mesh: Mesh | None = None
) -> Program:
    """The sweep's program, run as the config says, or as `how`, on its devices or those of a mesh.

    A trial is trained exactly as `fbp.train.train` does with `key=jax.random.key(seed)` on one
    device; with `trials = "map"` or `"loop"` the result is the same bit for bit.
    """
    how = how or given(config.sweep, len(trials_of(config.sweep)))
    objective, forward = problem.objective, problem.network.apply
    loss_and_grads = carry_back(mean_loss(forward, objective))
    measure = functools.partial(evaluate, forward, objective)
    mesh = mesh or how.mesh
    spread, shared = NamedSharding(mesh, P(AXIS)), NamedSharding(mesh, P())

    def optimizer(hyperparameters: dict[str, Array]):
        return make_optimizer(config.optimizer, config.train, hyperparameters)

    def start_trial(grid: Grid, validation: Examples) -> tuple[TrialState, Measures]:
        init_key, _, step_key = _keys(grid.seed)
        params, _ = problem.network.init(init_key, problem.in_shape)
        measures = measure(params, *validation)
        state = initial_state(params, optimizer(grid.hyperparameters), step_key)
        limit = config.sweep.divergence_factor * measures["loss"]
        return TrialState(state, limit, jnp.full((), -1, jnp.int32)), measures

    def train_trial(pair: tuple[TrialState, Grid], order, training, validation):
        trial, grid = pair
        update = _judged(adjust(loss_and_grads, optimizer(grid.hyperparameters)))
        trial, losses = repeat(update, trial, training, order)
        measures = measure(trial.train.params, *validation)
        trial = _judge(trial, measures["loss"])
        return trial, jnp.mean(losses), measures

    @functools.partial(jax.jit, out_shardings=(spread, shared))
    def start(grid: Grid, validation: Examples):
        full = padded(grid, how.multiple)
        states, measures = over_trials(start_trial, how, mesh)(full, validation)
        return states, _first(len(grid.seed), measures)

    @functools.partial(jax.jit, static_argnums=1, out_shardings=shared)
    def draw(start: Any, steps: int):
        examples, batch_size = len(problem.dataset.train), config.train.batch_size

        def order(seed: Any, start: Any):
            return batch_indices(_keys(seed)[1], start, steps, examples, batch_size)

        seeds, side_by_side = config.sweep.seeds, Mapping("vmap", devices=how.devices)
        numbers = padded(jnp.arange(seeds), how.devices)
        return _first(seeds, over_trials(order, side_by_side, mesh)(numbers, start))

    @functools.partial(
        jax.jit,
        donate_argnums=0,
        in_shardings=(spread, spread, shared, shared, shared),
        out_shardings=spread,
    )
    def train_padded(states, grid, orders, training, validation):
        trials = (states, grid), grid.seed
        return over_seeds(train_trial, how, mesh)(trials, orders, training, validation)

    def lower(states, grid, *data):
        size = how.devices if how.kind == "loop" else states.diverged_at.shape[0]
        sized = lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype)
        return train_padded.lower(*jax.tree.map(sized, (states, grid)), *data)

    def compile(states, grid, *data):
        return _train(lower(states, grid, *data).compile(), how, spread, shared)

    @functools.partial(jax.jit, out_shardings=shared)
    def measure_padded(params, split):
        one = lambda params, *split: measure(params, *split)
        return over_trials(one, how, mesh)(params, *split)

    def measure_all(params, split):
        spread_out = jax.device_put(padded(params, how.multiple), spread)
        return _first(len(jax.tree.leaves(params)[0]), measure_padded(spread_out, split))

    train = _train(train_padded, how, spread, shared)
    return Program(how, start, draw, train, measure_all, lower, compile)


def _train(
    train_padded: Callable[..., Any], how: Mapping, spread: NamedSharding, shared: NamedSharding
) -> Callable[..., Any]:
    """All trials, of a function of all or, in a loop, of one for each device."""
    calls = lambda pair, *data: train_padded(*pair, *data)
    run = looped(calls, spread) if how.kind == "loop" else calls

    def train(states: Any, grid: Grid, *data: Any) -> tuple[Any, Array, Measures]:
        pair = jax.device_put((states, padded(grid, how.multiple)), spread)
        states, losses, measures = run(pair, *jax.device_put(data, shared))
        return states, *_first(len(grid.seed), (losses, measures))

    return train


def _first(count: int, arrays: Any) -> Any:
    """The arrays without the padding."""
    return jax.tree.map(lambda leaf: leaf[:count], arrays)


def _keys(seed: Int[Array, ""]) -> Key[Array, " 3"]:
    """Keys of the parameters, of the order of examples, and of the steps."""
    return jax.random.split(jax.random.key(seed), 3)


def _judged(update: Update) -> Callable[[TrialState, Any], tuple[TrialState, Loss]]:
    """The update of a trial that takes note of its divergence."""

    def judged_update(trial: TrialState, batch: Any) -> tuple[TrialState, Loss]:
        state, loss = update(trial.train, batch)
        return replace(_judge(trial, loss), train=state), loss

    return judged_update


def _judge(trial: TrialState, loss: Loss) -> TrialState:
    """The trial, marked if this loss is its first one out of bounds; NaN is."""
    diverges = (trial.diverged_at < 0) & ~(loss <= trial.limit)
    return replace(trial, diverged_at=jnp.where(diverges, trial.train.step, trial.diverged_at))
