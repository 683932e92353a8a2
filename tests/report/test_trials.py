"""Laws of trials and of the curves that stand for them."""

import numpy as np

from fbp.report.trials import curve, setting_of, settings, trials, without_rate
from tests.support import synthetic_run


def rows(losses, *, trial=0, diverged=None):
    base = {"trial": trial, "seed": trial, "learning_rate": 0.1}
    written = [
        {"kind": "train", "step": step, "loss": loss} | base
        for step, loss in enumerate(losses, start=1)
    ]
    return written + ([] if diverged is None else [{"kind": "diverged", "step": diverged} | base])


def line(*trial_rows):
    return curve(trials([row for rows in trial_rows for row in rows]), "training")


def test_rows_of_a_trial_are_gathered_in_order_of_steps():
    (run,) = trials(reversed(rows([3.0, 2.0, 1.0])))
    assert [row["loss"] for row in run.training] == [3.0, 2.0, 1.0]
    assert run.learning_rate == 0.1
    assert not run.diverged


def test_trials_are_in_order_of_their_numbers():
    assert [run.number for run in trials(rows([1.0], trial=7) + rows([1.0], trial=2))] == [2, 7]


def test_a_curve_is_the_median_and_the_range_over_seeds():
    seen = line(rows([1.0, 8.0]), rows([2.0, 4.0], trial=1), rows([9.0, 6.0], trial=2))
    np.testing.assert_array_equal(seen.step, [1, 2])
    np.testing.assert_array_equal(seen.median, [2, 6])
    np.testing.assert_array_equal(seen.low, [1, 4])
    np.testing.assert_array_equal(seen.high, [9, 8])


def test_a_curve_counts_a_diverged_trial_as_infinite():
    seen = line(
        rows([1.0, 1.0, 1.0]), rows([2.0, 2.0, 2.0], trial=1), rows([3.0], trial=2, diverged=2)
    )
    np.testing.assert_array_equal(seen.median, [2, 2, 2])
    np.testing.assert_array_equal(seen.high, [3, 2, 2])


def test_a_curve_ends_where_half_of_its_trials_have_diverged():
    seen = line(rows([1.0, 1.0, 1.0]), rows([3.0, None, None], trial=1))
    np.testing.assert_array_equal(seen.step, [1])


def test_a_trial_that_was_interrupted_is_left_out_where_it_was_not_measured():
    seen = line(rows([1.0, 1.0]), rows([3.0], trial=1))
    np.testing.assert_array_equal(seen.median, [2, 1])


def test_a_curve_of_nothing_has_no_points():
    assert line(rows([None])).step.shape == (0,)


def test_settings_are_in_order_and_unique():
    written = synthetic_run.records(extra=({"momentum": 0.9}, {"momentum": 0.0}), seeds=2)
    actual = settings(trials(written))
    assert len(actual) == 8
    assert actual == sorted(actual)
    assert actual[0] == (("learning_rate", 0.001), ("momentum", 0.0))


def test_other_hyperparameters_of_a_trial_and_of_a_summary_entry_agree():
    written = synthetic_run.records(extra=({"momentum": 0.9, "b1": 0.5},))
    entry = {"learning_rate": 0.1, "b1": 0.5, "momentum": 0.9, "trials": 3, "diverged": 0}
    assert trials(written)[0].others == without_rate(setting_of(entry))


def test_a_curve_ends_where_most_of_its_trials_were_stopped_early():
    seen = line(rows([1.0, 1.0, 1.0]), rows([2.0, 2.0], trial=1), rows([3.0], trial=2))
    np.testing.assert_array_equal(seen.step, [1, 2])


def test_numbers_come_before_words_in_the_order_of_settings():
    columns = [{"clip": value} for value in ("none", 10.0, 9.0)]
    actual = settings(trials(synthetic_run.records(rates=[0.1], seeds=1, extra=columns)))
    assert [dict(setting)["clip"] for setting in actual] == [9.0, 10.0, "none"]
