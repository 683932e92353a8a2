"""The multi-power law: the loss at every step, from the learning rates until then.

    L(t) = L0 + A S(t)^-alpha - B sum over k of (r[k - 1] - r[k]) G(r[k]^-gamma S(k, t))
    G(x) = 1 - (1 + C x)^-beta

with the rate r[k] of step k, the sum S(t) of all rates until step t, and S(k, t) of those from step
k on; k begins with the second step after the warmup. The first two terms are a power law of the sum
of the rates; the last is what a falling rate takes off the loss, each fall little by little.

Source: Luo et al., A multi-power law for loss curve prediction across learning rate schedules
(2025), arXiv 2503.12811, and the authors' code, which fits Huber's loss of the logarithms with
delta = 0.001.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import least_squares

Rates = Float[np.ndarray, " steps"]
Losses = Float[np.ndarray, " times"]
HUBER_DELTA = 1e-3
SMALLEST_LOSS = 1e-6


@dataclass(frozen=True)
class Law:
    """The seven numbers of the law, all positive."""

    floor: float
    """L0: what no rates bring the loss below, but for the last term."""
    scale: float
    """A."""
    alpha: float
    drop: float
    """B."""
    speed: float
    """C."""
    beta: float
    gamma: float


@dataclass(frozen=True)
class Curve:
    """What the law is fitted to: the rate of every step, and the loss at some times.

    Attributes:
      rates: one for each step, in any unit; those after the warmup are not zero.
      warmup: so many first steps are the warmup.
      times: numbers of steps after which the loss was measured, later than the warmup.
      losses: at these times.
    """

    rates: Rates
    warmup: int
    times: Int[np.ndarray, " times"]
    losses: Losses


def predict(law: Law, curve: Curve) -> Losses:
    """Return the loss at the curve's times, from its rates alone.

    >>> flat = Curve(np.ones(4), 0, np.array([1, 4]), np.ones(2))
    >>> predict(Law(1.0, 1.0, 0.5, 1.0, 1.0, 1.0, 0.0), flat).tolist()
    [2.0, 1.5]
    """
    total = np.cumsum(curve.rates)
    changing = 1 + np.flatnonzero(np.diff(curve.rates))
    changing = changing[changing > curve.warmup]
    falls = curve.rates[changing - 1] - curve.rates[changing]
    now = total[curve.times - 1]
    since = np.maximum(now[:, None] - total[changing - 1], 0.0)
    x = curve.rates[changing] ** -law.gamma * since
    reduction = law.drop * (1 - (1 + law.speed * x) ** -law.beta) @ falls
    return law.floor + law.scale * now**-law.alpha - reduction


def fit(curves: Sequence[Curve]) -> Law:
    """Fit the law to curves, from several starts; the nearest fit is returned.

    >>> law = Law(0.5, 2.0, 0.5, 0.1, 0.1, 0.5, 0.5)
    >>> rates, times = np.linspace(1, 0.1, 300), np.arange(10, 300, 10)
    >>> curves = [Curve(r, 0, times, np.ones(29)) for r in (rates, np.ones(300))]
    >>> curves = [Curve(c.rates, 0, times, predict(law, c)) for c in curves]
    >>> bool(np.allclose(predict(fit(curves), curves[0]), curves[0].losses, rtol=1e-3))
    True
    """

    def residuals(logs: Float[np.ndarray, " 7"]) -> Float[np.ndarray, " points"]:
        law = Law(*np.exp(logs))
        return np.concatenate(
            [
                np.log(np.maximum(predict(law, curve), SMALLEST_LOSS)) - np.log(curve.losses)
                for curve in curves
            ]
        )

    results = [
        least_squares(residuals, np.log(start), loss="huber", f_scale=HUBER_DELTA, max_nfev=200)
        for start in _starts(curves)
    ]
    return Law(*np.exp(min(results, key=lambda result: result.cost).x).tolist())


def _starts(curves: Sequence[Curve]) -> list[tuple[float, ...]]:
    """Return where fits begin: the power law through the ends of the first curve, for each alpha.

    L0 is a share of the lowest loss, and a fall of all of the rate takes a tenth of it off.
    """
    first = curves[0]
    lowest = min(float(np.min(curve.losses)) for curve in curves)
    highest_rate = max(float(np.max(curve.rates)) for curve in curves)
    now = float(np.cumsum(first.rates)[first.times[0] - 1])
    return [
        (
            share * lowest,
            (float(first.losses[0]) - share * lowest) * now**alpha,
            alpha,
            0.1 * lowest / highest_rate,
            0.1,
            0.5,
            0.5,
        )
        for share, alpha in product((0.3, 0.7, 0.9), (0.3, 0.8))
    ]
