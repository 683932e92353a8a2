"""The multi-power law against its own sums, and what it says of schedules."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.schedule_loss_law.law import Curve, Law, fit, predict
from experiments.schedule_loss_law.run import FITTED, UNSEEN, shapes

STEPS, WARMUP = 120, 12
LAW = Law(floor=0.3, scale=1.5, alpha=0.4, drop=0.2, speed=0.3, beta=0.6, gamma=0.5)
TIMES = np.arange(20, STEPS + 1, 10)
with jax.numpy_dtype_promotion("standard"):
    SHAPES = shapes(STEPS, WARMUP, 0.1)


def curve_of(name, law=LAW):
    curve = Curve(SHAPES[name], WARMUP, TIMES, np.ones(len(TIMES)))
    return replace(curve, losses=predict(law, curve))


def summed(law, rates, warmup, time):
    """The law as it is written, one step after another; step k has the rate rates[k - 1]."""
    reduction = 0.0
    for k in range(warmup + 2, time + 1):
        x = rates[k - 1] ** -law.gamma * sum(rates[k - 1 : time])
        fall = rates[k - 2] - rates[k - 1]
        reduction += law.drop * fall * (1 - (1 + law.speed * x) ** -law.beta)
    return law.floor + law.scale * sum(rates[:time]) ** -law.alpha - reduction


@pytest.mark.parametrize("name", [*FITTED, *UNSEEN])
def test_it_is_the_sum_over_the_steps(name):
    expected = [summed(LAW, SHAPES[name], WARMUP, time) for time in TIMES]
    np.testing.assert_allclose(curve_of(name).losses, expected, rtol=1e-12)


def test_of_a_constant_rate_it_is_a_power_law():
    total = np.cumsum(SHAPES["constant"])[TIMES - 1]
    np.testing.assert_allclose(curve_of("constant").losses, 0.3 + 1.5 * total**-0.4, rtol=1e-12)


def test_a_fall_of_the_rate_tells_only_after_it():
    before = TIMES <= 0.6 * STEPS
    actual, constant = curve_of("two-stage").losses, curve_of("constant").losses
    np.testing.assert_array_equal(actual[before], constant[before])
    assert not np.any(actual[~before] == constant[~before])


def test_the_unit_of_the_rates_does_not_matter():
    unit = 1e-3
    law = replace(
        LAW,
        scale=LAW.scale * unit**LAW.alpha,
        drop=LAW.drop / unit,
        speed=LAW.speed * unit ** (LAW.gamma - 1),
    )
    curve = curve_of("cosine")
    np.testing.assert_allclose(
        predict(law, replace(curve, rates=unit * curve.rates)), curve.losses, rtol=1e-10
    )


def test_a_fit_to_two_schedules_predicts_the_others_of_the_same_law():
    fitted = fit([curve_of(name) for name in FITTED])
    for name in UNSEEN:
        curve = curve_of(name)
        np.testing.assert_allclose(predict(fitted, curve), curve.losses, rtol=2e-3)


def test_one_outlier_does_not_move_a_fit():
    curves = [curve_of(name) for name in FITTED]
    spoiled = curves[0].losses.copy()
    spoiled[3] *= 1.5
    fitted = fit([replace(curves[0], losses=spoiled), curves[1]])
    np.testing.assert_allclose(predict(fitted, curves[1]), curves[1].losses, rtol=5e-3)


def test_schedules_share_their_warmup_and_end_at_their_last_rate():
    for name, share in SHAPES.items():
        np.testing.assert_allclose(share[:WARMUP], np.arange(WARMUP) / WARMUP, rtol=1e-6)
        assert share.max() == pytest.approx(1)
        assert share[-1] == pytest.approx(1 if name == "constant" else 0.1, abs=0.04)
