"""Where between the rates that were tried the best one lies."""

import numpy as np
from jaxtyping import Float

POINTS = 5


def lowest(exponents: Float[np.ndarray, " rates"], losses: Float[np.ndarray, " rates"]) -> float:
    """Return the exponent of the lowest loss; NaN where that is at an edge of those tried.

    It is that of the parabola through the logarithms of the loss at the five rates around the best
    (least squares), or the best rate itself where the parabola opens downward.

    >>> x = np.arange(-4.0, 5.0)
    >>> round(lowest(x, np.exp((x - 0.3) ** 2)), 6)
    0.3
    >>> lowest(x, x + 10)
    nan
    """
    best = int(np.argmin(losses))
    if best in (0, len(losses) - 1):
        return float("nan")
    begin = min(max(best - POINTS // 2, 0), len(losses) - POINTS)
    near = slice(begin, begin + POINTS)
    second, first, _ = np.polyfit(exponents[near] - exponents[best], np.log(losses[near]), 2)
    if second <= 0:
        return float(exponents[best])
    vertex = exponents[best] - first / (2 * second)
    return float(np.clip(vertex, exponents[near][0], exponents[near][-1]))
