"""Several training runs as one compiled program, for a script that compares them."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import optax
from jaxtyping import Array, Float, Int

from fbp.errors import InputError
from fbp.nn import Layer
from fbp.train.batches import batch_indices
from fbp.train.checks import check_batch_size
from fbp.train.engine import Hyperparameters, engine_of, keys_of
from fbp.train.objective import Objective
from fbp.train.problem import Problem
from fbp.train.scan_steps import Examples
from fbp.train.state import TrainState

Result = TypeVar("Result")


def map_trials(fun: Callable[[Any], Any], trials: Any, at_once: int | None) -> Any:
    """Map a function of one trial: `at_once` side by side, the others wait; None for all."""
    if at_once is None:
        return jax.vmap(fun)(trials)
    return jax.lax.map(fun, trials, batch_size=at_once if at_once > 1 else None)


def train_trials(
    network: Layer,
    objective: Objective,
    optimizer: Callable[[Hyperparameters], optax.GradientTransformation],
    trials: Mapping[str, Array],
    training: Examples,
    *,
    steps: int,
    batch_size: int,
    measure: Callable[[TrainState], Result],
    measure_every: int | None = None,
    at_once: int = 1,
) -> tuple[Float[Array, "trials steps"], Result]:
    """Train several trials; return every step's training loss and `measure` of the last states.

    A trial is trained exactly as `fbp.train.train` does on one device with
    `key=jax.random.key(seed)`.
    Raises InputError where `measure_every` does not divide `steps`, or a batch has more examples
    than there are.

    Args:
      network: the layers.
      objective: what the loss is.
      optimizer: a trial's optimizer; its numbers may be the trial's, which are traced.
      trials: arrays by name with one entry a trial; `seed` is one of them.
      training: inputs and targets.
      steps, batch_size: as in `fbp.train.train`.
      measure: what to return of a trained state, such as its loss on the validation set.
      measure_every: apply `measure` after every that many steps, which divide `steps`, and not at
        the end alone; its result then has an axis of times after that of trials.
      at_once: trials side by side; the others wait. On a CPU one is often the fastest.

    >>> import jax.numpy as jnp
    >>> from fbp.data import load
    >>> from fbp.nn import mlp
    >>> from fbp.train import objective_of
    >>> digits = load("digits")
    >>> losses, steps = train_trials(
    ...     mlp([10]), objective_of(digits), lambda trial: optax.sgd(trial["learning_rate"]),
    ...     {"seed": jnp.array([0, 0]), "learning_rate": jnp.array([0.1, 1.0])},
    ...     (digits.train.x, digits.train.y), steps=5, batch_size=32,
    ...     measure=lambda state: state.step,
    ... )
    >>> losses.shape, steps
    ((2, 5), Array([5, 5], dtype=int32))
    """
    if measure_every is not None and (measure_every < 1 or steps % measure_every):
        raise InputError(f"measure_every is {measure_every}: give a divisor of the {steps} steps")
    check_batch_size(batch_size, len(training[0]))
    engine = engine_of(Problem({"train": training}, network, objective), optimizer)
    examples = jax.device_put(training)

    def run(trial: Hyperparameters, examples: Examples) -> tuple[Float[Array, " steps"], Result]:
        init_key, order_key, step_key = keys_of(trial["seed"])
        order = batch_indices(order_key, 0, steps, len(examples[0]), batch_size)

        def segment(state: TrainState, order: Int[Array, "steps batch"]):
            state, losses = engine.advance(state, trial, examples, order)
            return state, (losses, measure(state))

        state = engine.init(init_key, step_key, trial)
        if measure_every is None:
            return segment(state, order)[1]
        segments = order.reshape(-1, measure_every, batch_size)
        _, (losses, results) = jax.lax.scan(segment, state, segments)
        return losses.ravel(), results

    @jax.jit
    def all_trials(trials: Mapping[str, Array], examples: Examples):
        return map_trials(lambda trial: run(trial, examples), trials, at_once)

    return all_trials(trials, examples)
