"""Sample settings quasi-randomly: they fill the space more evenly than random ones do."""

from collections.abc import Mapping

import numpy as np
import scipy

from fbp.config import Range, Values, values_of


def sample_settings(values: Mapping[str, Values], count: int, seed: int) -> list[dict[str, float]]:
    """Sample `count` settings: the first points of a scrambled Halton sequence.

    A point u of [0, 1) becomes low (high / low)^u in a range on a log scale, low + (high - low) u
    on a linear one, and one of a list's values, each for an equal part of [0, 1). More settings of
    the same seed begin with the same ones. Source: Halton, On the efficiency of certain
    quasi-random sequences of points (1960); scrambling by Owen (2017).

    >>> from fbp.config import Range
    >>> drawn = sample_settings({"learning_rate": Range(0.01, 1.0)}, count=3, seed=0)
    >>> [setting["learning_rate"] for setting in drawn]
    [0.259687, 0.0259687, 0.821201]
    """
    points = scipy.stats.qmc.Halton(len(values), rng=seed).random(count)
    return [
        {name: _value(values[name], u) for name, u in zip(values, point, strict=True)}
        for point in points
    ]


def _value(values: Values, u: float) -> float:
    if isinstance(values, Range):
        linear = values.low + (values.high - values.low) * u
        log = np.exp(np.log(values.low) * (1 - u) + np.log(values.high) * u) if values.low else 0.0
        return rounded(log if values.scale == "log" else linear)
    listed = values_of(values)
    return listed[int(u * len(listed))]


def rounded(value: float) -> float:
    """Return a drawn value with the six digits that records show.

    >>> rounded(0.123456789)
    0.123457
    """
    return float(f"{value:.6g}")
