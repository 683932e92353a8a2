"""The bound of the last step against its own sums, and what theory says of its best peaks."""

import jax
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from experiments.convex_bound.basin_floor import lowest
from experiments.convex_bound.bound import best_peak, bound, coefficients
from experiments.convex_bound.run import CONSTANT, shapes

STEPS = 60
with jax.numpy_dtype_promotion("standard"):
    SHAPES = shapes(STEPS, 6)


def summed(rates, distance=1.0, norm=1.0):
    """The bound as it is written."""
    total = sum(rates)
    value = (distance**2 + norm**2 * sum(rates**2)) / (2 * total)
    for k in range(len(rates) - 1):
        noise = norm**2 * sum(rates[k:] ** 2)
        value += rates[k] / (2 * sum(rates[k + 1 :])) * noise / sum(rates[k:])
    return value


@pytest.mark.parametrize("name", SHAPES)
def test_it_is_the_sum_over_the_steps(name):
    peaks = np.array([0.01, 0.2])
    expected = [summed(peak * SHAPES[name]) for peak in peaks]
    np.testing.assert_allclose(bound(SHAPES[name], peaks), expected, rtol=1e-12)


@pytest.mark.parametrize("name", SHAPES)
def test_the_best_peak_makes_it_least(name):
    least = minimize_scalar(lambda log: summed(np.exp(log) * SHAPES[name]), bounds=(-9, 3))
    assert best_peak(SHAPES[name]) == pytest.approx(np.exp(least.x), rel=1e-4)


def test_distance_and_norm_move_all_best_peaks_alike():
    for share in SHAPES.values():
        least = minimize_scalar(
            lambda log, share=share: summed(np.exp(log) * share, distance=3.0, norm=0.5),
            bounds=(-6, 6),
        )
        assert np.exp(least.x) / best_peak(share) == pytest.approx(3.0 / 0.5, rel=1e-4)


def test_straight_down_the_bound_has_no_logarithm():
    """2 D G / sqrt(T), at the peak D / (G sqrt(T)): both sums are p^2 T / 3 and p T / 2."""
    share = 1 - np.arange(400) / 400
    least = lambda share: 2 * np.sqrt(np.prod(coefficients(share)))
    assert least(share) == pytest.approx(2 / 20, rel=0.01)
    assert best_peak(share) == pytest.approx(1 / 20, rel=0.01)
    assert least(np.ones(400)) > 1.2 * least(share)


def test_a_decaying_schedule_has_a_higher_best_peak_than_a_constant_one():
    peaks = {name: best_peak(share) for name, share in SHAPES.items()}
    assert min(peaks, key=peaks.__getitem__) == CONSTANT
    assert peaks["linear"] > peaks["warmup-stable-decay, 60 %"] > peaks["warmup-stable-decay, 20 %"]


@pytest.mark.parametrize("vertex", [-1.2, 0.0, 2.49])
def test_the_lowest_of_a_parabola_is_its_vertex(vertex):
    exponents = np.arange(-4.0, 5.0)
    assert lowest(exponents, np.exp(0.3 * (exponents - vertex) ** 2)) == pytest.approx(vertex)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_best_rate_at_an_edge_is_no_best_rate(sign):
    exponents = np.arange(-4.0, 5.0)
    assert np.isnan(lowest(exponents, np.exp(sign * exponents)))
