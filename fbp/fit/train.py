"""The rate that trains best, and the networks trained with it; from another start if it fails."""

import math
from dataclasses import dataclass, replace

import jax
import numpy as np

from fbp.errors import InputError
from fbp.fit.plan import Plan
from fbp.fit.search import Learning, Outcome, RangeTest, cosine, range_test, train_trials

MOST_TRIES = 3
HIGHEST_RATE = 0.1
REHEARSAL_FOLDS = 2


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
      tries: starts that were needed.
    """

    range_test: RangeTest
    rates: tuple[RateTried, ...]
    rate: float
    outcome: Outcome
    tries: int


def train_networks(
    plan: Plan, learning: Learning, constant_loss: float, seed: int, progress: bool
) -> Trained:
    """Find the rate, and train a network on each fold with it.

    A range test suggests a rate, a sweep around it compares mean validation losses. Where the
    lowest is not below `constant_loss`, that of the best constant prediction, by a standard error
    over the folds, all starts anew from another seed, at rates ten times lower, up to three
    times; the try of the lowest loss counts.

    Raises InputError where every training of every try diverged.
    """
    tries: list[Trained] = []
    while len(tries) < MOST_TRIES and not any(_beats(t, constant_loss) for t in tries):
        tries.append(_attempt(plan, learning, seed, len(tries), progress))
    best = replace(min(tries, key=_loss), tries=len(tries))
    if not np.isfinite(best.outcome.lowest).any():
        raise InputError(
            f"training diverged at every rate in {len(tries)} tries: look for columns of extreme "
            "values"
        )
    return best


def _attempt(plan: Plan, learning: Learning, seed: int, number: int, progress: bool) -> Trained:
    seed, lower = seed + 7919 * number, 10.0**-number
    folds = REHEARSAL_FOLDS if plan.rehearsed else plan.members
    steps = plan.rehearsal_steps if plan.rehearsed else plan.steps
    found = range_test(learning, len(plan.factors) * folds, seed)
    rates = sorted({min(HIGHEST_RATE, lower * f * found.suggestion) for f in plan.factors})
    peaks, fold = np.repeat(rates, folds), np.tile(np.arange(folds), len(rates))
    title = f"{len(rates)} rates" + (f", try {number + 1}" if number else "")
    sweep = train_trials(learning, cosine(peaks, steps), fold, seed + 1, title, progress)
    tried = tuple(
        RateTried(rate, _losses(sweep.lowest[peaks == rate])) for rate in map(float, rates)
    )
    rate = min(tried, key=lambda entry: entry.mean_loss).rate
    if plan.rehearsed:
        peaks, fold = np.full(plan.members, rate), np.arange(plan.members)
        title = f"rate {rate:.2g}"
        full = cosine(peaks, plan.steps)
        outcome = train_trials(learning, full, fold, seed + 2, title, progress)
    else:
        outcome = _part(sweep, np.flatnonzero(peaks == rate))
    return Trained(found, tried, rate, outcome, 1)


def _part(outcome: Outcome, trials: np.ndarray) -> Outcome:
    return Outcome(
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
    return bool(lowest.mean() + error < constant_loss)
