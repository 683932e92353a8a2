"""Laws of the statistics, cases by hand, and scipy's numbers where it has the same."""

import math

import numpy as np
import pytest
from scipy import stats

from fbp.report.statistics import (
    bootstrap_interval,
    interquartile_mean,
    probability_of_improvement,
)


def test_interval_of_a_constant_sample_is_the_constant():
    assert bootstrap_interval([0.1] * 5) == (0.1, 0.1, 0.1)


def test_interval_holds_the_mean_and_lies_within_the_sample():
    sample = [0.9, 0.95, 0.97, 0.92, 0.99]
    mean, low, high = bootstrap_interval(sample)
    assert mean == pytest.approx(np.mean(sample))
    assert min(sample) <= low < mean < high <= max(sample)


def test_interval_is_the_same_for_the_same_seed():
    sample = [1.0, 2.0, 4.0]
    assert bootstrap_interval(sample, seed=7) == bootstrap_interval(sample, seed=7)


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        _, low, high = bootstrap_interval(rng.normal(size=40))
        hits += low <= 0.0 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_less_confidence_makes_a_narrower_interval():
    sample = [1.0, 2.0, 3.0, 5.0, 8.0]
    _, low, high = bootstrap_interval(sample, confidence=0.5)
    _, lower, higher = bootstrap_interval(sample, confidence=0.99)
    assert lower < low < high < higher


def test_one_value_has_a_mean_but_no_interval():
    mean, low, high = bootstrap_interval([3.0])
    assert mean == 3.0
    assert math.isnan(low)
    assert math.isnan(high)


def test_no_value_has_neither_mean_nor_interval():
    assert all(math.isnan(number) for number in bootstrap_interval([]))


def test_interquartile_mean_is_scipys_trimmed_mean():
    scores = np.random.default_rng(0).normal(size=(3, 9))
    assert interquartile_mean(scores)[0] == pytest.approx(stats.trim_mean(scores, 0.25, axis=None))


def test_interquartile_mean_of_a_sample_by_hand():
    assert interquartile_mean([[-50.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 900.0]])[0] == 3.5


def test_interquartile_mean_is_over_all_problems_at_once():
    assert interquartile_mean([[0.0, 0.0], [1.0, 1.0], [5.0, 7.0], [9.0, 9.0]])[0] == 3.5


def test_interquartile_mean_is_not_moved_by_one_failed_seed():
    good = [0.9, 0.91, 0.92, 0.93]
    value, low, high = interquartile_mean([[*good, 0.0]])
    assert value == pytest.approx(0.91)
    assert low <= value <= high


def test_seeds_are_drawn_again_within_each_problem():
    """Between problems nothing varies: two constant problems have a constant mean."""
    assert interquartile_mean([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]) == (0.5, 0.5, 0.5)


def test_interval_of_the_interquartile_mean_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(40):
        _, low, high = interquartile_mean(rng.normal(size=(2, 20)))
        hits += low <= 0.0 <= high
    assert 33 <= hits <= 40


def test_probability_of_improvement_of_equal_samples_is_one_half():
    sample = [[0.3, 0.1, 0.2, 0.5]]
    value, low, high = probability_of_improvement(sample, sample)
    assert value == 0.5
    assert low < 0.5 < high
    assert probability_of_improvement([[1.0, 1.0]], [[1.0, 1.0]])[0] == 0.5


def test_probability_of_improvement_of_samples_apart_is_zero_or_one():
    low, high = [[1.0, 2.0, 3.0]], [[4.0, 5.0]]
    assert probability_of_improvement(high, low) == (1.0, 1.0, 1.0)
    assert probability_of_improvement(low, high) == (0.0, 0.0, 0.0)


def test_probabilities_of_improvement_of_two_methods_sum_to_one():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 4, (3, 6)), rng.integers(0, 4, (3, 5))
    present, back = (probability_of_improvement(*pair)[0] for pair in ((x, y), (y, x)))
    assert present + back == pytest.approx(1.0)


def test_probability_of_improvement_is_mann_whitneys_u_by_the_number_of_pairs():
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 9, 7).astype(float), rng.integers(0, 9, 5).astype(float)
    u = stats.mannwhitneyu(x, y).statistic
    assert probability_of_improvement([x], [y])[0] == pytest.approx(u / 35)


def test_probability_of_improvement_is_the_mean_over_problems():
    better, equal = ([2.0, 3.0], [0.0, 1.0]), ([1.0, 1.0], [1.0, 1.0])
    pairs = zip(better, equal, strict=True)
    assert probability_of_improvement(*pairs)[0] == 0.75


def test_a_failed_run_loses_against_every_other():
    assert probability_of_improvement([[1.0, -math.inf]], [[0.0, 0.0]])[0] == 0.5


def test_interval_of_the_probability_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    truth = stats.norm.cdf(1 / math.sqrt(2))
    hits = 0
    for _ in range(40):
        x, y = rng.normal(1.0, size=15), rng.normal(0.0, size=15)
        _, low, high = probability_of_improvement([x], [y])
        hits += low <= truth <= high
    assert 33 <= hits <= 40


def test_one_seed_of_a_problem_leaves_no_interval():
    for interval in (
        interquartile_mean([[1.0]]),
        probability_of_improvement([[1.0, 2.0]], [[0.0]]),
    ):
        assert np.isnan(interval[1:]).all()


@pytest.mark.parametrize("scores", [[], [[]], [1.0, 2.0]])
def test_scores_without_a_sample_for_each_problem_are_refused(scores):
    with pytest.raises(ValueError, match="at least one score for each problem"):
        interquartile_mean(scores)


def test_methods_must_be_measured_on_the_same_problems():
    with pytest.raises(ValueError, match="x has 1 problems, y has 2"):
        probability_of_improvement([[1.0]], [[1.0], [2.0]])
