"""The rate that trains best, and the networks trained with it; from another start if it fails."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np

from fbp.automl.search import (
    FoldedData,
    RateRange,
    TrainedFolds,
    cosine,
    find_rate_range,
    train_folds,
)
from fbp.errors import InputError

MOST_STARTS = 3
LOWEST_RATE, HIGHEST_RATE = 1e-7, 1.0
MOST_ROUNDS = 3  # of the search, each beyond the edge at which the last one ended
SEARCH_FOLDS = 2
ERRORS = 2  # standard errors: by one, rates that are all too high beat a constant now and then


@dataclass(frozen=True)
class RateTried:
    """The lowest validation loss of each training at a rate, None where it diverged."""

    rate: float
    losses: tuple[float | None, ...]

    @property
    def mean_loss(self) -> float:
        """Infinite where a training diverged."""
        return float(np.mean([math.inf if loss is None else loss for loss in self.losses]))


@dataclass(frozen=True, eq=False)
class Trained:
    """What `train_networks` returns.

    Attributes:
      range_test: the loss while the rate grows.
      rates: the sweep around the rate that the range test suggests.
      rate: the one of the lowest mean validation loss.
      outcome: the trainings at that rate, one for each fold.
      starts: starts that were needed.
    """

    range_test: RateRange
    rates: tuple[RateTried, ...]
    rate: float
    outcome: TrainedFolds
    starts: int


def train_networks(
    learning: FoldedData, constant_loss: float, seed: int, progress: bool
) -> Trained:
    """Find the rate, and train a network on each fold with it.

    A range test suggests a rate, a sweep around it compares mean validation losses. Where the
    best rate is the lowest or the highest of those tried, the sweep goes on beyond it. Where the
    lowest loss is not below `constant_loss`, that of the best constant prediction, by two standard
    errors over the folds, all starts anew from another seed, at rates ten times lower, up to three
    times; the try of the lowest loss counts.

    Raises InputError where every training of every try diverged.
    """
    starts: list[Trained] = []
    while len(starts) < MOST_STARTS and not any(_beats(t, constant_loss) for t in starts):
        starts.append(_start(learning, seed, len(starts), progress))
    best = replace(min(starts, key=_loss), starts=len(starts))
    if not np.isfinite(best.outcome.lowest).all():
        started = any(np.isfinite(t.outcome.training[:, 0]).any() for t in starts)
        raise InputError(
            f"training diverged at every rate in {len(starts)} starts: look for columns of extreme "
            "values"
            if started
            else "training never started, the loss of the first step is no number: look for "
            "columns of extreme values"
        )
    return best


def _start(learning: FoldedData, seed: int, number: int, progress: bool) -> Trained:
    plan, seed, lower = learning.plan, seed + 7919 * number, 10.0**-number
    folds = min(SEARCH_FOLDS, plan.members) if plan.short_search else plan.members
    steps = plan.search_steps if plan.short_search else plan.steps
    test = find_rate_range(learning, len(plan.factors) * folds, seed)
    rates = _within_bounds(lower * f * test.suggestion for f in plan.factors)
    tried: dict[RateTried, TrainedFolds] = {}
    title = f"{len(rates)} rates" + (f", try {number + 1}" if number else "")
    for _ in range(MOST_ROUNDS):
        peaks, fold = np.repeat(rates, folds), np.tile(np.arange(folds), len(rates))
        sweep = train_folds(learning, cosine(peaks, steps), fold, seed + 1, title, progress)
        for i, rate in enumerate(rates):
            outcome = _part(sweep, np.arange(i * folds, (i + 1) * folds))
            tried[RateTried(rate, _losses(outcome.lowest))] = outcome
        rates = _beyond(list(tried), len(plan.factors))
        title = f"{len(rates)} further rates"
        if not rates:
            break
    best = min(tried, key=lambda entry: entry.mean_loss)
    outcome = tried[best]
    if plan.short_search:
        peaks, fold = np.full(plan.members, best.rate), np.arange(plan.members)
        full = cosine(peaks, plan.steps)
        outcome = train_folds(learning, full, fold, seed + 2, f"rate {best.rate:.2g}", progress)
    return Trained(test, tuple(sorted(tried, key=lambda t: t.rate)), best.rate, outcome, 1)


def _within_bounds(rates: Iterable[float]) -> list[float]:
    return sorted({float(min(HIGHEST_RATE, max(LOWEST_RATE, rate))) for rate in rates})


def _beyond(tried: Sequence[RateTried], number: int) -> list[float]:
    """Rates half a decade apart beyond the best one, where that is at the edge of those tried.

    There are as many as in each round, so that all rounds share one compiled program; they are
    closer to each other near the bounds.
    """
    best = min(tried, key=lambda entry: entry.mean_loss).rate
    rates = [entry.rate for entry in tried]
    if len(rates) < 2 or not math.isfinite(min(entry.mean_loss for entry in tried)):
        return []
    step = math.sqrt(10) ** number
    if best == max(rates) and best < HIGHEST_RATE:
        end = min(HIGHEST_RATE, best * step)
    elif best == min(rates) and best > LOWEST_RATE:
        end = max(LOWEST_RATE, best / step)
    else:
        return []
    return sorted(np.geomspace(best, end, number + 1)[1:].tolist())


def _part(outcome: TrainedFolds, trials: np.ndarray) -> TrainedFolds:
    return TrainedFolds(
        jax.tree.map(lambda leaf: leaf[trials], outcome.members),
        outcome.lowest[trials],
        outcome.training[trials],
        outcome.validation[trials],
    )


def _losses(lowest: np.ndarray) -> tuple[float | None, ...]:
    return tuple(float(loss) if math.isfinite(loss) else None for loss in lowest)


def _loss(trained: Trained) -> float:
    return float(np.mean(trained.outcome.lowest))


def _beats(trained: Trained, constant_loss: float) -> bool:
    lowest = trained.outcome.lowest
    if not np.isfinite(lowest).all():
        return False
    error = np.std(lowest, ddof=1) / math.sqrt(len(lowest))
    return bool(lowest.mean() + ERRORS * error < constant_loss)
