"""It starts anew when it fails, three times; and the sweep looks around what the test suggests."""

import numpy as np
import pytest

from fbp.automl import search
from fbp.automl.parts import folds
from fbp.automl.plan import plan_for
from fbp.automl.search import FoldedData, RateRange, TrainedFolds, cosine
from fbp.automl.train import RateTried, Trained, _beats, _beyond, train_networks
from fbp.errors import InputError


@pytest.fixture(scope="module")
def plan():
    return plan_for(100, (8,), 1)


def learning_of(plan, x):
    y = np.sin(x[:, 1:].sum(axis=1))
    parts = folds(np.zeros(len(x)), plan.members, np.random.default_rng(0))
    weights = np.ones(len(x), np.float32)
    return FoldedData("regression", plan, x, y, weights, parts)


def rows():
    return np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)


def test_one_start_is_enough_when_it_beats_a_constant(plan):
    trained = train_networks(learning_of(plan, rows()), 100.0, 0, False)
    assert trained.starts == 1
    rates = np.array([tried.rate for tried in trained.rates])
    around = np.array(plan.factors) * trained.range_test.suggestion
    assert all(np.isclose(rates, rate).any() for rate in around[around <= 1])
    assert trained.rate == min(trained.rates, key=lambda tried: tried.mean_loss).rate
    assert len(trained.outcome.lowest) == plan.members


def test_three_starts_are_made_when_nothing_beats_a_constant(plan):
    trained = train_networks(learning_of(plan, rows()), 0.0, 0, False)
    assert trained.starts == 3


def test_what_diverges_at_every_rate_is_refused(plan):
    x = rows()
    x[:, 0] = np.inf
    with pytest.raises(InputError, match="training never started"):
        train_networks(learning_of(plan, x), 100.0, 0, False)


def test_the_batches_of_an_epoch_are_a_permutation_of_the_rows():
    endless = search._batches(np.arange(12), 4, 3, np.random.default_rng(0))
    for _ in range(3):
        assert sorted(next(endless).ravel()) == list(range(12))


def test_the_rate_rises_to_its_peak_and_falls_to_nothing():
    (rates,) = cosine(np.array([0.5]), 300)
    assert rates.argmax() == 14
    assert rates.max() == pytest.approx(0.5)
    assert np.all(np.diff(rates[:15]) > 0)
    assert np.all(np.diff(rates[14:]) < 0)
    assert 0 < rates[-1] < 1e-4


def test_training_ends_when_no_trial_improves_any_more():
    falling = [np.array([1.0 / n, 1.0]) for n in range(1, 9)]
    assert not search._finished(falling, most=20, patience=3)
    assert search._finished([*falling, *[np.array([9.0, np.nan])] * 3], most=20, patience=3)
    assert search._finished(falling, most=8, patience=3)


def test_the_loss_falls_fastest_where_it_is_steepest_by_the_logarithm_of_the_rate():
    rates = np.geomspace(1e-5, 1.0, 100)
    losses = 1 - np.tanh(2 * (np.log10(rates) + 2)) + np.where(rates > 0.3, 1e3, 0)
    noisy = losses + 0.05 * np.random.default_rng(0).normal(size=100)
    assert 0.005 < search._steepest(rates, search._smoothed(noisy)) < 0.02
    noisy[90:] = np.nan
    assert 0.005 < search._steepest(rates, search._smoothed(noisy)) < 0.02


def tried(*losses):
    rates = 1e-3 * np.sqrt(10) ** np.arange(len(losses))
    return [RateTried(rate, (loss,)) for rate, loss in zip(rates.tolist(), losses, strict=True)]


def test_the_search_goes_on_beyond_an_edge_and_ends_within():
    above = _beyond(tried(3.0, 2.0, 1.0), 5)
    np.testing.assert_allclose(np.diff(np.log10(above)), np.diff(np.log10(above))[0])
    assert min(above) > 1e-2
    assert max(above) == pytest.approx(1.0)
    below = _beyond(tried(1.0, 2.0, 3.0), 5)
    np.testing.assert_allclose(np.log10(below), np.linspace(-5.5, -3.5, 5))
    assert _beyond(tried(3.0, 1.0, 3.0), 5) == []
    assert _beyond(tried(None, None), 5) == []
    assert _beyond([*tried(3.0), RateTried(1.0, (1.0,))], 5) == []


def test_a_loss_that_varies_over_the_folds_by_more_than_it_gains_beats_no_constant():
    """Rates that are all too high: some folds learn a little by chance."""

    def of(*lowest):
        outcome = TrainedFolds(None, np.array(lowest), np.ones((5, 1)), np.ones((5, 1)))
        return Trained(RateRange((), (), 0.9), (), 0.3, outcome, 1)

    assert not _beats(of(0.44, 0.65, 0.65, 0.65, 0.63), 0.651)
    assert _beats(of(0.55, 0.6, 0.58, 0.57, 0.6), 0.651)
    assert not _beats(of(0.1, 0.1, np.inf, 0.1, 0.1), 0.651)
