import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbp.verify.extrapolation import UNKNOWN, extrapolate

H = 0.5 ** np.arange(20)
ROUND_OFF = 2.2e-16 / H


@pytest.mark.parametrize("orders", [(1, 2, 3, 4), (2, 4, 6, 8), (1, 3, 5, 7)])
def test_series_of_the_given_orders_is_summed_to_nearly_full_precision(orders):
    values = 2 + sum(H**p / (p + 1) for p in orders)
    found = extrapolate(values, ROUND_OFF, orders)
    assert abs(found.value - 2) <= found.error < 1e-10


@given(st.floats(0.3, 3), st.floats(-10, 10), st.floats(-10, 10))
def test_bar_covers_powers_that_the_orders_do_not_have(power, a, limit):
    values = limit + a * H**power
    found = extrapolate(values, ROUND_OFF * max(abs(limit), abs(a)), (2, 4, 6, 8))
    assert abs(found.value - limit) <= found.error


def test_sequence_that_grows_has_no_known_limit():
    assert extrapolate(1 / H, 1e-10 * np.ones(20), (1, 2, 3)) == UNKNOWN


def test_values_of_smaller_steps_contradict_an_early_agreement():
    values = np.where(np.arange(20) < 8, 0.0, 5.0)
    found = extrapolate(values, ROUND_OFF, (2, 4))
    assert found.value == 5
    assert found.error < 1e-8


def test_noise_that_hides_a_contradiction_leaves_the_early_agreement_standing():
    values = np.where(np.arange(20) < 8, 0.0, 5.0)
    found = extrapolate(values, np.where(np.arange(20) < 8, 1e-3, 10.0), (2, 4))
    assert found.value == 0


def test_only_what_follows_the_last_nan_counts():
    values = 1 + H**2
    values[:10] = np.nan
    found = extrapolate(values, ROUND_OFF, (2, 4))
    assert abs(found.value - 1) <= found.error < 1e-8
    values[18] = np.inf
    assert extrapolate(values, ROUND_OFF, (2, 4)) == UNKNOWN
