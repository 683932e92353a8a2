"""What a model is worth: its score beside that of a constant prediction."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Num

from fbp.automl.inputs import Inputs
from fbp.automl.interval import auc, r2, r2_interval, wilson
from fbp.data.dataset import Task
from fbp.data.target import Target

Part = Literal["test", "validation"]


@dataclass(frozen=True)
class ClassScore:
    """How well one class is told from the others.

    Attributes:
      rows: of this class, among those that the score was measured on.
      precision: the share of the rows predicted as this class that are of it; None without any.
      recall: the share of its rows that are predicted as it; None without any.
      auc: the area under the ROC curve of its probability; None where it cannot be computed.
    """

    rows: int
    precision: float | None
    recall: float | None
    auc: float | None


@dataclass(frozen=True)
class Score:
    """Accuracy or R² with its 95% interval, and what more there is to say.

    Attributes:
      value, low, high: the score and the ends of its interval, Wilson's for an accuracy, of the
        bootstrap over rows for R². None where R² is not defined: all targets are equal.
      constant: the score of the best constant prediction: the commonest class, or the mean.
      rows: number of rows it was measured on.
      part: `test` for rows kept apart, or `validation` where none were: each row is then
        predicted by the network that was not trained on it.
      error: the mean absolute error of a regression, in the target's unit.
      balanced: the balanced accuracy, the mean of the classes' recalls.
      auc: the area under the ROC curve, for more than two classes the mean of one against the rest.
      classes: of each class, in order.
    """

    value: float | None
    low: float | None
    high: float | None
    constant: float | None
    rows: int
    part: Part
    error: float | None = None
    balanced: float | None = None
    auc: float | None = None
    classes: tuple[ClassScore, ...] = ()


@dataclass(frozen=True, eq=False)
class Scored:
    """The examples that a score was measured on.

    Attributes:
      inputs: the examples as they came.
      truth, predicted: numbers of their classes.
      shares: the probability of each class.
    """

    inputs: Inputs
    truth: Num[np.ndarray, " rows"]
    predicted: Num[np.ndarray, " rows"]
    shares: Float[np.ndarray, "rows classes"]


def score_of(
    task: Task,
    truth: Num[np.ndarray, " rows"],
    predicted: Num[np.ndarray, " rows"],
    constant: float,
    part: Part,
    seed: int,
    probabilities: Float[np.ndarray, "rows classes"] | None = None,
) -> Score:
    """Return the score of predictions.

    Args:
      task: `classification` or `regression`.
      truth, predicted: numbers of classes, or values.
      constant: the best constant prediction.
      part: which rows these are.
      seed: of the bootstrap.
      probabilities: of each class, for the areas under the curve.

    >>> score_of("classification", np.array([0, 1, 1]), np.array([0, 1, 0]), 1, "test", 0).value
    0.6666666666666666
    """
    if task == "regression":
        value, usual = r2(truth, predicted), r2(truth, np.full(len(truth), constant))
        ends = r2_interval(truth, predicted, np.random.default_rng(seed))
        low, high = map(finite, ends)
        error = float(np.mean(np.abs(truth - predicted)))
        return Score(finite(value), low, high, finite(usual), len(truth), part, error=error)
    hits = int(np.sum(truth == predicted))
    usual = float(np.mean(truth == constant))
    count = int(max(truth.max(), predicted.max())) + 1
    if probabilities is not None:
        count = probabilities.shape[1]
    classes = tuple(_class_score(k, truth, predicted, probabilities) for k in range(count))
    return Score(
        hits / len(truth),
        *wilson(hits, len(truth)),
        usual,
        len(truth),
        part,
        balanced=_mean([one.recall for one in classes]),
        auc=_mean([one.auc for one in classes]),
        classes=classes,
    )


def best_constant(target: Target) -> float:
    """Return the commonest class, or the mean."""
    if target.task == "classification":
        return int(np.bincount(target.values).argmax())
    return float(target.values.mean())


def constant_loss(target: Target, weights: Float[np.ndarray, " rows"] | None = None) -> float:
    """Return the loss of the best constant prediction.

    The entropy of the classes' shares in nats; 1 for a regression, whose loss is in units of the
    target's variance.
    """
    if target.task == "regression":
        return 1.0
    shares = np.bincount(target.values, weights)
    shares = shares[shares > 0] / shares.sum()
    return float(-np.sum(shares * np.log(shares)))


def finite(number: float) -> float | None:
    """Return a finite number as it is, None for NaN and infinity, which JSON cannot hold."""
    return float(number) if math.isfinite(number) else None


def _class_score(
    number: int, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
) -> ClassScore:
    rows, said = truth == number, predicted == number
    hits, area = int(np.sum(rows & said)), math.nan
    if probabilities is not None:
        area = auc(rows, probabilities[:, number])
    return ClassScore(
        rows=int(rows.sum()),
        precision=hits / int(said.sum()) if said.any() else None,
        recall=hits / int(rows.sum()) if rows.any() else None,
        auc=finite(area),
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
