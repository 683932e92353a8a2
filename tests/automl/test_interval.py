"""Intervals hold the truth about as often as they say."""

import numpy as np
import pytest
from scipy import stats

from fbp.automl.interval import r2, r2_interval, wilson


@pytest.mark.parametrize(("hits", "rows"), [(0, 10), (3, 10), (10, 10), (512, 1000)])
def test_wilson_is_scipys(hits, rows):
    expected = stats.binomtest(hits, rows).proportion_ci(method="wilson")
    assert wilson(hits, rows) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_r2_of_the_mean_is_zero_and_of_a_constant_target_unknown():
    y = np.array([1.0, 2.0, 6.0])
    assert r2(y, np.full(3, 3.0)) == 0
    assert np.isnan(r2(np.ones(3), np.ones(3)))


def test_the_bootstrap_holds_the_true_r2_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(60):
        signal = rng.normal(size=120)
        low, high = r2_interval(signal + rng.normal(size=120), signal, rng)
        held.append(low < 0.5 < high)
    assert 0.85 < np.mean(held) <= 1.0
