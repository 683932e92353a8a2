"""What a model is worth: its score beside that of a constant prediction."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Num

from fbp.data.dataset import Task
from fbp.fit.interval import r2, r2_interval, wilson
from fbp.fit.target import Target


@dataclass(frozen=True)
class Score:
    """Accuracy or R² with its 95% interval.

    Attributes:
      value, low, high: the score and the ends of its interval, Wilson's for an accuracy, of the
        bootstrap over rows for R².
      constant: the score of the best constant prediction: the commonest class, or the mean.
      rows: number of rows it was measured on.
      part: `test` for rows kept apart, or `validation` where none were: each row is then
        predicted by the network that was not trained on it.
    """

    value: float
    low: float
    high: float
    constant: float
    rows: int
    part: Literal["test", "validation"]


def score_of(
    task: Task,
    truth: Num[np.ndarray, " rows"],
    predicted: Num[np.ndarray, " rows"],
    constant: float,
    part: Literal["test", "validation"],
    seed: int,
) -> Score:
    """The score of predictions; `constant` is the best constant one.

    >>> score_of("classification", np.array([0, 1, 1]), np.array([0, 1, 0]), 1, "test", 0).value
    0.6666666666666666
    """
    if task == "classification":
        hits = int(np.sum(truth == predicted))
        low, high = wilson(hits, len(truth))
        value, usual = hits / len(truth), float(np.mean(truth == constant))
    else:
        value, usual = r2(truth, predicted), r2(truth, np.full(len(truth), constant))
        low, high = r2_interval(truth, predicted, np.random.default_rng(seed))
    return Score(value, low, high, usual, len(truth), part)


def best_constant(target: Target) -> float:
    """The commonest class, or the mean."""
    if target.task == "classification":
        return int(np.bincount(target.values).argmax())
    return float(target.values.mean())


def constant_loss(target: Target) -> float:
    """The loss of the best constant prediction.

    The entropy of the classes' shares in nats; 1 for a regression, whose loss is in units of the
    target's variance.
    """
    if target.task == "regression":
        return 1.0
    shares = np.bincount(target.values) / len(target.values)
    shares = shares[shares > 0]
    return float(-np.sum(shares * np.log(shares)))
