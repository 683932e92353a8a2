"""Group records by trial, and aggregate one setting's trials.

A record is one row of `records.jsonl`. Rows of one trial share their number, their seed and
their hyperparameters; a setting is a value of every hyperparameter, so trials of one setting
differ in the seed alone.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Float64

from fbp.recording import LAYERS

Record = Mapping[str, Any]
Value = float | str | None
Setting = tuple[tuple[str, Value], ...]

MEASUREMENTS = frozenset(
    {"kind", "trial", "seed", "step", "split", "loss", "accuracy", "r2"}
)  # with a run's own measures: every other column of a record is a hyperparameter
FACTS = frozenset({"trials", "diverged", "steps", "at_edge"})
"""What an entry of a summary says of its setting in one number."""


@dataclass(frozen=True)
class TrialHistory:
    """One training run: its setting, its measurements in order of steps, how it ended."""

    number: int
    seed: int
    setting: Setting
    training: tuple[Record, ...]
    evals: tuple[Record, ...]
    test: Record | None
    diverged_at: int | None

    @property
    def diverged(self) -> bool:
        """Whether the loss stopped being finite."""
        return self.diverged_at is not None

    @property
    def survived(self) -> bool:
        """Whether it was measured on the validation set and has not diverged."""
        return bool(self.evals) and not self.diverged

    @property
    def steps(self) -> int:
        """The last step at which anything was measured."""
        rows = (*self.training[-1:], *self.evals[-1:])
        return max((row["step"] for row in rows), default=self.diverged_at or 0)

    @property
    def learning_rate(self) -> float:
        """The rate of this trial."""
        return rate_of(self.setting)

    @property
    def others(self) -> Setting:
        """The setting without the rate."""
        return without_rate(self.setting)

    def last(self, column: str) -> float:
        """Return the last validation value of a column; NaN where there is none."""
        value = self.evals[-1].get(column) if self.evals else None
        return math.nan if value is None else float(value)


def trials(records: Iterable[Record], measured: Collection[str] = ()) -> list[TrialHistory]:
    """Group the records by trial, in the order of the trials' numbers; without those of layers.

    `measured` names the columns that are no hyperparameters, beside `MEASUREMENTS`.
    """
    rows: dict[int, list[Record]] = {}
    for record in records:
        if record["kind"] != LAYERS:
            rows.setdefault(record["trial"], []).append(record)
    columns = MEASUREMENTS | set(measured)
    return [_trial(number, rows[number], columns) for number in sorted(rows)]


def rate_of(setting: Setting) -> float:
    """Return the rate of a setting."""
    return cast(float, dict(setting)["learning_rate"])


def without_rate(setting: Setting) -> Setting:
    """Return a setting without its rate."""
    return tuple(pair for pair in setting if pair[0] != "learning_rate")


def settings(runs: Iterable[TrialHistory]) -> list[Setting]:
    """List the settings of the trials, each once, in ascending order; numbers come before words."""
    return sorted({run.setting for run in runs}, key=sort_key)


def sort_key(setting: Setting) -> list[tuple[str, bool, float, str]]:
    """Return a key to sort settings by.

    >>> sorted([(("b", "x"),), (("b", 2.0),), (("b", 1.0),)], key=sort_key)
    [(('b', 1.0),), (('b', 2.0),), (('b', 'x'),)]
    """
    return [
        (name, False, value, "")
        if isinstance(value, int | float)
        else (name, True, 0.0, str(value))
        for name, value in setting
    ]


def setting_of(entry: Mapping[str, Any]) -> Setting:
    """Return the setting of an entry of a summary, as a trial has it.

    >>> setting_of({"learning_rate": 0.1, "momentum": 0.9, "trials": 5, "diverged": 0})
    (('learning_rate', 0.1), ('momentum', 0.9))
    """
    values = {k: v for k, v in entry.items() if k not in FACTS and not isinstance(v, Mapping)}
    return _setting(values)


def value_text(value: Value) -> str:
    """Format a hyperparameter's value as a reader writes it.

    >>> value_text(0.0316228), value_text("cosine")
    ('0.0316', 'cosine')
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.3g}" if number else str(value)


def label(setting: Setting) -> str:
    """Format the names and values of a setting.

    >>> label((("momentum", 0.9), ("schedule", "cosine")))
    'momentum 0.9, schedule cosine'
    """
    return ", ".join(f"{name} {value_text(value)}" for name, value in setting)


@dataclass(frozen=True, eq=False)
class LossCurve:
    """A loss against the step: median over seeds, lowest and highest value."""

    step: Float64[np.ndarray, " steps"]
    median: Float64[np.ndarray, " steps"]
    low: Float64[np.ndarray, " steps"]
    high: Float64[np.ndarray, " steps"]


def curve(runs: Sequence[TrialHistory], part: Literal["training", "evals"]) -> LossCurve:
    """Return the loss of one setting's trials against the step.

    A diverged trial counts as infinite from then on, one that was stopped early is left out
    from then on; the curve ends where the median does, that is where half of the trials have
    diverged, or where more than half of them have ended.

    >>> row = {"kind": "train", "learning_rate": 0.1, "step": 1}
    >>> rows = [row | {"trial": seed, "seed": seed, "loss": 1.0 + seed} for seed in range(3)]
    >>> curve(trials(rows), "training").median
    array([2.])
    """
    losses = [(run, {row["step"]: row["loss"] for row in getattr(run, part)}) for run in runs]
    points = []
    for step in sorted(set().union(*(measured for _, measured in losses))):
        values = [_loss_at(step, run, measured) for run, measured in losses]
        present = [value for value in values if value is not None]
        middle = median(present)
        if math.isfinite(middle) and 2 * len(present) >= len(runs):
            finite = [value for value in present if math.isfinite(value)]
            points.append((step, middle, min(finite), max(finite)))
    return LossCurve(*np.array(points, dtype=np.float64).reshape(-1, 4).T)


def _trial(number: int, rows: Sequence[Record], measured: Collection[str]) -> TrialHistory:
    ordered = sorted(rows, key=lambda row: row["step"])
    evals = [row for row in ordered if row["kind"] == "eval" and row["split"] == "validation"]
    return TrialHistory(
        number=number,
        seed=rows[0]["seed"],
        setting=_setting(rows[0], measured),
        training=tuple(row for row in ordered if row["kind"] == "train"),
        evals=tuple(evals),
        test=next((row for row in rows if row["kind"] == "test"), None),
        diverged_at=_diverged_at(ordered, evals),
    )


def _diverged_at(rows: Sequence[Record], evals: Sequence[Record]) -> int | None:
    declared = next((row["step"] for row in rows if row["kind"] == "diverged"), None)
    if declared is None and evals and evals[-1]["loss"] is None:
        return evals[-1]["step"]
    return declared


def _loss_at(step: int, run: TrialHistory, measured: Mapping[int, float | None]) -> float | None:
    """Return the loss, infinite once the trial has diverged, None where it was not measured."""
    loss = measured.get(step)
    if loss is not None:
        return loss
    diverged = run.diverged_at is not None and step >= run.diverged_at
    return math.inf if diverged or step in measured else None


def _setting(values: Mapping[str, Any], measured: Collection[str] = MEASUREMENTS) -> Setting:
    others = sorted(set(values) - set(measured) - {"learning_rate"})
    return tuple((column, values[column]) for column in ("learning_rate", *others))
