"""A trained model: what it predicts, and how it came about."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from fbp.automl import store
from fbp.automl.encode import encode
from fbp.automl.inputs import inputs_of
from fbp.automl.interval import r2
from fbp.automl.model import Model, predicted_values, probabilities
from fbp.automl.score import Scored
from fbp.automl.story import Story
from fbp.errors import InputError


@dataclass(frozen=True, eq=False)
class Fitted:
    """What `fbp.fit` returns: a model, and the story of its training.

    Attributes:
      model: all that a prediction needs.
      story: what was decided and measured, and why.
      scored: the pictures or sounds that the score was measured on; None for a table, a regression
        and a model from a file.
    """

    model: Model
    story: Story
    scored: Scored | None = None

    def predict(self, x: Any) -> Shaped[np.ndarray, " examples"]:
        """Return the class of each example, or its number in the target's own unit.

        Raises InputError where x has other columns or another shape than the training's.
        """
        values = predicted_values(self.model, encode(self.model.encoder, inputs_of(x)))
        return values if self.model.task == "regression" else self.model.classes[values]

    def predict_proba(self, x: Any) -> Float[np.ndarray, "examples classes"]:
        """Return the probability of each class, in the order of `model.classes`.

        Raises InputError for a regression, and where x does not fit.
        """
        if self.model.task == "regression":
            raise InputError("a regression has no probabilities: use predict")
        return probabilities(self.model, encode(self.model.encoder, inputs_of(x)))

    def score(self, x: Any, y: Any) -> float:
        """Return the accuracy, or for a regression R^2, of the predictions of x beside y."""
        predicted, y = self.predict(x), np.asarray(y)
        if len(predicted) != len(y):
            raise InputError(f"x has {len(predicted)} examples, y {len(y)}: give as many")
        if self.model.task == "regression":
            return r2(y.astype(np.float64), predicted)
        return float(np.mean(predicted == y))

    def save(self, path: Any) -> None:
        """Write the model and its story into one `.npz` file, which `load_fitted` reads."""
        store.save_model(self.model, self.story, path)

    def __repr__(self) -> str:
        return f"Fitted({self.story.verdict})"

    def _repr_html_(self) -> str:
        from fbp.notebook import curves, table

        curve = self.story.curve
        losses = {
            name: [_mean(by_step) for by_step in zip(*rows, strict=True)]
            for name, rows in (("training", curve.training), ("validation", curve.validation))
        }
        notes = (
            table(["to know"], [[note] for note in self.story.notes]) if self.story.notes else ""
        )
        return f"<p>{escape(self.story.verdict)}</p>{curves(curve.steps, losses)}{notes}"


def _mean(losses: Sequence[float | None]) -> float | None:
    """Return the mean of the trainings' losses at a step; None where one is not finite."""
    finite = [loss for loss in losses if loss is not None]
    return sum(finite) / len(finite) if len(finite) == len(losses) else None
