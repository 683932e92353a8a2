"""What was decided and measured in a fit, as plain data."""

from dataclasses import dataclass

import numpy as np

from fbp.data.dataset import Task
from fbp.fit.plan import Plan
from fbp.fit.score import Score
from fbp.fit.search import Outcome, RangeTest
from fbp.fit.train import RateTried

SCORES = {"classification": "accuracy", "regression": "R²"}


@dataclass(frozen=True)
class Curve:
    """Losses of the trainings that make the model, after each of `steps`.

    Attributes:
      steps: steps at which they were measured.
      training: mean loss of the steps since the last measurement, for each training.
      validation: loss on its validation rows, for each training.
    """

    steps: tuple[int, ...]
    training: tuple[tuple[float, ...], ...]
    validation: tuple[tuple[float, ...], ...]


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
      tries: starts that were needed.
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
    tries: int
    constant_loss: float
    range_test: RangeTest
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
        """The outcome in a sentence."""
        score = self.score
        part = "test" if score.part == "test" else "cross-validated"
        head = f"{part} {SCORES[self.task]} {_numbers(self.task, score)} on {score.rows:,} rows"
        usual = "the commonest class" if self.task == "classification" else "the mean"
        constant = f"always saying {usual} would give {_value(self.task, score.constant)}"
        if score.value <= score.constant:
            return f"Nothing was learnt about {self.target}: {head}; {constant}."
        if score.low <= score.constant:
            return f"It is not sure that {self.target} can be predicted: {head}; {constant}."
        return f"{self.target} is predicted with {head}; {constant}."


def curve_of(outcome: Outcome, every: int) -> Curve:
    """The learning curve of trainings that were measured after each `every` steps."""
    measurements = outcome.validation.shape[1]
    training = outcome.training.reshape(-1, measurements, every).mean(axis=2)
    return Curve(
        steps=tuple(range(every, every * (measurements + 1), every)),
        training=_rows(training),
        validation=_rows(outcome.validation),
    )


def _rows(losses: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in losses)


def _numbers(task: Task, score: Score) -> str:
    if task == "classification":
        return f"{100 * score.value:.1f}% [{100 * score.low:.1f}, {100 * score.high:.1f}]"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def _value(task: Task, value: float) -> str:
    return f"{100 * value:.1f}%" if task == "classification" else f"{value:.3f}"
