"""Steps and examples to a loss over the batch size, and the noise of the gradient.

Training to a loss takes S(B) steps with batches of B examples,

    S(B) = S_min (1 + B_crit / B)        so that (S / S_min - 1)(E / E_min - 1) = 1

with E = B S examples and E_min = S_min B_crit. The critical batch size is the mean over the steps
of a large batch of the noise scale tr(S) / |G|^2, if the curvature is alike in all directions.

Source: McCandlish et al., An empirical model of large-batch training (2018), arXiv 1812.06162.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from scipy.optimize import least_squares

Values = Float[np.ndarray, "..."]


class Hyperbola(NamedTuple):
    """The two numbers of S(B): the fewest steps, and the critical batch size.

    >>> Hyperbola(10.0, 64.0).steps(np.array([64.0, 128.0])).tolist()
    [20.0, 15.0]
    """

    fewest_steps: float
    critical: float

    def steps(self, sizes: Shaped[np.ndarray, " sizes"]) -> Float[np.ndarray, " sizes"]:
        """Return the steps that batches of these sizes need."""
        return self.fewest_steps * (1 + self.critical / sizes)


def fit_hyperbola(
    sizes: Shaped[np.ndarray, " sizes"], steps: Float[np.ndarray, " sizes"]
) -> Hyperbola:
    """Fit the hyperbola to steps by least squares of the logarithms.

    >>> sizes = np.array([4.0, 32.0, 512.0])
    >>> fitted = fit_hyperbola(sizes, Hyperbola(20.0, 50.0).steps(sizes))
    >>> [round(number, 3) for number in fitted]
    [20.0, 50.0]
    """
    start = np.log([np.min(steps) / 2, np.median(sizes)])
    residuals = lambda logs: np.log(Hyperbola(*np.exp(logs)).steps(sizes) / steps)
    return Hyperbola(*np.exp(least_squares(residuals, start).x).tolist())


def steps_to(
    target: float, times: Shaped[np.ndarray, " times"], losses: Float[np.ndarray, "*runs times"]
) -> Float[np.ndarray, "*runs"]:
    """Return when each run's loss first reaches the target; infinite where it does not.

    Between two times the logarithm of the loss is a straight line.

    >>> steps_to(0.5, np.array([10, 20]), np.array([[1.0, 0.25], [0.4, 1.0], [1.0, 1.0]])).tolist()
    [15.0, 10.0, inf]
    """
    reached = losses <= target
    after = np.argmax(reached, axis=-1)
    before = np.maximum(after - 1, 0)
    logs = np.log(losses)
    high, low = (np.take_along_axis(logs, i[..., None], -1)[..., 0] for i in (before, after))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(after == 0, 1.0, (high - np.log(target)) / (high - low))
    steps = times[before] + share * (times[after] - times[before])
    return np.where(reached.any(axis=-1), steps, np.inf)


def trace_and_square(
    gradient_norm: Values, noise_scale: Values, batch_size: int
) -> tuple[Values, Values]:
    """Return tr(S) and |G|^2 of a parameter, from what a recorder measured in one batch.

    The mean gradient m of n examples has |m|^2 = |G|^2 + tr(S) / n in the estimates whose ratio the
    noise scale is.

    >>> trace, square = trace_and_square(np.array(2.0), np.array(8.0), 8)
    >>> float(trace), float(square)
    (16.0, 2.0)
    """
    square = gradient_norm**2 / (1 + noise_scale / batch_size)
    return noise_scale * square, square
