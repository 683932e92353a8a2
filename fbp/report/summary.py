"""Summarize a sweep's trials: the best setting, how sure that is, the time to the target."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from fbp.report.measures import Measures, measures_of
from fbp.report.statistics import (
    Interval,
    bootstrap_interval,
    interquartile_mean,
    probability_of_improvement,
)
from fbp.report.trials import Record, Setting, TrialHistory, rate_of, settings, trials, without_rate

NOTHING = (math.nan, math.nan, math.nan)
Groups = Mapping[Setting, Sequence[TrialHistory]]


def summarize(
    records: Sequence[Record],
    name: str,
    task: str,
    metric: str,
    target: float | None,
    measures: Measures | None = None,
) -> dict[str, Any]:
    """Summarize a sweep: one entry per setting, and the best one.

    Args:
      records: rows of `records.jsonl`; rows of kind `test` may still be missing.
      name: name of the sweep, copied.
      task: `classification`, `regression` or `other`, copied.
      metric: what is compared on validation: `accuracy` or `r2` (more is better) or `loss`.
      target: the value of the metric that counts as reached, or None.
      measures: what is measured beside these, or by other names.

    Means and intervals are of the trials that did not diverge. The best setting has the best
    mean of the metric on validation, where a diverged trial counts as a failure: accuracy 0,
    an r2 of minus infinity, an infinite loss. Ties go to the lower mean loss, then to the
    lower rate. A trial whose metric is NaN at its end is a failure, too. Settings that were stopped
    early, and those of failures alone, take no part in the choice. The runner-up comes
    with the probability that a trial of the best setting beats one of it. The interquartile mean is
    that of the metric, of four trials or more. Numbers that do not exist are None, so that the
    summary is JSON.

    >>> row = {"kind": "eval", "split": "validation", "step": 10, "seed": 0}
    >>> records = [
    ...     row | {"trial": 0, "learning_rate": 0.1, "loss": 0.5, "accuracy": 0.8},
    ...     row | {"trial": 1, "learning_rate": 1.0, "loss": 0.3, "accuracy": 0.9},
    ... ]
    >>> summary = summarize(records, "demo", "classification", "accuracy", target=0.85)
    >>> summary["best"]["learning_rate"], summary["best"]["at_edge"]
    (1.0, True)
    """
    measures = measures or measures_of({"task": task, "metric": metric})
    runs = trials(records, measures.columns)
    groups = {s: [run for run in runs if run.setting == s] for s in settings(runs)}
    best, *rest = [*ranking(groups, measures), None]
    return {
        "name": name,
        "target": target,
        **measures.facts(),
        "best": None if best is None else _best_entry(best, groups, measures.score),
        "runner_up": None if best is None else _runner_up(groups, best, rest[0], measures),
        "rates": [_entry(s, group, measures, target) for s, group in groups.items()],
    }


def outcomes(runs: Iterable[TrialHistory], measures: Measures) -> list[float]:
    """Return the last validation value of each trial, with a sign so that more is better.

    A diverged trial is a failure: accuracy 0, any other metric of minus infinity.
    """
    sign, failure = 1 if measures.higher_is_better else -1, measures.failure
    values = (sign * run.last(measures.metric) if run.survived else failure for run in runs)
    return [failure if math.isnan(value) else value for value in values]


def ranking(groups: Groups, measures: Measures) -> list[Setting]:
    """Rank the settings that were trained to the end, the best one first."""
    survivors = [run for group in groups.values() for run in group if run.survived]
    longest = max((run.steps for run in survivors), default=0)
    fully_trained = [
        setting
        for setting, group in groups.items()
        if any(run.survived and run.steps == longest for run in group)
        and any(run.survived and not math.isnan(run.last(measures.metric)) for run in group)
    ]

    def cost(setting: Setting) -> tuple[float, float]:
        values = outcomes(groups[setting], measures)
        losses = [run.last("loss") for run in groups[setting] if run.survived]
        return -sum(values) / len(values), sum(losses) / len(losses)

    return sorted(fully_trained, key=cost)  # stable: of equal ones the lower rate comes first


def _runner_up(
    groups: Groups, best: Setting, second: Setting | None, measures: Measures
) -> dict[str, Any] | None:
    if second is None:
        return None
    of_best, of_second = (outcomes(groups[setting], measures) for setting in (best, second))
    improvement = probability_of_improvement([of_best], [of_second])
    return {**dict(second), "probability_of_improvement": as_json(improvement)}


def _entry(
    setting: Setting, group: Sequence[TrialHistory], measures: Measures, target: float | None
) -> dict[str, Any]:
    survivors = [run for run in group if run.survived]
    return {
        **dict(setting),
        "trials": len(group),
        "diverged": sum(run.diverged for run in group),
        "steps": max((run.steps for run in survivors), default=None),
        **_validation(survivors, measures.score),
        "interquartile_mean": _middle([run.last(measures.metric) for run in survivors]),
        "steps_to_target": _steps_to_target(group, measures, target),
    }


def _validation(survivors: Sequence[TrialHistory], score: str | None) -> dict[str, Any]:
    names = ["loss"] if score is None else ["loss", score]
    return {f"validation_{n}": _interval([run.last(n) for run in survivors]) for n in names}


def _best_entry(best: Setting, groups: Groups, score: str | None) -> dict[str, Any]:
    survivors = [run for run in groups[best] if run.survived]
    tests = [run.test for run in groups[best] if run.test is not None]
    entry = {
        **dict(best),
        "at_edge": _at_edge(best, list(groups)),
        **_validation(survivors, score),
    }
    if tests:
        names = ["loss"] if score is None else ["loss", score]
        entry |= {f"test_{name}": _interval([row[name] for row in tests]) for name in names}
    return entry


def _at_edge(best: Setting, tried: Sequence[Setting]) -> bool:
    """Say whether no higher or no lower rate was tried with the best one's other hyperparameters.

    Where no two settings share those, as in a random search, all rates count.
    """
    alike = {rate_of(s) for s in tried if without_rate(s) == without_rate(best)}
    rates = alike if len(alike) > 1 else {rate_of(s) for s in tried}
    return len(rates) > 1 and rate_of(best) in (min(rates), max(rates))


def _interval(values: Iterable[float | None]) -> dict[str, float | None]:
    return as_json(bootstrap_interval(v for v in values if v is not None and math.isfinite(v)))


def _middle(values: Sequence[float]) -> dict[str, float | None]:
    """Return the interquartile mean; of fewer than four values it would be the mean."""
    finite = [v for v in values if math.isfinite(v)]
    return as_json(interquartile_mean([finite]) if len(finite) >= 4 else NOTHING)


def as_json(interval: Interval) -> dict[str, float | None]:
    """Return an interval by the names of its numbers; those that do not exist are None."""
    names = ("mean", "low", "high")
    return {n: x if math.isfinite(x) else None for n, x in zip(names, interval, strict=True)}


def _steps_to_target(
    group: Sequence[TrialHistory], measures: Measures, target: float | None
) -> dict[str, float | int | None]:
    """Return the trials' median of the first step at the target; failed trials never arrive."""
    if target is None:
        return {"median": None, "reached": 0}
    steps = [first_step(run, measures, target) for run in group]
    middle = float(median(steps))
    return {
        "median": middle if math.isfinite(middle) else None,
        "reached": sum(map(math.isfinite, steps)),
    }


def first_step(run: TrialHistory, measures: Measures, target: float) -> float:
    """Return the first measured step at which a trial passes the target; infinite where none."""
    if run.diverged:
        return math.inf
    values = [(row["step"], row.get(measures.metric)) for row in run.evals]
    reached = (
        step
        for step, value in values
        if value is not None and (value >= target if measures.higher_is_better else value <= target)
    )
    return next(reached, math.inf)
