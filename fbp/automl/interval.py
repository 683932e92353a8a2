"""How sure a score is that was measured on few rows."""

import math
import warnings

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

RESAMPLES = 2000


def wilson(hits: int, rows: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of a share, of which `hits` of `rows` independent rows were seen.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.

    >>> low, high = wilson(9, 10)
    >>> round(low, 3), round(high, 3)
    (0.596, 0.982)
    """
    interval = stats.binomtest(hits, rows).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def r2(y: Float[np.ndarray, " rows"], predicted: Float[np.ndarray, " rows"]) -> float:
    """Return the share of the variance that is explained.

    1 - sum (y - f)^2 / sum (y - mean y)^2; NaN where y is the same in every row.

    >>> r2(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    1.0
    """
    if len(y) < 2 or y.min() == y.max():
        return math.nan
    return 1 - float(np.sum((y - predicted) ** 2)) / float(np.sum((y - y.mean()) ** 2))


def r2_interval(
    y: Float[np.ndarray, " rows"],
    predicted: Float[np.ndarray, " rows"],
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of `r2` over the rows, drawn again 2,000 times.

    Source: Efron and Tibshirani 1993, An introduction to the bootstrap, 13.

    >>> y = np.arange(50.0)
    >>> low, high = r2_interval(y, y + np.sin(y), np.random.default_rng(0))
    >>> 0.99 < low < r2(y, y + np.sin(y)) < high < 1
    True
    """
    if math.isnan(r2(y, predicted)):
        return math.nan, math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # draws of equal targets
        drawn = stats.bootstrap(
            (y, predicted),
            _r2_along,
            n_resamples=RESAMPLES,
            paired=True,
            vectorized=True,
            method="percentile",
            confidence_level=confidence,
            rng=rng,
        ).bootstrap_distribution
    scores = drawn[np.isfinite(drawn)]  # a draw of equal targets has none
    ends = [0.5 - confidence / 2, 0.5 + confidence / 2]
    low, high = np.quantile(scores, ends) if len(scores) else (math.nan, math.nan)
    return float(low), float(high)


def auc(positive: Bool[np.ndarray, " rows"], scores: Float[np.ndarray, " rows"]) -> float:
    """Return the area under the ROC curve: P(a positive scores above a negative), ties as half.

    NaN where all rows are of one kind. Source: Mann and Whitney 1947; Hanley and McNeil 1982.

    >>> auc(np.array([True, False, True]), np.array([0.9, 0.4, 0.4]))
    0.75
    """
    count = int(positive.sum())
    pairs = count * (len(positive) - count)
    if not pairs:
        return math.nan
    ranks = stats.rankdata(scores)
    return float(ranks[positive].sum() - count * (count + 1) / 2) / pairs


def _r2_along(y: np.ndarray, predicted: np.ndarray, axis: int = -1) -> np.ndarray:
    errors = np.sum((y - predicted) ** 2, axis=axis)
    total = np.sum((y - y.mean(axis=axis, keepdims=True)) ** 2, axis=axis)
    constant = y.min(axis=axis) == y.max(axis=axis)
    return np.where(constant, np.nan, 1 - errors / np.where(constant, 1, total))
