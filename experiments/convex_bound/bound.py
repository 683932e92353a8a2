"""What convex optimization says of the last step of a schedule, and of its best peak.

For subgradients of norm G at most and a start at the distance D from the minimum, steps with the
rates r[1] to r[T] end with

    f(x[T]) - f* <= D^2 / (2 S) + sum of r[t]^2 G^2 / (2 S)
                    + 1/2 sum over k < T of r[k] / S(k + 1) sum over t >= k of r[t]^2 G^2 / S(k)

with S(k) = r[k] + ... + r[T] and S = S(1). For the rates r[t] = peak share[t] that is
a / peak + b peak: the least at peak = sqrt(a / b). D / G multiplies the best peak of every schedule
alike, so that the best peak of one gives those of all others.

Source: Schaipp et al., The surprising agreement between convex optimization theory and
learning-rate scheduling for large model training (2025), arXiv 2501.18965, theorem 1; it is theorem
10 of Defazio et al., arXiv 2310.07831.
"""

import numpy as np
from jaxtyping import Float

Shares = Float[np.ndarray, " steps"]


def coefficients(shares: Shares) -> tuple[float, float]:
    """Return a and b of the bound a / peak + b peak, for D = G = 1.

    The last share is not zero.

    >>> coefficients(np.ones(1))
    (0.5, 0.5)
    >>> coefficients(np.ones(2))
    (0.25, 1.0)
    """
    squares = shares**2
    left = np.cumsum(shares[::-1])[::-1]
    squares_left = np.cumsum(squares[::-1])[::-1]
    last_iterate = shares[:-1] / left[1:] * squares_left[:-1] / left[:-1]
    a = 1 / (2 * left[0])
    return float(a), float(squares_left[0] * a + np.sum(last_iterate) / 2)


def best_peak(shares: Shares) -> float:
    """Return the peak that makes the bound least, in units of D / G.

    >>> best_peak(np.ones(1)), best_peak(np.ones(2))
    (1.0, 0.5)
    """
    a, b = coefficients(shares)
    return float(np.sqrt(a / b))


def bound(shares: Shares, peaks: Float[np.ndarray, " peaks"]) -> Float[np.ndarray, " peaks"]:
    """Return the bound at these peaks, in units of D / G; its unit is D G.

    >>> bound(np.ones(1), np.array([0.5, 1.0])).tolist()
    [1.25, 1.0]
    """
    a, b = coefficients(shares)
    return a / peaks + b * peaks
