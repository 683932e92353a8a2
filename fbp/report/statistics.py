"""What a few seeds tell of all seeds: each statistic comes with its bootstrap interval.

`scores` holds one sample for each problem, a sample one number for each seed; samples may
differ in length. Seeds are drawn again within each problem (a stratified bootstrap). An
interval is a percentile interval of 9,999 draws: with few seeds it is narrower than it should
be, and it is a point where all seeds say the same. A sample of one number has none: its bounds
are NaN.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import scipy
from jaxtyping import Float64

Interval = tuple[float, float, float]  # the value, its lower and its upper bound
Sample = Float64[np.ndarray, "... seeds"]
Scores = Sequence[Sequence[float]] | Float64[np.ndarray, "problems seeds"]


def bootstrap_interval(
    values: Iterable[float], *, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the mean of `values` and its percentile bootstrap interval, as `(mean, low, high)`.

    The interval holds the middle `confidence` of the means of values drawn again with
    replacement. One value alone has no interval (the bounds are NaN), no value has no mean
    either. Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), 13.

    >>> bootstrap_interval([2.0, 2.0, 2.0])
    (2.0, 2.0, 2.0)
    >>> mean, low, high = bootstrap_interval([1.0, 2.0, 3.0, 4.0])
    >>> low < mean < high
    True
    """
    sample = np.asarray(list(values), dtype=np.float64)
    if sample.size == 0:
        return math.nan, math.nan, math.nan
    return _with_interval(np.mean, [sample], confidence, seed)


def interquartile_mean(scores: Scores, *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean of the middle half of all scores, with its interval, as `(mean, low, high)`.

    Of n scores over all problems and seeds, the int(n / 4) lowest and as many of the highest
    are left out. One lucky or unlucky seed moves it less than the mean, and it needs fewer
    seeds than the median for the same interval. Source: Agarwal et al., Deep Reinforcement
    Learning at the Edge of the Statistical Precipice (2021), arXiv 2108.13264.

    >>> interquartile_mean([[0.0, 2.0, 4.0, 100.0]])[0]
    3.0
    """

    def middle(*samples: Sample, axis: int = -1) -> Float64[np.ndarray, "..."]:
        return scipy.stats.trim_mean(np.concatenate(samples, axis=axis), 0.25, axis=axis)

    return _with_interval(middle, _samples(scores), confidence, seed)


def probability_of_improvement(
    x: Scores, y: Scores, *, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the probability that a run of x scores higher than one of y, with its interval.

    P(X > Y) + P(X = Y) / 2 for a random seed of each, as a mean over the problems: the
    Mann-Whitney U statistic divided by the number of pairs. 1/2 says that neither is better;
    how much better is not said. A failed run takes part as `-inf`. Source: Agarwal et al.
    (2021), arXiv 2108.13264, section 4.3.

    >>> probability_of_improvement([[3.0, 4.0]], [[1.0, 2.0]])
    (1.0, 1.0, 1.0)
    >>> probability_of_improvement([[1.0, 3.0]], [[1.0, 2.0]])[0]
    0.625

    Raises ValueError where x and y are not of the same problems.
    """
    of_x, of_y = _samples(x), _samples(y)
    if len(of_x) != len(of_y):
        raise ValueError(f"x has {len(of_x)} problems, y has {len(of_y)}: give the same ones")

    def improvement(*samples: Sample, axis: int = -1) -> Float64[np.ndarray, "..."]:
        pairs = zip(samples[: len(of_x)], samples[len(of_x) :], strict=True)
        return np.mean([_share_above(a, b, axis) for a, b in pairs], axis=0)

    return _with_interval(improvement, [*of_x, *of_y], confidence, seed)


def _share_above(x: Sample, y: Sample, axis: int) -> Float64[np.ndarray, "..."]:
    n, m = x.shape[axis], y.shape[axis]
    ranks = scipy.stats.rankdata(np.concatenate([x, y], axis=axis), axis=axis)
    rank_sum = np.sum(np.take(ranks, range(n), axis=axis), axis=axis)
    return (rank_sum - n * (n + 1) / 2) / (n * m)


def _samples(scores: Scores) -> list[Sample]:
    samples = [np.asarray(sample, np.float64) for sample in scores]
    if not samples or any(sample.ndim != 1 or not sample.size for sample in samples):
        raise ValueError("give one sample of at least one score for each problem")
    return samples


def _with_interval(
    statistic: Callable[..., np.ndarray], samples: Sequence[Sample], confidence: float, seed: int
) -> Interval:
    value = float(statistic(*samples, axis=-1))
    if any(sample.size == 1 for sample in samples):
        return value, math.nan, math.nan
    if all(np.all(sample == sample[0]) for sample in samples):
        return value, value, value
    bounds = scipy.stats.bootstrap(
        samples,
        statistic,
        confidence_level=confidence,
        method="percentile",
        vectorized=True,
        rng=seed,
    ).confidence_interval
    return value, float(bounds.low), float(bounds.high)
