"""Schedules as numbers, and how the best of them are chosen."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.schedule_shapes.shape import best_of, drawn_knots, through_knots, warm_cosine

STEPS = 41


def test_knots_lie_on_the_schedule_and_lines_between_them():
    knots = jnp.array([0.1, 1.0, 0.3, 0.0, 0.5])
    rates = np.asarray(through_knots(knots, STEPS))
    np.testing.assert_allclose(rates[::10], knots, atol=1e-6)
    np.testing.assert_allclose(np.diff(rates, 2)[np.arange(STEPS - 2) % 10 != 9], 0, atol=1e-6)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_a_cosine_rises_to_its_peak_and_falls_to_zero(warmup):
    rates = np.asarray(warm_cosine(jnp.asarray(warmup), jnp.asarray(0.25), STEPS))
    top = round(warmup * (STEPS - 1))
    assert rates[top] == pytest.approx(0.25)
    assert rates[-1] == pytest.approx(0, abs=1e-7)
    assert np.all(np.diff(rates[: top + 1]) > 0)
    assert np.all(np.diff(rates[top:]) < 0)


def test_drawn_schedules_are_the_same_again_and_peak_between_the_bounds():
    drawn = drawn_knots(3, 500, 6, (-8.0, -4.0))
    np.testing.assert_array_equal(drawn, drawn_knots(3, 500, 6, (-8.0, -4.0)))
    peaks = np.log2(drawn.max(axis=1))
    assert peaks.min() >= -8
    assert peaks.max() <= -4
    assert np.mean(peaks < -6) == pytest.approx(0.5, abs=0.1)
    assert len(np.unique(drawn.argmax(axis=1))) == 6


def test_the_best_are_those_with_the_lowest_mean_and_a_failed_seed_fails():
    scores = np.array([[3.0, 3.0], [1.0, 2.0], [0.1, np.inf], [1.0, 1.0]])
    assert best_of(scores, 3).tolist() == [3, 1, 0]
