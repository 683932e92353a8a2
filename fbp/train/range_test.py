"""The learning-rate range test: train with a growing rate, see where the loss falls.

A test returns rates and losses; a suggestion is a pure function `(rates, losses) -> rate`. Each
suggestion here does what the tool that it comes from does: it smooths, stops where the loss has
diverged, leaves out the ends and picks, with that tool's defaults.

The tools know positive losses: one has diverged at so many times its lowest. Where the lowest is
zero or less, the limit lies as many sizes above it, and a size is that of the lowest or of the
first loss, whichever is larger.

Source: Smith, Cyclical learning rates for training neural networks (2017), arXiv 1506.01186.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from fbp.errors import InputError
from fbp.nn import Layer
from fbp.train.objective import Objective
from fbp.train.scan_steps import Examples
from fbp.train.trials import train_trials

Rates = Float[np.ndarray, " steps"]
Losses = Float[np.ndarray, " steps"]


@dataclass(frozen=True, eq=False)
class RangeTest:
    """What a range test measured, step by step.

    Attributes:
      rates: the learning rate of each step, growing by the same factor from step to step.
      losses: the loss of each step's batch, before the step is taken.
      smoothed: the losses as `steepest` sees them; NaN from where they have diverged.
    """

    rates: Rates
    losses: Losses
    smoothed: Losses


def range_test(
    network: Layer,
    objective: Objective,
    optimizer: Callable[[optax.Schedule], optax.GradientTransformation],
    training: Examples,
    *,
    batch_size: int,
    seed: int = 0,
    low: float = 1e-5,
    high: float = 10.0,
    steps: int = 300,
) -> RangeTest:
    """Train once with the rate growing from `low` to `high`, as one compiled scan.

    Step i of n has the rate low (high / low)^(i / (n - 1)).

    Args:
      network, objective, training, batch_size: what to train, as in `train_trials`.
      optimizer: makes an optimizer of its schedule, such as `optax.adam`.
      seed: of parameters and batches.
      low, high: the first and the last rate.
      steps: number of steps; with fewer than about 40 to a decade the average lags behind.

    Raises InputError unless 0 < low < high and there are two steps or more.

    >>> from fbp.data import load
    >>> from fbp.nn import mlp
    >>> from fbp.train import objective_of
    >>> digits = load("digits")
    >>> test = range_test(
    ...     mlp([32, 10]), objective_of(digits), optax.sgd, (digits.train.x, digits.train.y),
    ...     batch_size=32,
    ... )
    >>> 1e-2 < descent(test.rates, test.losses) < 1.0
    True
    """
    (test,) = range_tests(
        network,
        objective,
        optimizer,
        training,
        batch_size=batch_size,
        seeds=(seed,),
        low=low,
        high=high,
        steps=steps,
    )
    return test


def range_tests(
    network: Layer,
    objective: Objective,
    optimizer: Callable[[optax.Schedule], optax.GradientTransformation],
    training: Examples,
    *,
    batch_size: int,
    seeds: Sequence[int],
    low: float = 1e-5,
    high: float = 10.0,
    steps: int = 300,
) -> tuple[RangeTest, ...]:
    """Run a range test for each seed, all as one compiled program; see `range_test`."""
    if not (0 < low < high and steps > 1):
        raise InputError(
            f"a range test from {low:g} to {high:g} in {steps} steps: the rates must be positive "
            "and grow, over two steps or more"
        )

    def schedule(step):
        return low * (high / low) ** (jnp.asarray(step, jnp.float32) / (steps - 1))

    losses, _ = train_trials(
        network,
        objective,
        lambda _: optimizer(schedule),
        {"seed": jnp.asarray(seeds)},
        training,
        steps=steps,
        batch_size=batch_size,
        measure=lambda state: state.step,
    )
    rates = np.geomspace(low, high, steps)
    return tuple(_measured(rates, run) for run in np.asarray(losses, np.float64))


def descent(rates: Rates, losses: Losses) -> float:
    """Return the rate at which the average loss falls most on its way to its lowest value.

    As `lightning`, but looked for only where the rates are lower than that of the lowest
    average: a loss that comes down again after a jump would be steeper. This package's
    rule, for use without anyone looking at the curve.

    Raises InputError where the average does not fall after the first 10 steps.

    >>> rates = np.geomspace(1e-4, 1.0, 81)
    >>> losses = 1 - np.tanh(8 * (np.log10(rates) + 2)) + rates
    >>> 1e-2 < descent(rates, losses) < 2e-2
    True
    """
    averages = _before_divergence(_debiased_average(losses), times=4)
    return _steepest_step(rates, averages[: np.argmin(averages) + 1], skip_first=10, skip_last=0)


def steepest(rates: Rates, losses: Losses) -> float:
    """Return the rate at which the smoothed loss falls most from step to step.

    smoothed_i = 0.05 loss_i + 0.95 smoothed_{i-1}, until it is 5 times its lowest; the first 10
    and the last 5 steps are left out.

    Source: torch-lr-finder 0.2, `LRFinder.range_test` and `plot(suggest_lr=True)`,
    https://github.com/davidtvs/pytorch-lr-finder.

    Raises InputError where fewer than 17 steps remain before the loss diverges.

    >>> rates = np.geomspace(1e-4, 1.0, 81)
    >>> losses = 1 - np.tanh(8 * (np.log10(rates) + 2)) + rates
    >>> 1e-2 < steepest(rates, losses) < 2e-2
    True
    """
    smoothed = _before_divergence(_running_average(losses), times=5)
    return _steepest_step(rates, smoothed, skip_first=10, skip_last=5)


def lightning(rates: Rates, losses: Losses) -> float:
    """Return the rate at which the average loss falls most from step to step.

    The average is that of `valley`; the first 10 steps and the last one are left out.

    Source: Lightning 2.5, `lr_finder.py`, `_LRFinder.suggestion`,
    https://github.com/Lightning-AI/pytorch-lightning.

    Raises InputError where fewer than 13 steps remain before the loss diverges.

    >>> rates = np.geomspace(1e-4, 1.0, 81)
    >>> losses = 1 - np.tanh(8 * (np.log10(rates) + 2)) + rates
    >>> 1e-2 < lightning(rates, losses) < 2e-2
    True
    """
    averages = _before_divergence(_debiased_average(losses), times=4)
    return _steepest_step(rates, averages, skip_first=10, skip_last=1)


def steep(rates: Rates, losses: Losses) -> float:
    """Return the rate at which the average loss falls most, per factor of the rate.

    The average is that of `valley`.

    Source: fastai 2, `callback/schedule.py`, `steep`, https://github.com/fastai/fastai.

    Raises InputError where too few steps remain before the loss diverges.

    >>> rates = np.geomspace(1e-4, 1.0, 81)
    >>> losses = 1 - np.tanh(8 * (np.log10(rates) + 2)) + rates
    >>> 1e-2 < steep(rates, losses) < 2e-2
    True
    """
    rates, averages = _as_fastai(rates, losses)
    return float(rates[np.argmin(np.diff(averages) / np.diff(np.log(rates)))])


def valley(rates: Rates, losses: Losses) -> float:
    """Return the rate midway down the longest run of falling losses: fastai's default.

    The average after step i is (1 - 0.98) sum_j 0.98^(i-j) loss_j / (1 - 0.98^(i+1)), until it
    is 4 times its lowest; the first tenth of the steps and the last 5 are left out. Of the
    longest falling subsequence of what remains, the end and the length tell where the valley
    begins; the suggestion is half of it further on.

    Source: fastai 2, `callback/schedule.py`, `valley`, https://github.com/fastai/fastai.

    Raises InputError where too few steps remain before the loss diverges.

    >>> rates = np.geomspace(1e-4, 1.0, 81)
    >>> losses = 1 - np.tanh(8 * (np.log10(rates) + 2)) + rates
    >>> 1e-3 < valley(rates, losses) < 1e-1
    True
    """
    rates, averages = _as_fastai(rates, losses)
    lengths = _falling_lengths(averages)
    end = int(np.argmax(lengths))
    third = lengths[end] / 3
    return float(rates[max(end - lengths[end] + int(third) + int(third / 2), 0)])


def sliding_window(rates: Rates, losses: Losses) -> float:
    """Return where a window of 15 steps comes to rest that slides down from the highest rates.

    It slides while the slopes of the average at its two ends differ by more than 0.005 a step;
    the suggestion is the left end of the last window whose ends differ. The average is that of
    `valley`.

    Source: fastai 2, `callback/schedule.py`, `sliding_window`, https://github.com/fastai/fastai.

    Raises InputError where too few steps remain before the loss diverges.

    >>> rates = np.geomspace(1e-4, 1.0, 81)
    >>> losses = 1 - np.tanh(8 * (np.log10(rates) + 2)) + 30 * rates**2
    >>> 1e-3 < sliding_window(rates, losses) < 1e-2
    True
    """
    rates, averages = _as_fastai(rates, losses)
    slopes = np.gradient(averages)
    ends_differ = np.abs(slopes[_WINDOW:] - slopes[:-_WINDOW]) > 0.005
    agree = np.flatnonzero(~ends_differ)
    before = agree[-1] if agree.size else -1
    return float(rates[min(before + 1, len(ends_differ) - 1)])


def minimum(rates: Rates, losses: Losses) -> float:
    """Return a tenth of the rate at which the average loss is lowest.

    The average is that of `valley`.

    Source: fastai 2, `callback/schedule.py`, `minimum`, https://github.com/fastai/fastai.

    Raises InputError where too few steps remain before the loss diverges.

    >>> rates = np.geomspace(1e-4, 1.0, 81)
    >>> losses = 1 - np.tanh(8 * (np.log10(rates) + 2)) + 30 * rates**2
    >>> 5e-3 < minimum(rates, losses) < 5e-2
    True
    """
    rates, averages = _as_fastai(rates, losses)
    return float(rates[np.argmin(averages)]) / 10


_WINDOW = 15


def _measured(rates: Rates, losses: Losses) -> RangeTest:
    smoothed = np.full_like(losses, np.nan)
    finite = _before_divergence(_running_average(losses), times=5)
    smoothed[: len(finite)] = finite
    return RangeTest(rates, losses, smoothed)


def _running_average(losses: Losses) -> Losses:
    averages = [losses[0]]
    for loss in losses[1:]:
        averages.append(0.05 * loss + 0.95 * averages[-1])
    return np.array(averages)


def _debiased_average(losses: Losses) -> Losses:
    total, averages = 0.0, []
    for i, loss in enumerate(losses):
        total = 0.98 * total + 0.02 * loss
        averages.append(total / (1 - 0.98 ** (i + 1)))
    return np.array(averages)


def _before_divergence(averages: Losses, times: float) -> Losses:
    lowest = np.minimum.accumulate(averages)
    size = np.maximum(np.abs(lowest), np.abs(averages[0]))
    limit = np.where(lowest > 0, times * lowest, lowest + (times - 1) * size)
    diverged = ~(averages <= limit)
    return averages[: np.argmax(diverged)] if diverged.any() else averages


def _as_fastai(rates: Rates, losses: Losses) -> tuple[Rates, Losses]:
    averages = _before_divergence(_debiased_average(losses), times=4)
    window = slice(len(losses) // 10, len(averages) - 5)
    _require_points(len(averages[window]), _WINDOW + 1)
    return rates[window], averages[window]


def _steepest_step(rates: Rates, averages: Losses, skip_first: int, skip_last: int) -> float:
    window = slice(skip_first, len(averages) - skip_last)
    _require_points(len(averages[window]), 2)
    return float(rates[window][np.argmin(np.gradient(averages[window]))])


def _require_points(available: int, needed: int) -> None:
    if available < needed:
        raise InputError(
            f"the range test has {available} losses to judge before it diverges, and needs "
            f"{needed}: begin at a lower rate, or take more steps"
        )


def _falling_lengths(losses: Losses) -> list[int]:
    """For each index, return the length of the longest falling subsequence that ends at it."""
    lengths: list[int] = []
    for i, loss in enumerate(losses):
        before = [length for length, other in zip(lengths, losses[:i], strict=True) if other > loss]
        lengths.append(1 + max(before, default=0))
    return lengths
