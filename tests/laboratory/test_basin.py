import jax
import numpy as np
import pytest

from experiments.schedules.basin import decades_above
from experiments.schedules.run import NAMES, shapes

RATES = np.logspace(-4, 0, 5)


def test_a_basin_is_all_rates_where_all_scores_reach_the_bar():
    assert decades_above(0.5, RATES, np.full(5, 0.5)) == pytest.approx(4)


def test_it_is_none_where_no_score_reaches_the_bar():
    assert decades_above(0.5, RATES, np.full(5, 0.4)) == 0


def test_a_basin_ends_where_the_line_between_two_scores_meets_the_bar():
    scores = np.array([0.0, 1.0, 1.0, 0.2, 0.0])
    assert decades_above(0.6, RATES, scores) == pytest.approx(0.4 + 1 + 0.5)


def test_a_lower_bar_makes_a_basin_wider():
    scores = np.random.default_rng(0).uniform(size=5)
    widths = [decades_above(bar, RATES, scores) for bar in np.linspace(0, 1, 11)]
    assert np.all(np.diff(widths) <= 0)


def test_schedules_peak_at_one_and_all_but_the_constant_end_near_zero():
    with jax.numpy_dtype_promotion("standard"):
        shares = dict(zip(NAMES, shapes(200), strict=True))
    for name, share in shares.items():
        assert share.max() == pytest.approx(1, abs=1e-3)
        assert share[-1] < 0.06 or name == "constant"
    np.testing.assert_array_equal(shares["constant"], 1)
