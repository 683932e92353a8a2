"""The scale of a column: its mean, its standard deviation, and how far values may lie out."""

import numpy as np
from jaxtyping import Float64

ROUNDING = 1e-12  # of the largest value: columns that vary by less are constant but for rounding


def mean_and_std(values: Float64[np.ndarray, "..."]) -> tuple[float, float]:
    """Return the mean and the standard deviation; 1 where values vary by rounding errors only.

    >>> mean_and_std(np.full(200, 0.1))
    (0.1, 1.0)
    """
    values = np.asarray(values, np.float64)
    low, high = float(values.min()), float(values.max())
    if is_constant(values):
        return low, 1.0
    scale = max(abs(low), abs(high))
    scaled = values / scale  # so that no square overflows
    return scale * float(scaled.mean()), scale * float(scaled.std())


def is_constant(values: Float64[np.ndarray, "..."]) -> bool:
    """Return whether values are the same but for rounding."""
    low, high = float(values.min()), float(values.max())
    scale = max(abs(low), abs(high))
    return scale == 0 or high / scale - low / scale <= ROUNDING


def scaled(
    values: Float64[np.ndarray, " rows"], mean: float, std: float, low: float, high: float
) -> Float64[np.ndarray, " rows"]:
    """Return (value - mean) / std, 0 for NaN.

    A value further out than the range from `low` to `high` is wide counts as if it were just that
    far out: a cell far from those of the training gives no number that the network has never seen.

    >>> scaled(np.array([3.0, np.nan, 1e300]), 2.0, 1.0, 1.0, 3.0)
    array([1., 0., 3.])
    """
    width = (high / 2 - low / 2) * 2
    with np.errstate(over="ignore"):
        near = np.clip(values, low - width, high + width)
        return np.nan_to_num((near - mean) / std, nan=0.0, posinf=0.0, neginf=0.0)
