"""All that a prediction needs, and how it is made."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Num, Shaped

from fbp.automl.encode import Encoder
from fbp.automl.networks import Architecture
from fbp.automl.program import outputs_of
from fbp.data.dataset import Task

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
      mean, std: of a regression's target; a network's output is in units of this std.
    """

    task: Task
    target_name: str
    classes: Shaped[np.ndarray, " classes"]
    encoder: Encoder
    architecture: Architecture
    members: Any
    mean: float = 0.0
    std: float = 1.0


def probabilities(
    model: Model, x: Float32[np.ndarray, "examples ..."]
) -> Float[np.ndarray, "examples classes"]:
    """Return the mean of the members' softmax."""
    return np.asarray(jax.nn.softmax(_outputs(model, x), axis=-1), np.float64).mean(axis=0)


def predicted_values(
    model: Model, x: Float32[np.ndarray, "examples ..."]
) -> Num[np.ndarray, " examples"]:
    """Return the likeliest class's number; or the mean of the outputs, in the target's unit."""
    if model.task == "classification":
        return probabilities(model, x).argmax(axis=1)
    outputs = _outputs(model, x).astype(np.float64)[..., 0]
    return outputs.mean(axis=0) * model.std + model.mean


def _outputs(model: Model, x: np.ndarray) -> Float[np.ndarray, "members examples outputs"]:
    blocks = [
        outputs_of(model.architecture, model.members, _block(x[start : start + BLOCK]))
        for start in range(0, len(x), BLOCK)
    ]
    return np.concatenate([np.asarray(block) for block in blocks], axis=1)[:, : len(x)]


def _block(x: np.ndarray) -> Any:
    padding = ((0, BLOCK - len(x)), *((0, 0),) * (x.ndim - 1))
    return jnp.asarray(np.pad(x, padding))
