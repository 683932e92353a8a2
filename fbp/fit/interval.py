"""How sure a score is that was measured on few rows."""

import math

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

RESAMPLES = 2000


def wilson(hits: int, rows: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a share, of which `hits` of `rows` independent rows were seen.

    (p + z^2/2n ± z sqrt(p (1 - p) / n + z^2/4n^2)) / (1 + z^2/n), with z the normal quantile.
    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.

    >>> low, high = wilson(9, 10)
    >>> round(low, 3), round(high, 3)
    (0.596, 0.982)
    """
    z = float(ndtri(0.5 + confidence / 2))
    share = hits / rows
    middle = share + z * z / (2 * rows)
    half = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    scale = 1 + z * z / rows
    return (middle - half) / scale, (middle + half) / scale


def r2(y: Float[np.ndarray, " rows"], predicted: Float[np.ndarray, " rows"]) -> float:
    """The share of the variance that is explained: 1 - sum (y - f)^2 / sum (y - mean y)^2.

    NaN where y is the same in every row.

    >>> r2(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    1.0
    """
    spread = float(np.sum((y - y.mean()) ** 2))
    return 1 - float(np.sum((y - predicted) ** 2)) / spread if spread else math.nan


def r2_interval(
    y: Float[np.ndarray, " rows"],
    predicted: Float[np.ndarray, " rows"],
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The percentile bootstrap interval of `r2` over the rows, drawn again 2,000 times.

    Source: Efron and Tibshirani 1993, An introduction to the bootstrap, 13.

    >>> y = np.arange(50.0)
    >>> low, high = r2_interval(y, y + np.sin(y), np.random.default_rng(0))
    >>> 0.99 < low < r2(y, y + np.sin(y)) < high < 1
    True
    """
    drawn = rng.integers(len(y), size=(RESAMPLES, len(y)))
    errors = np.sum((y[drawn] - predicted[drawn]) ** 2, axis=1)
    spread = len(y) * np.var(y[drawn], axis=1)
    scores = 1 - errors[spread > 0] / spread[spread > 0]
    if not len(scores):
        return math.nan, math.nan
    low, high = np.quantile(scores, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)
