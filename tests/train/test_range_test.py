"""What a range test measures, and where each suggestion falls."""

import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbp.data import load
from fbp.errors import InputError
from fbp.nn import mlp
from fbp.train.objective import objective_of
from fbp.train.range_test import (
    _before_divergence,
    _falling_lengths,
    descent,
    lightning,
    minimum,
    range_test,
    range_tests,
    sliding_window,
    steep,
    steepest,
    valley,
)
from fbp.train.trials import train_trials

SUGGESTIONS = [descent, lightning, minimum, sliding_window, steep, steepest, valley]
RATES = np.geomspace(1e-5, 10.0, 301)


def synthetic_losses(bottom: float = 1e-2) -> np.ndarray:
    """Falling fastest at a third of `bottom`, lowest near it, growing beyond."""
    distance = np.log10(RATES) - np.log10(bottom)
    return 2.3 - np.tanh(3 * (distance + 0.5)) + 3.0 ** (2 * distance)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def run(digits, optimizer, **options):
    settings = {"batch_size": 32, "low": 1e-4, "high": 1.0, "steps": 60} | options
    training = (digits.train.x, digits.train.y)
    return range_test(mlp([16, 10]), objective_of(digits), optimizer, training, **settings)


@pytest.fixture(scope="module")
def sgd_test(digits):
    return run(digits, optax.sgd)


def test_rates_grow_by_one_factor_from_low_to_high(sgd_test):
    rates = sgd_test.rates
    assert rates[0] == pytest.approx(1e-4)
    assert rates[-1] == pytest.approx(1.0)
    np.testing.assert_allclose(rates[1:] / rates[:-1], rates[1] / rates[0])


def test_each_step_is_taken_with_its_rate(digits, sgd_test):
    losses, _ = train_trials(
        mlp([16, 10]),
        objective_of(digits),
        lambda _: optax.sgd(lambda step: jnp.asarray(sgd_test.rates, jnp.float32)[step]),
        {"seed": jnp.array([0])},
        (digits.train.x, digits.train.y),
        steps=60,
        batch_size=32,
        measure=lambda state: state.step,
    )
    np.testing.assert_allclose(sgd_test.losses, losses[0], rtol=1e-3)


def test_seeds_together_are_as_each_alone(digits, sgd_test):
    one, zero = range_tests(
        mlp([16, 10]),
        objective_of(digits),
        optax.sgd,
        (digits.train.x, digits.train.y),
        batch_size=32,
        seeds=(1, 0),
        low=1e-4,
        high=1.0,
        steps=60,
    )
    np.testing.assert_array_equal(zero.losses, sgd_test.losses)
    assert not np.array_equal(one.losses, zero.losses)


def test_smoothed_losses_end_where_they_diverge(digits):
    smoothed = run(digits, optax.sgd, high=1e6, steps=100).smoothed
    finite = np.isfinite(smoothed)
    assert 10 < finite.sum() < 100
    assert finite[: finite.sum()].all()


@pytest.mark.parametrize("wrong", [{"low": 0.0}, {"low": 2.0}, {"steps": 1}])
def test_impossible_ranges_are_told(digits, wrong):
    with pytest.raises(InputError, match="range test"):
        run(digits, optax.sgd, **wrong)


@pytest.mark.parametrize("suggest", [descent, lightning, steep, steepest, valley, minimum])
def test_a_suggestion_lies_on_the_slope_before_the_lowest_loss(suggest):
    assert 1e-4 < suggest(RATES, synthetic_losses()) < 2e-2


@pytest.mark.parametrize("suggest", SUGGESTIONS)
def test_a_suggestion_moves_with_the_curve(suggest):
    ratio = suggest(RATES, synthetic_losses(2e-2)) / suggest(RATES, synthetic_losses(2e-3))
    assert 5 < ratio < 20


@pytest.mark.parametrize("suggest", [descent, lightning, minimum, steep, steepest, valley])
def test_losses_after_the_divergence_do_not_count(suggest):
    losses = synthetic_losses()
    infinite = np.where(RATES > 3, np.nan, losses)
    assert suggest(RATES, infinite) == suggest(RATES, losses)


@pytest.mark.parametrize("suggest", SUGGESTIONS)
@pytest.mark.parametrize("shift", [-100.0, -1.5])
def test_a_suggestion_is_the_same_of_losses_that_are_negative(suggest, shift):
    """A density's negative log-likelihood has no zero."""
    rates = np.geomspace(1e-4, 1.0, 81)
    losses = 1.2 - np.tanh(8 * (np.log10(rates) + 2)) + 0.1 * rates
    np.testing.assert_allclose(suggest(rates, losses + shift), suggest(rates, losses), rtol=1e-9)


def test_negative_losses_end_where_they_diverge():
    falling, after = np.linspace(-1.0, -3.0, 20), np.full(20, 1e3)
    assert len(_before_divergence(np.concatenate([falling, after]), times=4)) == 20
    assert len(_before_divergence(falling, times=4)) == 20


@pytest.mark.parametrize("suggest", SUGGESTIONS)
def test_too_few_losses_are_told(suggest):
    with pytest.raises(InputError, match="begin at a lower rate"):
        suggest(RATES, np.where(RATES > 1.2e-5, np.nan, 2.3))


def test_descent_ignores_a_fall_after_a_jump():
    losses = 2.3 - np.tanh(np.log10(RATES) + 2)
    losses[260] += 100
    assert descent(RATES, losses) < RATES[260] < lightning(RATES, losses)


def test_falling_lengths_are_those_of_the_longest_falling_subsequences():
    losses = np.random.default_rng(0).normal(size=9)

    def longest(end: int) -> int:
        return max(
            size + 1
            for size in range(end + 1)
            for chosen in itertools.combinations(range(end), size)
            if all(np.diff(losses[[*chosen, end]]) < 0)
        )

    assert _falling_lengths(losses) == [longest(end) for end in range(len(losses))]
