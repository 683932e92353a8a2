"""How wide the basin of good learning rates is."""

import numpy as np
from jaxtyping import Float


def decades_above(
    bar: float, rates: Float[np.ndarray, " rates"], scores: Float[np.ndarray, " rates"]
) -> float:
    """Decades of learning rate over which the score reaches `bar`.

    The score is interpolated linearly in log10 of the rate, between the rates that were tried.

    >>> decades_above(0.5, np.array([1e-3, 1e-2, 1e-1]), np.array([0.0, 1.0, 1.0]))
    1.5
    """
    width = 0.0
    above, steps = scores - bar, np.diff(np.log10(rates))
    for left, right, step in zip(above[:-1], above[1:], steps, strict=True):
        if left >= 0 and right >= 0:
            width += step
        elif max(left, right) > 0:
            width += step * max(left, right) / abs(left - right)
    return float(width)
