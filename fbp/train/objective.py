"""Compare output and target: the loss, and the score that people read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, Num

from fbp.data import Dataset
from fbp.data.dataset import Task
from fbp.errors import InputError

Outputs = Float[Array, "examples outputs"]
Targets = Num[Array, "examples *targets"]
Forward = Callable[..., Outputs]
Metrics = dict[str, Float[Array, ""]]


@dataclass(frozen=True)
class Objective:
    """How outputs are compared with targets.

    Attributes:
      outputs: numbers that the network returns for one example.
      score: name of the score that people read, `accuracy` or `r2`.
      losses: `(outputs, targets) -> one loss per example`.
      per_example_score: `(outputs, targets) -> one number per example`.
      aggregate: `(mean of per_example_score, targets, weights or None) -> score`.

    >>> objective = objective_for("classification", classes=2)
    >>> logits, targets = jnp.array([[2.0, 0.0], [0.0, 1.0]]), jnp.array([0, 0])
    >>> print(objective.per_example_score(logits, targets))
    [1. 0.]
    """

    outputs: int
    score: str
    losses: Callable[[Outputs, Targets], Float[Array, " examples"]]
    per_example_score: Callable[[Outputs, Targets], Float[Array, " examples"]]
    aggregate: Callable[..., Float[Array, ""]]


def objective_of(dataset: Dataset) -> Objective:
    """Return the objective of a data set's task, see `objective_for`.

    Returns:
      The objective.

    >>> from fbp.data import load
    >>> objective_of(load("digits")).outputs, objective_of(load("diabetes")).score
    (10, 'r2')
    """
    targets = dataset.train.y.shape[1] if np.ndim(dataset.train.y) == 2 else 1
    return objective_for(dataset.task, dataset.classes, targets)


def objective_for(task: Task, classes: int, targets: int = 1) -> Objective:
    """Return the objective of a task.

    - Classification into C classes: C logits; the loss is the cross-entropy
      -log softmax(outputs)[target] in nats, the score is the accuracy, the share of examples
      whose largest logit is the target's.
    - Regression: an output for each target; the loss is the squared error, its mean over several
      targets; the score is R^2 = 1 - mean squared error / variance of the targets.

    >>> objective_for("classification", 3).outputs
    3
    """
    if task == "classification":
        return Objective(
            outputs=classes,
            score="accuracy",
            losses=optax.softmax_cross_entropy_with_integer_labels,
            per_example_score=lambda outputs, y: (jnp.argmax(outputs, axis=-1) == y).astype(
                outputs.dtype
            ),
            aggregate=lambda share, *_: share,
        )
    return Objective(
        outputs=targets,
        score="r2",
        losses=_squared_errors,
        per_example_score=_squared_errors,
        aggregate=lambda error, y, weights=None: 1 - error / _variance(y, weights),
    )


def mean_loss(forward: Forward, objective: Objective) -> Callable[..., Float[Array, ""]]:
    """Make the loss of a batch: `(params, (x, y), key) -> mean of the examples' losses`.

    Of a batch `(x, y, weights)` it is the weighted mean sum(w l) / sum(w). `key` is passed on to
    `forward`, for layers such as dropout.
    """

    def loss_fn(params: Any, batch: Any, key: Key[Array, ""]) -> Float[Array, ""]:
        x, y, *weights = batch
        output = forward(params, x, key=key)
        losses = objective.losses(output, y)
        return jnp.average(losses, weights=weights[0]) if weights else jnp.mean(losses)

    return loss_fn


def evaluate(
    forward: Forward,
    objective: Objective,
    params: Any,
    x: Float[Array, "examples ..."],
    y: Targets,
    weights: Float[Array, " examples"] | None = None,
    *,
    batch_size: int = 1024,
) -> Metrics:
    """Measure loss and score on a full split, `batch_size` examples at a time.

    Args:
      forward: `(params, x) -> outputs`.
      objective: what to measure.
      params: the parameters.
      x: inputs [examples, ...].
      y: targets [examples], or [examples, targets].
      weights: of each example in the means [examples]; by default they are alike.
      batch_size: how many examples are in memory at once.

    Returns:
      `loss`, in the objective's unit (nats, or squared units of the target), and the score under
      its name.

    >>> from fbp.data import load
    >>> split, objective = load("diabetes").test, objective_of(load("diabetes"))
    >>> metrics = evaluate(lambda w, x: x @ w, objective, jnp.zeros((10, 1)), split.x, split.y)
    >>> sorted(metrics)
    ['loss', 'r2']
    """

    def sums(x, y, weights=None):
        outputs = forward(params, x)
        measured = objective.losses(outputs, y), objective.per_example_score(outputs, y)
        return tuple(jnp.sum(m if weights is None else m * weights) for m in measured)

    examples, arrays = len(x), (x, y) if weights is None else (x, y, weights)
    full, measured = examples - examples % batch_size, []
    if full:
        batches = tuple(a[:full].reshape(-1, batch_size, *a.shape[1:]) for a in arrays)
        measured.append(jax.tree.map(jnp.sum, jax.lax.map(lambda b: sums(*b), batches)))
    if full < examples or not full:
        measured.append(sums(*(a[full:] for a in arrays)))
    loss, score = jax.tree.map(lambda *parts: sum(parts), *measured)
    total = examples if weights is None else jnp.sum(weights)
    return {"loss": loss / total, objective.score: objective.aggregate(score / total, y, weights)}


def check_fits(outputs_shape: tuple[int, ...], objective: Objective) -> None:
    """Raise InputError unless a network returns the outputs that the objective compares."""
    if outputs_shape[1:] != (objective.outputs,):
        raise InputError(
            f"the network gives {list(outputs_shape[1:])} numbers for an example, the task needs "
            f"[{objective.outputs}]: end it with a dense layer of that width"
        )


def _squared_errors(outputs: Outputs, y: Targets) -> Float[Array, " examples"]:
    if y.ndim == 1:
        return optax.squared_error(outputs[:, 0], y)
    return jnp.mean(optax.squared_error(outputs, y), axis=-1)


def _variance(y: Targets, weights: Float[Array, " examples"] | None) -> Float[Array, ""]:
    """Return the variance of the targets, its mean over several of them."""
    if weights is None:
        return jnp.mean(jnp.var(y, axis=0))
    mean = jnp.average(y, axis=0, weights=weights)
    return jnp.mean(jnp.average(jnp.square(y - mean), axis=0, weights=weights))
