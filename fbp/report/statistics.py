"""What a sweep's trials say: intervals, the best setting, the time to the target."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from scipy import stats

from fbp.report.trials import Record, Setting, Trial, settings, trials


def bootstrap_interval(
    values: Iterable[float], *, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of `values` and its percentile bootstrap interval, as `(mean, low, high)`.

    The values are drawn again with replacement 9,999 times; the interval holds the middle
    `confidence` of the means. With few values it is narrower than it should be: read it as
    the spread over seeds. One value alone has no interval (the bounds are NaN), no value has
    no mean either. Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), 13.

    >>> bootstrap_interval([2.0, 2.0, 2.0])
    (2.0, 2.0, 2.0)
    >>> mean, low, high = bootstrap_interval([1.0, 2.0, 3.0, 4.0])
    >>> low < mean < high
    True
    """
    sample = np.asarray(list(values), dtype=np.float64)
    if sample.size == 0:
        return math.nan, math.nan, math.nan
    mean = float(sample.mean())
    if sample.size == 1:
        return mean, math.nan, math.nan
    if np.all(sample == sample[0]):
        return float(sample[0]), float(sample[0]), float(sample[0])
    bounds = stats.bootstrap(
        (sample,), np.mean, confidence_level=confidence, method="percentile", rng=seed
    ).confidence_interval
    return mean, float(bounds.low), float(bounds.high)


def summarise(
    records: Sequence[Record], name: str, task: str, metric: str, target: float | None
) -> dict[str, Any]:
    """The summary of a sweep: one entry per setting, and the best one.

    Args:
      records: rows of `records.jsonl`; rows of kind `test` may still be missing.
      name: name of the sweep, copied.
      task: `classification` or `regression`, copied.
      metric: what is compared on validation: `accuracy` or `r2` (more is better) or `loss`.
      target: the value of the metric that counts as reached, or None.

    Means and intervals are of the trials that did not diverge. The best setting has the best
    mean of the metric on validation, where a diverged trial counts as a failure: accuracy 0,
    an r2 of minus infinity, an infinite loss. Ties go to the lower mean loss, then to the
    lower rate. Numbers that do not exist are None, so that the summary is JSON.

    >>> row = {"kind": "eval", "split": "validation", "step": 10, "seed": 0}
    >>> records = [
    ...     row | {"trial": 0, "learning_rate": 0.1, "loss": 0.5, "accuracy": 0.8},
    ...     row | {"trial": 1, "learning_rate": 1.0, "loss": 0.3, "accuracy": 0.9},
    ... ]
    >>> summary = summarise(records, "demo", "classification", "accuracy", target=0.85)
    >>> summary["best"]["learning_rate"], summary["best"]["at_edge"]
    (1.0, True)
    """
    runs = trials(records)
    score = "r2" if task == "regression" else "accuracy"
    groups = {s: [run for run in runs if run.setting == s] for s in settings(runs)}
    best = _best(groups, metric)
    return {
        "name": name,
        "task": task,
        "metric": metric,
        "target": target,
        "best": None if best is None else _best_entry(best, groups, score),
        "rates": [_entry(s, group, score, metric, target) for s, group in groups.items()],
    }


def _best(groups: Mapping[Setting, Sequence[Trial]], metric: str) -> Setting | None:
    measured = {s: g for s, g in groups.items() if any(_survived(run) for run in g)}
    return min(measured, key=lambda s: (*_cost(measured[s], metric), s), default=None)


def _cost(group: Sequence[Trial], metric: str) -> tuple[float, float]:
    """What the best setting has least of: the metric's loss, then the mean loss."""
    failure = {"accuracy": 0.0, "r2": -math.inf, "loss": math.inf}[metric]
    values = [run.last(metric) if _survived(run) else failure for run in group]
    mean = sum(values) / len(values)
    losses = [run.last("loss") for run in group if _survived(run)]
    return (mean if metric == "loss" else -mean), sum(losses) / len(losses)


def _survived(run: Trial) -> bool:
    return bool(run.evals) and not run.diverged


def _entry(
    setting: Setting, group: Sequence[Trial], score: str, metric: str, target: float | None
) -> dict[str, Any]:
    survivors = [run for run in group if _survived(run)]
    return {
        **dict(setting),
        "trials": len(group),
        "diverged": sum(run.diverged for run in group),
        "validation_loss": _interval([run.last("loss") for run in survivors]),
        f"validation_{score}": _interval([run.last(score) for run in survivors]),
        "steps_to_target": _steps_to_target(group, metric, target),
    }


def _best_entry(
    best: Setting, groups: Mapping[Setting, Sequence[Trial]], score: str
) -> dict[str, Any]:
    rates = sorted({dict(setting)["learning_rate"] for setting in groups})
    rate = dict(best)["learning_rate"]
    survivors = [run for run in groups[best] if _survived(run)]
    tests = [run.test for run in groups[best] if run.test is not None]
    entry = {
        **dict(best),
        "at_edge": len(rates) > 1 and rate in (rates[0], rates[-1]),
        "validation_loss": _interval([run.last("loss") for run in survivors]),
        f"validation_{score}": _interval([run.last(score) for run in survivors]),
    }
    if tests:
        entry["test_loss"] = _interval([row["loss"] for row in tests])
        entry[f"test_{score}"] = _interval([row[score] for row in tests])
    return entry


def _interval(values: Iterable[float | None]) -> dict[str, float | None]:
    finite = [v for v in values if v is not None and math.isfinite(v)]
    numbers = bootstrap_interval(finite)
    return {
        key: number if math.isfinite(number) else None
        for key, number in zip(("mean", "low", "high"), numbers, strict=True)
    }


def _steps_to_target(
    group: Sequence[Trial], metric: str, target: float | None
) -> dict[str, float | int | None]:
    """Median over the trials of the first step at the target; a trial that fails never arrives."""
    if target is None:
        return {"median": None, "reached": 0}
    steps = [_first_step(run, metric, target) for run in group]
    middle = float(median(steps))
    return {
        "median": middle if math.isfinite(middle) else None,
        "reached": sum(map(math.isfinite, steps)),
    }


def _first_step(run: Trial, metric: str, target: float) -> float:
    if run.diverged:
        return math.inf
    values = [(row["step"], row.get(metric)) for row in run.evals]
    reached = (
        step
        for step, value in values
        if value is not None and (value <= target if metric == "loss" else value >= target)
    )
    return next(reached, math.inf)
