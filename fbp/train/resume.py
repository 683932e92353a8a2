"""Resume a training run from its last checkpoint, bit for bit as if it had not been interrupted."""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from fbp.checkpoints import Checkpoints
from fbp.errors import InputError
from fbp.train.state import TrainState


@dataclass(frozen=True)
class Measurement:
    """Loss and score after `step` steps.

    Attributes:
      step: number of steps so far.
      training_loss: mean loss over the steps since the last measurement; NaN before the first.
      loss: loss on the validation set.
      score: accuracy or r2 on the validation set.
      layers: of a run that is recorded, what its last step did to each layer, see `Recording`.
    """

    step: int
    training_loss: float
    loss: float
    score: float
    layers: Mapping[str, Mapping[str, float]] | None = field(default=None, repr=False)


class RunCheckpoints:
    """The checkpoints of a training run; without a directory, none. A context manager.

    Args:
      directory: where they are.
      with_best: whether to save the state of the lowest loss too.
      key: the run's.
      call: what else must be the same in a run that resumes.
    """

    def __init__(self, directory: Path | None, with_best: bool, key: Key[Array, ""], **call: Any):
        self._directory = directory
        self._with_best = with_best
        self._call = {"key": np.asarray(jax.random.key_data(key)).tolist(), **call}
        self._open = ExitStack()
        self._saved = -1

    def __enter__(self) -> "RunCheckpoints":
        if self._directory is not None:
            self._checkpoints = self._open.enter_context(Checkpoints(self._directory, losses=True))
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def resume(
        self, state: TrainState, history: list[Measurement]
    ) -> tuple[TrainState, TrainState, list[Measurement]]:
        """Return state, best state and history of the last checkpoint; without one, the arguments.

        The states have the shardings of `state`. Raises InputError where it is of another run.
        """
        restored = None
        if self._directory is not None:
            restored = self._checkpoints.restore(lambda facts: self._like(facts, state))
        if restored is None:
            return state, state, history
        self._saved = restored.number
        last = restored.tree["state"]
        rows = restored.facts["history"]
        return last, restored.tree.get("best", last), [Measurement(*row) for row in rows]

    def maybe_save(
        self,
        state: TrainState,
        best: TrainState,
        history: Sequence[Measurement],
        *,
        last: bool = False,
    ) -> None:
        """Write a checkpoint if one is due, or if this is the last state."""
        step, loss = history[-1].step, history[-1].loss
        if self._directory is None or step == self._saved or not (last or self._checkpoints.due()):
            return
        states = {"state": state, "best": best} if self._with_best else {"state": state}
        facts = {"call": self._call, "history": [astuple(each) for each in history]}
        self._checkpoints.save(step, states, facts, loss if math.isfinite(loss) else math.inf)
        self._saved = step

    def _like(self, facts: Mapping[str, Any], state: TrainState) -> dict[str, TrainState]:
        for name, value in self._call.items():
            if name in facts["call"] and facts["call"][name] != value:
                raise InputError(
                    f"{self._directory}: the run there has {name} = {facts['call'][name]}, "
                    f"not {value}: give the same, or another directory"
                )
        return {"state": state, "best": state} if self._with_best else {"state": state}
