"""What was recorded of each layer while a network learned: a number by measure, layer and step."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

DEAD = "dead_units"
LAYERS = "layers"
"""The kind of such a row of `records.jsonl`, and its column of numbers."""


@dataclass(frozen=True)
class Recording:
    """What was recorded: for each measure and layer one number at each recorded step.

    Attributes:
      steps: the numbers of the recorded updates, from 1.
      measures: by the measure's name, then by layer: a parameter's path, or a rectified layer's.
    """

    steps: tuple[int, ...]
    measures: Mapping[str, Mapping[str, Float[np.ndarray, " steps"]]]

    @property
    def first_nonfinite(self) -> tuple[int, str] | None:
        """The step and the parameter of the first gradient that is not finite; None if all are."""
        norms = self.measures.get("gradient_norm", {})
        for i, step in enumerate(self.steps):
            for name, values in norms.items():
                if not np.isfinite(values[i]):
                    return step, name
        return None

    def __repr__(self) -> str:
        if not self.steps:
            return "<Recording: no step>"
        layers = len(self.measures["gradient_norm"])
        return f"<Recording: {len(self.steps)} steps to {self.steps[-1]}, {layers} parameters>"


def recording_of(
    steps: Sequence[int], measures: Sequence[Mapping[str, Mapping[str, Any]]]
) -> Recording:
    """Join what was measured at these steps, one by one; None counts as not finite.

    >>> recording = recording_of([5, 10], [{"gradient_norm": {"w": 1.0}}] * 2)
    >>> recording.measures["gradient_norm"]["w"].tolist()
    [1.0, 1.0]
    """
    if not measures:
        return Recording((), {})
    joined = {
        name: {
            layer: np.asarray([row[name][layer] for row in measures], np.float64)
            for layer in by_layer
        }
        for name, by_layer in sorted(measures[0].items())
    }
    return Recording(tuple(steps), joined)


def recordings(records: Iterable[Mapping[str, Any]]) -> dict[int, Recording]:
    """Return the recording of each trial of a sweep, by its number.

    Args:
      records: rows of `records.jsonl`, as `fbp.records.read_records` reads them.

    Returns:
      The recordings; of a trial that diverged until then, and none where `train.record` is not set.

    >>> row = {"kind": "layers", "trial": 3, "layers": {"gradient_norm": {"w": 1.0}}}
    >>> recordings([row | {"step": 5}, row | {"step": 10}])
    {3: <Recording: 2 steps to 10, 1 parameters>}
    """
    by_trial: dict[int, list[Mapping[str, Any]]] = {}
    for row in records:
        if row["kind"] == LAYERS:
            by_trial.setdefault(row["trial"], []).append(row)
    return {
        trial: recording_of([row["step"] for row in rows], [row[LAYERS] for row in rows])
        for trial, rows in by_trial.items()
    }


def median_recording(alike: Sequence[Recording]) -> Recording:
    """Return the median over recordings of the same layers, at each step that half of them have.

    A number that is not finite counts as infinite.

    >>> one, two, three = (
    ...     recording_of([1, 2], [{"gradient_norm": {"w": x}}, {"gradient_norm": {"w": y}}])
    ...     for x, y in ((1.0, 2.0), (2.0, None), (4.0, None))
    ... )
    >>> median_recording([one, two, three]).measures["gradient_norm"]["w"].tolist()
    [2.0, nan]
    """
    counts = Counter(step for recording in alike for step in recording.steps)
    steps = sorted(step for step, count in counts.items() if 2 * count >= len(alike))

    def middle(measure: str, layer: str) -> Float[np.ndarray, " steps"]:
        rows = np.full((len(alike), len(steps)), np.nan)
        for row, recording in zip(rows, alike, strict=True):
            values = recording.measures[measure][layer]
            shown = np.where(np.isfinite(values), values, np.inf)[np.isin(recording.steps, steps)]
            row[np.isin(steps, recording.steps)] = shown
        median = np.nanmedian(rows, axis=0)
        return np.where(np.isfinite(median), median, np.nan)

    if not steps:
        return Recording((), {})
    medians = {
        measure: {layer: middle(measure, layer) for layer in by_layer}
        for measure, by_layer in alike[0].measures.items()
    }
    return Recording(tuple(steps), medians)
