"""Many trainings as one compiled program: rates, seeds and folds side by side.

The functions are compiled once for each architecture and each size of their arguments, and are
shared by all fits of a process.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, Num

from fbp.data.dataset import Task
from fbp.fit.networks import Architecture, build
from fbp.train.objective import Objective, objective_for
from fbp.train.scan_steps import scan_steps
from fbp.train.state import TrainState, initial_state
from fbp.train.step import Update, loss_and_grads_fn, make_update

Examples = tuple[Float[Array, "rows ..."], Num[Array, " rows"], Float[Array, " rows"]]
"""Features, targets, and the weight of each row, whose mean is 1."""


@dataclass(frozen=True)
class TrainingProblem:
    """What all trials share, and what a compiled program depends on.

    Attributes:
      task: `classification` or `regression`.
      architecture: of the network.
      in_shape: shape of a batch.
      vmapped: whether trials are computed side by side (vmap), or one after the other.
      weight_decay: of AdamW.
    """

    task: Task
    architecture: Architecture
    in_shape: tuple[int, ...]
    vmapped: bool
    weight_decay: float


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trials:
    """Trainings to be made: what each is drawn from, its fold, and its rate at every step."""

    key: Key[Array, " trials"]
    fold: Int[Array, " trials"]
    rates: Float[Array, "trials steps"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Validation:
    """The rows that validate in each fold, filled up with rows of weight 0."""

    rows: Int[Array, "folds rows"]
    weights: Float[Array, "folds rows"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrialState:
    """A training between two steps, and its parameters of the lowest validation loss."""

    train: TrainState
    best: Any
    best_loss: Float[Array, ""]


@functools.partial(jax.jit, static_argnums=0)
def start(problem: TrainingProblem, trials: Trials) -> TrialState:
    """Return the states before the first step, with parameters drawn at random."""
    network = build(problem.architecture)

    def begin(trial: Trials) -> TrialState:
        init_key, step_key = jax.random.split(trial.key)
        params, _ = network.init(init_key, problem.in_shape)
        state = initial_state(params, _optimizer(problem, trial), step_key)
        return TrialState(state, params, jnp.full((), jnp.inf, jnp.float32))

    return jax.vmap(begin)(trials)


@functools.partial(jax.jit, static_argnums=0)
def advance(
    problem: TrainingProblem,
    states: TrialState,
    trials: Trials,
    examples: Examples,
    batches: Int[Array, "folds steps batch"],
    validation: Validation,
) -> tuple[TrialState, Float[Array, "trials steps"], Float[Array, " trials"]]:
    """One step of each trial for each of its fold's batches, then its validation loss.

    Returns the states, the training loss of each step, and the validation loss at the end. Where
    that is the trial's lowest, its parameters are kept as the best.
    """
    network = build(problem.architecture)
    objective = objective_for(problem.task, problem.architecture.outputs)
    loss_and_grads = loss_and_grads_fn(_weighted_loss(network.apply, objective))

    def segment(pair: tuple[TrialState, Trials]):
        state, trial = pair
        update: Update = make_update(loss_and_grads, _optimizer(problem, trial))
        pytree: Any = examples
        trained, losses = scan_steps(update, state.train, pytree, batches[trial.fold])
        rows = validation.rows[trial.fold]
        weights = validation.weights[trial.fold] * examples[2][rows]
        outputs = network.apply(trained.params, examples[0][rows])
        row_losses = objective.losses(outputs, examples[1][rows])
        loss = jnp.sum(weights * row_losses) / jnp.sum(weights)
        return _keep_best(replace(state, train=trained), loss), losses, loss

    return _over_trials(problem.vmapped, segment, (states, trials))


@functools.partial(jax.jit, static_argnums=0)
def outputs_of(
    architecture: Architecture, members: Any, x: Float[Array, "batch ..."]
) -> Float[Array, "members batch outputs"]:
    """Return what each member, one along the first axis of the parameters, gives for a batch."""
    return jax.lax.map(lambda params: build(architecture).apply(params, x), members)


def _weighted_loss(forward: Callable[..., Any], objective: Objective) -> Callable[..., Any]:
    def loss_fn(params: Any, batch: Examples, key: Key[Array, ""]) -> Float[Array, ""]:
        x, y, weights = batch
        return jnp.mean(weights * objective.losses(forward(params, x, key=key), y))

    return loss_fn


def _optimizer(problem: TrainingProblem, trial: Trials) -> optax.GradientTransformation:
    """AdamW, whose rate at each step is the trial's; gradients longer than 1 are shortened."""
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(lambda step: trial.rates[step], weight_decay=problem.weight_decay),
    )


def _keep_best(state: TrialState, loss: Float[Array, ""]) -> TrialState:
    better = loss < state.best_loss
    best = jax.tree.map(
        lambda new, old: jnp.where(better, new, old), state.train.params, state.best
    )
    return replace(state, best=best, best_loss=jnp.where(better, loss, state.best_loss))


def _over_trials(vmapped: bool, fun: Callable, trials: Any) -> Any:
    return jax.vmap(fun)(trials) if vmapped else jax.lax.map(fun, trials)
