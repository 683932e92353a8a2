"""Many trainings as one compiled program: rates, seeds and folds side by side.

The functions are compiled once for each architecture and each size of their arguments, and are
shared by all fits of a process. `trials` are arrays by name with one entry a trial: `key`, what it
is drawn from; `fold`; and `rates`, one a step.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, Num

from fbp.automl.networks import Architecture, build
from fbp.compile_options import jit_to_run_once
from fbp.data.dataset import Task
from fbp.train.engine import Engine, Hyperparameters, engine_of
from fbp.train.objective import evaluate, objective_for
from fbp.train.problem import Problem
from fbp.train.state import TrainState
from fbp.train.trials import map_trials

Examples = tuple[Float[Array, "rows ..."], Num[Array, " rows"], Float[Array, " rows"]]
"""Features, targets, and the weight of each row, whose mean is 1."""


@dataclass(frozen=True)
class Training:
    """What all trials share, and what a compiled program depends on.

    Attributes:
      task: `classification` or `regression`.
      architecture: of the network.
      vmapped: whether trials are computed side by side (vmap), or one after the other.
      weight_decay: of AdamW.
    """

    task: Task
    architecture: Architecture
    vmapped: bool
    weight_decay: float

    def engine(self, examples: Examples) -> Engine:
        """Make the functions of one trial."""
        network = build(self.architecture)
        objective = objective_for(self.task, self.architecture.outputs)

        def loss_fn(params: Any, batch: Examples, key: Key[Array, ""]) -> Float[Array, ""]:
            x, y, weights = batch
            return jnp.mean(weights * objective.losses(network.apply(params, x, key=key), y))

        metrics = lambda params, part: evaluate(network.apply, objective, params, *part)
        problem = Problem({"train": examples}, network, loss_fn, metrics=metrics)
        return engine_of(problem, self.optimizer)

    def optimizer(self, trial: Hyperparameters) -> optax.GradientTransformation:
        """AdamW, whose rate at each step is the trial's; gradients longer than 1 are shortened."""
        return optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adamw(lambda step: trial["rates"][step], weight_decay=self.weight_decay),
        )


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


@functools.partial(jit_to_run_once, static_argnums=0)
def start(training: Training, trials: Mapping[str, Array], examples: Examples) -> TrialState:
    """Return the states before the first step, with parameters drawn at random."""
    engine = training.engine(examples)

    def begin(trial: Hyperparameters) -> TrialState:
        init_key, step_key = jax.random.split(trial["key"])
        state = engine.init(init_key, step_key, trial)
        return TrialState(state, state.params, jnp.full((), jnp.inf, jnp.float32))

    return jax.vmap(begin)(trials)


@functools.partial(jax.jit, static_argnums=0)
def advance(
    training: Training,
    states: TrialState,
    trials: Mapping[str, Array],
    examples: Examples,
    batches: Int[Array, "folds steps batch"],
    validation: Validation,
) -> tuple[TrialState, Float[Array, "trials steps"], Float[Array, " trials"]]:
    """One step of each trial for each of its fold's batches, then its validation loss.

    Returns the states, the training loss of each step, and the validation loss at the end. Where
    that is the trial's lowest, its parameters are kept as the best.
    """
    engine = training.engine(examples)

    def segment(pair: tuple[TrialState, Hyperparameters]):
        state, trial = pair
        fold = trial["fold"]
        trained, losses = engine.advance(state.train, trial, examples, batches[fold])
        x, y, weights = (leaf[validation.rows[fold]] for leaf in examples)
        loss = engine.measure(trained, (x, y, validation.weights[fold] * weights))["loss"]
        return _keep_best(replace(state, train=trained), loss), losses, loss

    return map_trials(segment, (states, trials), None if training.vmapped else 1)


@functools.partial(jax.jit, static_argnums=0)
def outputs_of(
    architecture: Architecture, members: Any, x: Float[Array, "batch ..."]
) -> Float[Array, "members batch outputs"]:
    """Return what each member, one along the first axis of the parameters, gives for a batch."""
    return jax.lax.map(lambda params: build(architecture).apply(params, x), members)


def _keep_best(state: TrialState, loss: Float[Array, ""]) -> TrialState:
    better = loss < state.best_loss
    best = jax.tree.map(
        lambda new, old: jnp.where(better, new, old), state.train.params, state.best
    )
    return replace(state, best=best, best_loss=jnp.where(better, loss, state.best_loss))
