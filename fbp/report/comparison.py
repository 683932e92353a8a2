"""Compare runs: which won, how surely, and what differs between their configs."""

import math
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbp.errors import InputError
from fbp.report.measures import measures_of
from fbp.report.run_directory import RecordedRun, read_run
from fbp.report.statistics import Interval, probability_of_improvement
from fbp.report.summary import outcomes
from fbp.report.trials import TrialHistory, setting_of, trials


@dataclass(frozen=True)
class Contestant:
    """A run in a comparison.

    Attributes:
      name: its name in the comparison, its directory's where two runs are called the same.
      run: the run.
      winners: the trials of its best setting; none where every trial diverged.
      scores: their last validation values, turned so that more is better.
    """

    name: str
    run: RecordedRun
    winners: tuple[TrialHistory, ...]
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean score, by which contestants are ranked; a diverged trial counts as a failure."""
        return sum(self.scores) / len(self.scores) if self.scores else -math.inf


def contestants(paths: Sequence[Path]) -> list[Contestant]:
    """Read the runs in these directories, the best one first.

    Each run's rate was chosen on its validation set, and so is the order of the runs.

    Raises InputError for a directory that is no run's, fewer than two, one that is given twice,
    and runs that cannot be compared: of another task, metric or data set.
    """
    if len(paths) < 2:
        raise InputError(f"{len(paths)} run to compare: give two directories or more")
    twice = [str(path) for path, n in Counter(p.resolve() for p in paths).items() if n > 1]
    if twice:
        raise InputError(f"{twice[0]}: given twice: give runs that differ")
    runs = [read_run(path) for path in paths]
    for key in ("task", "metric", "higher_is_better"):
        _require_same(key, {run.path: measures_of(run.summary).facts()[key] for run in runs})
    _require_same("data.name", {run.path: _flat(run).get("data.name") for run in runs})
    return sorted(map(_contestant, runs, _names(runs)), key=lambda c: c.mean, reverse=True)


def improvements(compared: Sequence[Contestant]) -> list[list[Interval]]:
    """Return the probabilities that a winner's trial of the row beats one of the column."""
    return [
        [probability_of_improvement([row.scores], [column.scores]) for column in compared]
        for row in compared
    ]


def config_differences(compared: Sequence[Contestant]) -> dict[str, list[Any]]:
    """Return the keys of the configs that differ, and each run's value; None where it has none."""
    configs = [_flat(contestant.run) for contestant in compared]
    keys = sorted(set().union(*configs) - {"name"})
    values = {key: [config.get(key) for config in configs] for key in keys}
    return {key: by_run for key, by_run in values.items() if any(v != by_run[0] for v in by_run)}


def _contestant(run: RecordedRun, name: str) -> Contestant:
    best = run.summary["best"]
    chosen = None if best is None else setting_of(best)
    measures = measures_of(run.summary)
    runs = trials(run.records, measures.columns)
    winners = tuple(trial for trial in runs if trial.setting == chosen)
    return Contestant(name, run, winners, tuple(outcomes(winners, measures)))


def _names(runs: Sequence[RecordedRun]) -> list[str]:
    """Return the runs' names; where not unique, their directories', at last their paths."""
    for names in (
        [str(run.summary["name"]) for run in runs],
        [run.path.resolve().name for run in runs],
    ):
        if len(set(names)) == len(names):
            return names
    return [str(run.path) for run in runs]


def _require_same(key: str, values: Mapping[Path, Any]) -> None:
    if len(set(values.values())) > 1:
        listed = ", ".join(f"{value} in {path}" for path, value in values.items())
        raise InputError(f"{key} differs ({listed}): give runs that measured the same")


def _flat(run: RecordedRun) -> dict[str, Any]:
    """Return the config's keys, with dots, and their values."""
    try:
        return _flattened(tomllib.loads(run.config))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{run.path / 'config.toml'}: damaged ({error})") from error


def _flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
