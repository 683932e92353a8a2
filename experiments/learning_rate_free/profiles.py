"""Methods compared over many problems by the time they need; a problem unsolved takes forever.

`times[method, problem]` is the time (seconds or steps) until the target, infinite where it was
missed.
"""

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

Times = Float64[np.ndarray, "methods problems"]


def fastest_of_studies(times: ArrayLike) -> float:
    """Return a method's time on one problem: median over studies of the fastest trial's time.

    `times[study, trial]`. A study is one go at tuning, its trials are what was tried in it.
    Source: Dahl et al., Benchmarking Neural Network Training Algorithms (2023), arXiv
    2306.07179.

    >>> fastest_of_studies([[30.0, 20.0], [np.inf, 50.0], [10.0, 90.0]])
    20.0
    """
    return float(np.median(np.min(np.asarray(times, np.float64), axis=1)))


def performance_ratios(times: ArrayLike) -> Times:
    """Divide each time by the shortest on the same problem.

    Infinite where a method, or every method, misses the target. Source: Dolan and Moré,
    Benchmarking Optimization Software with Performance Profiles (2002).

    >>> performance_ratios([[1.0, 6.0], [2.0, 3.0]])
    array([[1., 2.],
           [2., 1.]])
    """
    table = np.asarray(times, np.float64)
    if table.ndim != 2 or not table.size or not np.all(table > 0):
        raise ValueError(f"times has shape {table.shape}: give [methods, problems], all positive")
    best = np.min(table, axis=0)
    return np.divide(table, best, out=np.full_like(table, np.inf), where=np.isfinite(best))


def performance_profile(
    times: ArrayLike, taus: Float64[np.ndarray, " taus"]
) -> Float64[np.ndarray, "methods taus"]:
    """Return rho(tau): the share of problems solved within tau times the shortest time.

    Source: Dolan and Moré (2002).

    >>> performance_profile([[1.0, 6.0], [2.0, 3.0]], np.array([1.0, 2.0]))
    array([[0.5, 1. ],
           [0.5, 1. ]])
    """
    within = performance_ratios(times)[..., np.newaxis] <= np.asarray(taus)
    return np.mean(within, axis=1)


def profile_score(times: ArrayLike, *, tau_max: float = 4.0) -> Float64[np.ndarray, " methods"]:
    """Return AlgoPerf's score: the mean of the performance profile over tau from 1 to `tau_max`.

    integral from 1 to tau_max of rho(tau) dtau / (tau_max - 1), here in closed form. 1 is the
    fastest on every problem, 0 is never within `tau_max` times the fastest. It depends on which
    methods are compared. Source: Dahl et al. (2023), arXiv 2306.07179, tau_max = 4.

    >>> profile_score([[1.0, 6.0], [2.0, 3.0]], tau_max=3.0)
    array([0.75, 0.75])
    """
    if not tau_max > 1:
        raise ValueError(f"tau_max is {tau_max}: give a number larger than 1")
    inside = np.maximum(tau_max - performance_ratios(times), 0.0)
    return np.mean(inside / (tau_max - 1), axis=1)
