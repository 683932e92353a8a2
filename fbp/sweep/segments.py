"""The order of a sweep's work: segments of steps, in rungs."""

import math
from dataclasses import dataclass

from fbp.config import Halving, Sweep, Train


@dataclass(frozen=True)
class Segment:
    """The steps between two evaluations, of all trials of one variant that are still trained.

    Attributes:
      variant: which combination of the axes' values.
      start: the step at which it starts.
      stop: the step at which the trials are measured.
      keep: how many settings, of all variants, are promoted after it; None for all.
    """

    variant: int
    start: int
    stop: int
    keep: int | None = None


def segments_of(sweep: Sweep, train: Train, variants: int, settings: int) -> list[Segment]:
    """List the segments of a sweep, rung after rung; in a rung, one variant after the other.

    Args:
      sweep, train: what to do.
      variants: how many combinations of the axes' values there are.
      settings: how many settings there are, of all variants.

    >>> sweep = Sweep((0.1, 1.0, 10.0), seeds=1, search=Halving(eta=3))
    >>> segments = segments_of(sweep, Train(90, 8, 20), variants=1, settings=3)
    >>> [(segment.start, segment.stop, segment.keep) for segment in segments]
    [(0, 20, None), (20, 40, 1), (40, 60, None), (60, 80, None), (80, 90, None)]
    """
    segments, start = [], 0
    for end, keep in rungs_of(sweep, train, settings).items():
        for variant in range(variants):
            steps = range(start, end, train.evaluate_every)
            stops = [*steps[1:], end]
            last = variant == variants - 1
            segments += [
                Segment(variant, step, stop, keep if last and stop == end else None)
                for step, stop in zip(steps, stops, strict=True)
            ]
        start = end
    return segments


def rungs_of(sweep: Sweep, train: Train, settings: float) -> dict[int, int | None]:
    """Return each step after which settings are dropped, and how many remain; at last all steps.

    With successive halving of n settings there are k = floor(log_eta n) rungs before the last.
    Rung i, from 0, ends after steps / eta^(k - i), rounded up to an evaluation, and n / eta^(i + 1)
    settings remain. The steps of all trials together are about (k + 1) n steps / eta^k, instead of
    n steps. Source: Jamieson and Talwalkar, Non-stochastic best arm identification and
    hyperparameter optimization (AISTATS 2016).

    >>> rungs_of(Sweep((0.1,), seeds=1, search=Halving(eta=3)), Train(270, 8, 10), settings=27)
    {10: 9, 30: 3, 90: 1, 270: None}
    """
    rungs: dict[int, int | None] = {}
    if isinstance(sweep.search, Halving):
        eta, every, before = sweep.search.eta, train.evaluate_every, 0
        while eta ** (before + 1) <= settings:
            before += 1
        for i in range(before):
            end = math.ceil(train.steps / eta ** (before - i) / every) * every
            rungs[end] = int(settings // eta ** (i + 1))
    return {end: keep for end, keep in rungs.items() if end < train.steps} | {train.steps: None}


def trial_steps(sweep: Sweep, train: Train, settings: float) -> int:
    """Count the steps that all trials together make, unless some diverge.

    A group of trials may be of a part of a setting's seeds.

    >>> sweep = Sweep((0.1,), seeds=2, search=Halving(eta=3))
    >>> trial_steps(sweep, Train(270, 8, 10), settings=27)
    1620
    """
    total, before, trained = 0, 0, settings
    for end, keep in rungs_of(sweep, train, settings).items():
        total += (end - before) * trained * sweep.seeds
        before, trained = end, keep or trained
    return round(total)
