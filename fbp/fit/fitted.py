"""A trained model: what it predicts, and how it came about."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Num, Shaped

from fbp.data.dataset import Task
from fbp.errors import InputError
from fbp.fit.encode import Encoder, encode
from fbp.fit.inputs import inputs_of
from fbp.fit.interval import r2
from fbp.fit.networks import Architecture
from fbp.fit.program import outputs_of
from fbp.fit.story import Story

BLOCK = 256  # rows of a prediction, always: one compiled program, the same number for a row


@dataclass(frozen=True, eq=False)
class Model:
    """All that a prediction needs.

    Attributes:
      task: `classification` or `regression`.
      target_name: what is predicted.
      classes: the label of each class; empty for a regression.
      encoder: how examples become numbers.
      architecture: of the networks.
      members: their parameters, one network along the first axis of each array.
      mean, spread: of a regression's target; a network's output is in units of this spread.
    """

    task: Task
    target_name: str
    classes: Shaped[np.ndarray, " classes"]
    encoder: Encoder
    architecture: Architecture
    members: Any
    mean: float = 0.0
    spread: float = 1.0


@dataclass(frozen=True, eq=False)
class Fitted:
    """What `fbp.fit` returns: a model, and the story of its training.

    Attributes:
      model: all that a prediction needs.
      story: what was decided and measured, and why.
    """

    model: Model
    story: Story

    def predict(self, x: Any) -> Shaped[np.ndarray, " examples"]:
        """The class of each example, or its number in the target's own unit.

        Raises InputError where x has other columns or another shape than the training's.
        """
        values = predicted_values(self.model, encode(self.model.encoder, inputs_of(x)))
        return values if self.model.task == "regression" else self.model.classes[values]

    def predict_proba(self, x: Any) -> Float[np.ndarray, "examples classes"]:
        """The probability of each class, in the order of `model.classes`.

        Raises InputError for a regression, and where x does not fit.
        """
        if self.model.task == "regression":
            raise InputError("a regression has no probabilities: use predict")
        return probabilities(self.model, encode(self.model.encoder, inputs_of(x)))

    def score(self, x: Any, y: Any) -> float:
        """The accuracy, or for a regression R^2, of the predictions of x beside y."""
        predicted, y = self.predict(x), np.asarray(y)
        if len(predicted) != len(y):
            raise InputError(f"x has {len(predicted)} examples, y {len(y)}: give as many")
        if self.model.task == "regression":
            return r2(y.astype(np.float64), predicted)
        return float(np.mean(predicted == y))

    def save(self, path: Any) -> None:
        """Write the model and its story into one `.npz` file, which `load_fitted` reads."""
        from fbp.fit.store import save

        save(self, path)

    def __repr__(self) -> str:
        return f"Fitted({self.story.verdict})"


def probabilities(
    model: Model, x: Float32[np.ndarray, "examples ..."]
) -> Float[np.ndarray, "examples classes"]:
    """The mean of the members' softmax."""
    return np.asarray(jax.nn.softmax(_outputs(model, x), axis=-1), np.float64).mean(axis=0)


def predicted_values(
    model: Model, x: Float32[np.ndarray, "examples ..."]
) -> Num[np.ndarray, " examples"]:
    """The number of the likeliest class; or the mean of the outputs, in the target's unit."""
    if model.task == "classification":
        return probabilities(model, x).argmax(axis=1)
    outputs = _outputs(model, x).astype(np.float64)[..., 0]
    return outputs.mean(axis=0) * model.spread + model.mean


def _outputs(model: Model, x: np.ndarray) -> Float[np.ndarray, "members examples outputs"]:
    blocks = [
        outputs_of(model.architecture, model.members, _block(x[start : start + BLOCK]))
        for start in range(0, len(x), BLOCK)
    ]
    return np.concatenate([np.asarray(block) for block in blocks], axis=1)[:, : len(x)]


def _block(x: np.ndarray) -> Any:
    padding = ((0, BLOCK - len(x)), *((0, 0),) * (x.ndim - 1))
    return jnp.asarray(np.pad(x, padding))
