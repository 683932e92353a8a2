"""Laws of performance profiles and of the score that sums them up."""

import math

import numpy as np
import pytest

from experiments.learning_rate_free.profiles import (
    fastest_of_studies,
    performance_profile,
    performance_ratios,
    profile_score,
)

TIMES = np.array([[10.0, 20.0, math.inf], [20.0, 10.0, 30.0], [15.0, math.inf, 90.0]])
TAUS = np.linspace(1.0, 4.0, 301)


def test_the_fastest_on_a_problem_has_ratio_one():
    ratios = performance_ratios(TIMES)
    np.testing.assert_array_equal(ratios.min(axis=0), 1.0)
    np.testing.assert_array_equal(ratios[2], [1.5, math.inf, 3.0])


def test_a_problem_that_nobody_solves_counts_for_nobody():
    times = [[1.0, math.inf], [2.0, math.inf]]
    np.testing.assert_array_equal(performance_ratios(times)[:, 1], math.inf)
    np.testing.assert_array_equal(profile_score(times, tau_max=2.0), [0.5, 0.0])


def test_a_profile_by_hand():
    profile = performance_profile(TIMES, np.array([1.0, 1.5, 2.0, 3.0]))
    np.testing.assert_allclose(profile, np.array([[1, 1, 2, 2], [2, 2, 3, 3], [0, 1, 1, 2]]) / 3)


def test_a_profile_never_falls_and_ends_at_the_share_solved():
    profile = performance_profile(TIMES, np.append(TAUS, 1e9))
    assert np.all(np.diff(profile, axis=1) >= 0)
    np.testing.assert_allclose(profile[:, -1], np.isfinite(TIMES).mean(axis=1))


def test_a_profile_does_not_depend_on_the_unit_of_time():
    np.testing.assert_array_equal(
        performance_profile(TIMES, TAUS), performance_profile(TIMES / 1024, TAUS)
    )


def test_the_score_is_the_mean_height_of_the_profile():
    taus = np.linspace(1.0, 4.0, 30_001)
    heights = performance_profile(TIMES, taus)
    np.testing.assert_allclose(
        profile_score(TIMES), np.trapezoid(heights, taus, axis=1) / 3, atol=1e-4
    )


def test_the_score_of_the_fastest_everywhere_is_one_and_of_one_far_behind_zero():
    np.testing.assert_array_equal(profile_score([[1.0, 2.0], [4.0, 9.0]]), [1.0, 0.0])


def test_the_fastest_trial_of_the_median_study_counts():
    studies = [[50.0, 40.0], [math.inf, math.inf], [99.0, 30.0]]
    assert fastest_of_studies(studies) == 40.0
    assert fastest_of_studies([*studies[:2], [math.inf, math.inf]]) == math.inf


@pytest.mark.parametrize("times", [[1.0], [], [[0.0]], [[-1.0, 2.0]], [[math.nan]]])
def test_times_that_are_none_are_refused(times):
    with pytest.raises(ValueError, match="all positive"):
        performance_ratios(times)


def test_a_score_up_to_tau_one_is_refused():
    with pytest.raises(ValueError, match="tau_max is 1"):
        profile_score(TIMES, tau_max=1.0)
