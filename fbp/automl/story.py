"""What was decided and measured in a fit, as plain data."""

from dataclasses import dataclass

import numpy as np

from fbp.automl.plan import Plan
from fbp.automl.score import Score, finite
from fbp.automl.search import RateRange, TrainedFolds
from fbp.automl.train import RateTried
from fbp.data.dataset import Task

IMBALANCED = 3  # times as many rows of one class as of another
TELLING_AUC = 0.7  # the usual bound of acceptable discrimination (Hosmer and Lemeshow 2000, 5.2)
SCORES = {"classification": "accuracy", "regression": "R²"}


@dataclass(frozen=True)
class Curve:
    """Losses of the trainings that make the model, after each of `steps`.

    Attributes:
      steps: steps at which they were measured.
      training: mean loss of the steps since the last measurement, for each training; None where
        it is not finite.
      validation: loss on its validation rows, for each training.
    """

    steps: tuple[int, ...]
    training: tuple[tuple[float | None, ...], ...]
    validation: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Story:
    """How a model came about.

    Attributes:
      task, target, classes: what is predicted; the classes as text.
      inputs: what the examples are, in words.
      rows: number of rows to learn from.
      plan: network and training.
      parameters: of one network.
      seed: what all that is random was drawn from.
      starts: starts that were needed.
      constant_loss: validation loss of the best constant prediction.
      range_test: the loss while the rate grows.
      rates: the sweep around the rate that the range test suggests.
      rate: the rate chosen, of the lowest mean validation loss.
      curve: the learning curve of the trainings that make the model.
      score: measured once, after all choices.
      truth, predicted: of the rows that the score was measured on: numbers of the classes, or
        values in the target's unit.
      notes: what a reader should know.
      seconds: duration.
    """

    task: Task
    target: str
    classes: tuple[str, ...]
    inputs: str
    rows: int
    plan: Plan
    parameters: int
    seed: int
    starts: int
    constant_loss: float
    range_test: RateRange
    rates: tuple[RateTried, ...]
    rate: float
    curve: Curve
    score: Score
    truth: tuple[float, ...]
    predicted: tuple[float, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def verdict(self) -> str:
        """Tell the outcome in a sentence."""
        score = self.score
        part = "test" if score.part == "test" else "cross-validated"
        if score.value is None or score.low is None or score.high is None:
            why = f"the targets of the {score.rows:,} {part} rows are equal"
            if score.value is not None:
                why = f"{score.rows:,} {part} rows are too few"
            return (
                f"How well {self.target} is predicted cannot be said, since {why}: mean absolute "
                f"error {score.error:.4g}."
            )
        numbers = _numbers(self.task, score.value, score.low, score.high)
        head = f"{part} {SCORES[self.task]} {numbers} on {score.rows:,} rows"
        usual = "the commonest class" if self.task == "classification" else "the mean"
        constant = f"always saying {usual} would give {_value(self.task, score.constant or 0.0)}"
        more = _imbalance(score)
        if score.value <= (score.constant or 0.0):
            if (score.auc or 0) > TELLING_AUC:
                return (
                    f"{self.target} is told apart, but seldom predicted: {head}{more}; {constant}."
                )
            return f"Nothing was learnt about {self.target}: {head}{more}; {constant}."
        if score.low <= (score.constant or 0.0):
            return f"It is not sure that {self.target} can be predicted: {head}{more}; {constant}."
        return f"{self.target} is predicted with {head}{more}; {constant}."


def curve_of(outcome: TrainedFolds, every: int) -> Curve:
    """Return the learning curve of trainings that were measured after each `every` steps."""
    measurements = outcome.validation.shape[1]
    training = outcome.training.reshape(-1, measurements, every).mean(axis=2)
    return Curve(
        steps=tuple(range(every, every * (measurements + 1), every)),
        training=_rows(training),
        validation=_rows(outcome.validation),
    )


def _rows(losses: np.ndarray) -> tuple[tuple[float | None, ...], ...]:
    return tuple(tuple(map(finite, row)) for row in losses)


def _imbalance(score: Score) -> str:
    """Say what the accuracy hides where one class is rarer than the others."""
    rows = [one.rows for one in score.classes if one.rows]
    if score.balanced is None or len(rows) < 2 or max(rows) < IMBALANCED * min(rows):
        return ""
    area = "" if score.auc is None else f", area under the curve {score.auc:.3f}"
    return f" (balanced accuracy {100 * score.balanced:.1f}%{area})"


def _numbers(task: Task, value: float, low: float, high: float) -> str:
    if task == "classification":
        return f"{100 * value:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _value(task: Task, value: float) -> str:
    return f"{100 * value:.1f}%" if task == "classification" else f"{value:.3f}"
