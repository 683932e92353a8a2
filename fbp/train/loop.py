"""Training, as an introductory article tells it: read the body of `train`."""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key
from tqdm import tqdm

from fbp.data import Dataset
from fbp.nn import Layer
from fbp.train.batches import batch_indices
from fbp.train.objective import Measures, Objective, check_fits, evaluate, mean_loss, objective_of
from fbp.train.repeat import Examples, repeat
from fbp.train.state import TrainState, initial_state
from fbp.train.step import Update, adjust, carry_back
from fbp.verify import Report, trace_program

Stop = Literal["steps", "target", "patience", "diverged"]


@dataclass(frozen=True)
class Measurement:
    """What was measured after `step` steps.

    Attributes:
      step: number of steps so far.
      training_loss: mean loss over the steps since the last measurement; NaN before the first.
      loss: loss on the validation set.
      score: accuracy or r2 on the validation set.
    """

    step: int
    training_loss: float
    loss: float
    score: float


@dataclass(frozen=True)
class Trained:
    """The outcome of `train`.

    Attributes:
      state: the last state; with `patience`, the state of the lowest validation loss.
      history: the measurements, from before the first step on.
      stopped: why it ended.
      origin: where what is not finite came from, of a run that diverged: its last steps, run
        again. A finding's iteration counts the steps from the measurement before the last.
    """

    state: TrainState
    history: tuple[Measurement, ...]
    stopped: Stop
    origin: Report | None = None


def train(
    network: Layer,
    dataset: Dataset,
    tx: optax.GradientTransformation,
    *,
    key: Key[Array, ""],
    steps: int,
    batch_size: int,
    evaluate_every: int,
    target: float | None = None,
    patience: int | None = None,
    progress: bool = True,
) -> Trained:
    """Train a network on a data set until its output is as desired, or the steps are done.

    Args:
      network: the layers, connected.
      dataset: gradients are of `dataset.train`, measurements of `dataset.validation`.
      tx: any optax transformation.
      key: what parameters, batches and dropout are drawn from.
      steps: number of steps at most.
      batch_size: examples for each step.
      evaluate_every: steps in one compiled call, after which the validation set is measured.
      target: stop when the validation score (accuracy or r2) is this high.
      patience: stop after this many measurements without a lower validation loss.
      progress: show a bar on a terminal.

    Raises InputError where network, data and batch size do not fit each other.

    >>> from fbp.data import load
    >>> from fbp.nn import mlp
    >>> outcome = train(
    ...     mlp([32, 10]), load("digits"), optax.sgd(0.5),
    ...     key=jax.random.key(0), steps=200, batch_size=32, evaluate_every=50, target=0.9,
    ... )
    >>> outcome.stopped
    'target'
    """
    # Build the network: its layers are connected, the data give the shape of its input.
    objective = objective_of(dataset)
    in_shape = (batch_size, *dataset.feature_shape)
    init_key, order_key, step_key = jax.random.split(key, 3)

    # Draw weights and biases at random.
    params, out_shape = network.init(init_key, in_shape)

    # Feed the input forward.
    forward = network.apply

    # Compare output and target.
    check_fits(out_shape, objective)
    loss_fn = mean_loss(forward, objective)

    # Carry the error back.
    loss_and_grads = carry_back(loss_fn)

    # Adjust the parameters.
    update = adjust(loss_and_grads, tx)

    # Repeat until the output is as desired.
    advance = _compiled_steps(update, order_key, batch_size, donate=patience is None)
    measure = jax.jit(functools.partial(evaluate, forward, objective))
    training, validation = jax.device_put([(s.x, s.y) for s in (dataset.train, dataset.validation)])
    state = best = initial_state(params, tx, step_key)
    history = [_measurement(0, math.nan, measure(params, *validation), objective)]
    with tqdm(total=steps, unit="step", disable=None if progress else True) as bar:
        while (stopped := _stop(history, steps, target, patience)) is None:
            count = min(evaluate_every, steps - history[-1].step)
            state, training_loss = advance(state, training, count)
            measures = measure(state.params, *validation)
            step = history[-1].step + count
            history.append(_measurement(step, training_loss, measures, objective))
            best = state if history[-1] is _lowest(history) else best
            bar.update(count)
    counts = [after.step - m.step for m, after in itertools.pairwise(history)]
    first = initial_state(params, tx, step_key)
    origin = _origin(advance, first, training, counts) if stopped == "diverged" else None
    return Trained(state if patience is None else best, tuple(history), stopped, origin)


def _origin(
    advance: Any, state: TrainState, training: Examples, counts: Sequence[int]
) -> Report | None:
    """Run again to the last stretch of steps, and trace what is not finite in that one."""
    if not counts:
        return None
    for count in counts[:-1]:
        state, _ = advance(state, training, count)

    def last_steps(state: TrainState, training: Examples) -> Any:
        return advance(state, training, counts[-1])

    return trace_program(last_steps, state, training)


def _compiled_steps(
    update: Update, order_key: Key[Array, ""], batch_size: int, donate: bool
) -> Any:
    """`(state, training data, count) -> (the state after count steps, their mean loss)`."""

    @functools.partial(jax.jit, static_argnums=2, donate_argnums=0 if donate else ())
    def advance(state: TrainState, training: Examples, count: int):
        examples = len(training[0])
        indices = batch_indices(order_key, state.step, count, examples, batch_size)
        state, losses = repeat(update, state, training, indices)
        return state, jnp.mean(losses)

    return advance


def _measurement(
    step: int, training_loss: Any, measures: Measures, objective: Objective
) -> Measurement:
    loss, score = float(measures["loss"]), float(measures[objective.score])
    return Measurement(step, float(training_loss), loss, score)


def _lowest(history: Sequence[Measurement]) -> Measurement:
    return min(history, key=lambda measurement: measurement.loss)


def _stop(
    history: Sequence[Measurement], steps: int, target: float | None, patience: int | None
) -> Stop | None:
    last, lowest = history[-1], _lowest(history)
    if not math.isfinite(last.loss):
        return "diverged"
    if target is not None and last.score >= target:
        return "target"
    if patience is not None and len(history) - 1 - history.index(lowest) >= patience:
        return "patience"
    return "steps" if last.step >= steps else None
