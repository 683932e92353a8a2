"""Exact tests of ranks: against scipy's, at their limits, with failures and ties."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats

from fbp.report.significance import (
    Difference,
    fewest_seeds,
    holm,
    rank_difference,
    seeds_to_tell,
)

scores = st.lists(st.integers(0, 5), min_size=2, max_size=6)


def sample(values, first=0):
    return {first + i: float(value) for i, value in enumerate(values)}


@settings(max_examples=20, deadline=None)
@given(scores, scores)
def test_other_seeds_are_told_apart_as_by_scipys_exact_permutation_of_u(x, y):
    """A failure on either side leaves the ranks alone to decide."""
    x, y = [-math.inf, *x], [-math.inf, *y]
    exact = stats.PermutationMethod(n_resamples=np.inf)
    expected = stats.mannwhitneyu(x, y, method=exact).pvalue
    actual = rank_difference(sample(x), sample(y, first=100)).p_value
    assert actual == pytest.approx(float(expected), abs=1e-12)


def test_the_same_seeds_are_told_apart_as_by_wilcoxon_where_ranks_do_not_tie():
    x, y = [1.0, 3.0, 5.0, 7.0, 9.0, 11.0], [0.0, 1.9, 3.8, 5.7, 7.6, 9.5]
    assert rank_difference(sample(x), sample(y)).p_value == 2 / 2**6
    assert stats.wilcoxon(x, y).pvalue == 2 / 2**6


def test_equal_samples_have_no_difference():
    equal = sample([0.1, 0.2, 0.3])
    difference = rank_difference(equal, equal)
    assert (difference.p_value, difference.effect) == (1.0, 0.0)
    assert seeds_to_tell(difference) is None


def test_a_failure_is_the_lowest_rank_and_two_failures_are_equal():
    difference = rank_difference(sample([0.9, -math.inf]), sample([-math.inf, -math.inf]))
    assert difference.mean_rank == 1.0
    assert difference.p_value == 1.0


@pytest.mark.parametrize("paired", [True, False])
def test_no_smaller_sample_reaches_the_level(paired):
    n = fewest_seeds(paired)
    for size, reached in ((n - 1, False), (n, True)):
        x, y = sample(range(10, 10 + size)), sample(range(size), first=0 if paired else 100)
        difference = rank_difference(x, y)
        assert difference.paired == paired
        assert difference.p_value == pytest.approx(difference.least_p_value)
        assert (difference.p_value <= 0.05) == reached


def test_one_seed_tells_nothing():
    assert rank_difference({0: 1.0}, {1: 0.0}).p_value == 1.0


@pytest.mark.parametrize(("x", "y"), [({}, {0: 1.0}), ({0: math.nan}, {0: 1.0})])
def test_no_sample_and_nan_are_refused(x, y):
    with pytest.raises(ValueError, match="at least one score"):
        rank_difference(x, y)


def test_the_planned_seeds_have_the_planned_power():
    """Power of the paired test by simulation at the effect that the plan was made for."""
    planned = seeds_to_tell(Difference(0.2, 1.0, 0.8, paired=True, sizes=(5, 5)))
    rng = np.random.default_rng(0)
    told = [
        stats.wilcoxon(rng.normal(0.8, 1.0, planned), method="asymptotic").pvalue <= 0.05
        for _ in range(400)
    ]
    assert planned == 13
    assert 0.7 < np.mean(told) < 0.9


def test_a_difference_that_takes_too_many_seeds_is_not_planned_for():
    assert seeds_to_tell(Difference(0.9, 0.1, 0.01, paired=True, sizes=(5, 5))) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_corrected_p_values_keep_the_order_and_lie_between_one_and_all_comparisons(p_values):
    corrected = holm(p_values)
    for p, q in zip(p_values, corrected, strict=True):
        assert p <= q <= min(1.0, p * len(p_values))
    assert np.all(np.diff(np.array(corrected)[np.argsort(p_values)]) >= 0)
