"""All trials as one compiled program: start, advance, measure."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from fbp.config import Config
from fbp.sweep.grid import Grid
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
      train: the state of the training, frozen once the trial has diverged.
      limit: the loss above which it has diverged.
      diverged_at: the step at which it did, -1 before.
    """

    train: TrainState
    limit: Float[Array, ""]
    diverged_at: Int[Array, ""]


class Program(NamedTuple):
    """The compiled parts of a sweep.

    - `start(grid, validation) -> (states, measures)`: parameters drawn, validation measured.
    - `advance(states, grid, start, training, validation, steps) -> (states, losses, measures)`:
      `steps` updates of each trial; the mean training loss of each, and its validation measures.
      The states' buffers are given away.
    - `measure(params, split) -> measures`.
    """

    start: Callable[..., Any]
    advance: Callable[..., Any]
    measure: Callable[..., Any]


def make_program(config: Config, problem: Problem) -> Program:
    """The sweep's program.

    A trial is trained exactly as `fbp.train.train` does with `key=jax.random.key(seed)`; with
    `trials = "map"` the result is the same bit for bit.
    """
    over_trials = _mapping(config)
    forward, objective = problem.network.apply, problem.objective
    loss_and_grads = carry_back(mean_loss(forward, objective))
    measure = functools.partial(evaluate, forward, objective)

    def optimizer(hyperparameters: dict[str, Array]):
        return make_optimizer(config.optimizer, config.train, hyperparameters)

    def start_trial(grid: Grid, validation: Examples) -> tuple[TrialState, Measures]:
        init_key, _, step_key = _keys(grid.seed)
        params, _ = problem.network.init(init_key, problem.in_shape)
        measures = measure(params, *validation)
        state = initial_state(params, optimizer(grid.hyperparameters), step_key)
        limit = config.sweep.divergence_factor * measures["loss"]
        return TrialState(state, limit, jnp.full((), -1, jnp.int32)), measures

    def advance_trial(trial: TrialState, grid: Grid, orders, training, validation):
        update = _until_divergence(adjust(loss_and_grads, optimizer(grid.hyperparameters)))
        trial, losses = repeat(update, trial, training, orders[grid.seed])
        measures = measure(trial.train.params, *validation)
        trial = _judge(trial, measures["loss"])
        return trial, jnp.mean(losses), measures

    def start(grid: Grid, validation: Examples):
        return over_trials(lambda trial: start_trial(trial, validation), grid)

    def advance(states, grid: Grid, start, training: Examples, validation: Examples, steps: int):
        seeds = jnp.arange(config.sweep.seeds)
        orders = jax.vmap(
            lambda seed: batch_indices(
                _keys(seed)[1], start, steps, len(training[0]), config.train.batch_size
            )
        )(seeds)
        return over_trials(
            lambda pair: advance_trial(pair[0], pair[1], orders, training, validation),
            (states, grid),
        )

    return Program(
        start=jax.jit(start),
        advance=jax.jit(advance, static_argnames="steps", donate_argnums=0),
        measure=jax.jit(lambda params, split: over_trials(lambda p: measure(p, *split), params)),
    )


def _mapping(config: Config) -> Callable[[Callable, Any], Any]:
    """How a function of one trial becomes one of all."""
    if config.sweep.trials == "vmap":
        return lambda fun, trials: jax.vmap(fun)(trials)
    batch_size = config.sweep.batch_size if config.sweep.batch_size > 1 else None
    return functools.partial(jax.lax.map, batch_size=batch_size)


def _keys(seed: Int[Array, ""]) -> Key[Array, " 3"]:
    """Keys of the parameters, of the order of examples, and of the steps."""
    return jax.random.split(jax.random.key(seed), 3)


def _until_divergence(update: Update) -> Callable[[TrialState, Any], tuple[TrialState, Loss]]:
    """The update, but a trial that has diverged keeps its state; its loss is then NaN."""

    def guarded_update(trial: TrialState, batch: Any) -> tuple[TrialState, Loss]:
        state, loss = update(trial.train, batch)
        trial = _judge(trial, loss)
        alive = trial.diverged_at < 0
        keep = functools.partial(jax.tree.map, lambda new, old: jnp.where(alive, new, old))
        kept = TrainState(
            params=keep(state.params, trial.train.params),
            opt_state=keep(state.opt_state, trial.train.opt_state),
            step=keep(state.step, trial.train.step),
            key=state.key,
        )
        return replace(trial, train=kept), jnp.where(alive, loss, jnp.nan)

    return guarded_update


def _judge(trial: TrialState, loss: Loss) -> TrialState:
    """The trial, marked if this loss is its first one out of bounds; NaN is."""
    diverges = (trial.diverged_at < 0) & ~(loss <= trial.limit)
    return replace(trial, diverged_at=jnp.where(diverges, trial.train.step, trial.diverged_at))
