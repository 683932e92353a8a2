"""Rows of the records, from what was measured; `fbp.records` describes their columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fbp.recording import LAYERS
from fbp.records import Row
from fbp.sweep.grid import Trial


def training_rows(
    trials: Sequence[Trial],
    step: int,
    losses: Any,
    metrics: Mapping[str, Any],
    was_alive: np.ndarray,
    diverged_at: np.ndarray,
) -> list[Row]:
    """Make the rows after a segment of steps, of the trials that had not diverged before it.

    Args:
      trials: the trials, in the order of the arrays.
      step: the step at which they are measured.
      losses: the mean training loss of each; or that and other means, by name.
      metrics: of the validation set, by name.
      was_alive: which had not diverged before.
      diverged_at: the step at which each diverged, -1 for those that have not.
    """
    alive = diverged_at < 0
    means = metrics_by_trial(losses if isinstance(losses, Mapping) else {"loss": losses})
    trained = [
        make_row("train", trial, step, **means[i]) for i, trial in enumerate(trials) if alive[i]
    ]
    ended = [
        make_row("diverged", trial, int(diverged_at[i]))
        for i, trial in enumerate(trials)
        if was_alive[i] and not alive[i]
    ]
    return [*trained, *validation_rows(trials, step, metrics, alive), *ended]


def validation_rows(
    trials: Sequence[Trial], step: int, metrics: Mapping[str, Any], alive: np.ndarray
) -> list[Row]:
    """Make a row of each living trial's validation metrics."""
    return [
        make_row("eval", trial, step, split="validation", **values)
        for trial, values, lives in zip(trials, metrics_by_trial(metrics), alive, strict=True)
        if lives
    ]


def layer_rows(trials: Sequence[Trial], step: int, layers: Any, was_alive: np.ndarray) -> list[Row]:
    """Make a row of what a step did to each layer, of each trial that had not diverged before it.

    Args:
      trials: the trials, in the order of the arrays.
      step: the step that is recorded.
      layers: the numbers, by measure and layer; empty where nothing is recorded.
      was_alive: which had not diverged before.
    """
    if not layers:
        return []
    of_trial = lambda i: jax.tree.map(lambda values: float(values[i]), layers)
    return [
        make_row(LAYERS, trial, step, **{LAYERS: of_trial(i)})
        for i, trial in enumerate(trials)
        if was_alive[i]
    ]


def metrics_by_trial(metrics: Mapping[str, Any]) -> list[dict[str, float]]:
    """Split the metrics of all trials into those of each."""
    columns = {name: np.asarray(values).tolist() for name, values in metrics.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def make_row(kind: str, trial: Trial, step: int, **values: Any) -> Row:
    """Make one row: what is measured, of which trial, after which step."""
    identity = {"kind": kind, "trial": trial.number, **trial.setting, "seed": trial.seed}
    return {**identity, "step": step, **values}
