"""The image experiment's own mathematics: when a target is reached, and how sure an accuracy is."""

import numpy as np
import pytest

from experiments.image_screening.screening import Screened
from experiments.image_screening.training import Curve

TIMES = np.array([1.0, 2.0, 3.0])


def test_a_target_is_reached_the_first_time_that_the_accuracy_is():
    curve = Curve(0.1, 10 * TIMES, TIMES, np.array([0.2, 0.7, 0.6]))
    assert curve.reaches(0.7) == (20.0, 2.0)
    assert curve.reaches(0.1) == (10.0, 1.0)
    assert curve.reaches(0.8) == (np.inf, np.inf)


def test_the_interval_of_an_accuracy_is_wilsons():
    is_face = np.repeat([0, 1], 50)
    probability = np.where(np.arange(100) < 90, is_face, 1 - is_face).astype(float)
    accuracy, low, high = Screened(is_face, probability).accuracy
    assert accuracy == 0.9
    assert (low, high) == pytest.approx((0.8256, 0.9448), abs=1e-4)
