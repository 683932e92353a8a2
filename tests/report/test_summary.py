"""Laws of the summary: what is averaged, what counts as a failure, what is best."""

import json

import pytest

from fbp.report.measures import Measures
from fbp.report.summary import summarize
from fbp.report.text import verdict
from fbp.report.trials import settings, trials


def evaluation(trial, rate, loss, accuracy, *, step=100, seed=None, **columns):
    return {
        "kind": "eval",
        "trial": trial,
        "learning_rate": rate,
        "seed": trial if seed is None else seed,
        "step": step,
        "split": "validation",
        "loss": loss,
        "accuracy": accuracy,
    } | columns


def divergence(trial, rate, step=5):
    row = {"kind": "diverged", "trial": trial, "learning_rate": rate}
    return row | {"seed": trial, "step": step}


def summary(records, *, metric="accuracy", target=None, task="classification"):
    return summarize(records, "laws", task, metric, target)


def test_the_last_evaluation_counts():
    records = [evaluation(0, 0.1, 0.2, 0.9, step=200), evaluation(0, 0.1, 0.9, 0.5, step=100)]
    assert summary(records)["rates"][0]["validation_accuracy"]["mean"] == 0.9


def test_best_has_the_highest_mean_accuracy_whatever_its_loss():
    records = [evaluation(0, 0.1, 0.1, 0.90), evaluation(1, 0.2, 0.3, 0.95)]
    assert summary(records)["best"]["learning_rate"] == 0.2


def test_best_by_loss_has_the_lowest_mean_loss():
    records = [evaluation(0, 0.1, 0.1, 0.90), evaluation(1, 0.2, 0.3, 0.95)]
    assert summary(records, metric="loss")["best"]["learning_rate"] == 0.1


def test_ties_go_to_the_lower_loss_then_to_the_lower_rate():
    first = [evaluation(0, 0.1, 0.4, 0.9), evaluation(1, 0.2, 0.3, 0.9)]
    assert summary(first)["best"]["learning_rate"] == 0.2
    second = [evaluation(0, 0.2, 0.3, 0.9), evaluation(1, 0.1, 0.3, 0.9)]
    assert summary(second)["best"]["learning_rate"] == 0.1


def test_a_diverged_trial_counts_as_a_failure_in_the_choice():
    records = [
        evaluation(0, 0.1, 0.3, 0.90),
        evaluation(1, 0.1, 0.3, 0.90),
        evaluation(2, 1.0, 0.1, 0.99),
        divergence(3, 1.0),
    ]
    result = summary(records)
    assert result["best"]["learning_rate"] == 0.1
    assert summary(records, metric="loss")["best"]["learning_rate"] == 0.1
    assert result["rates"][1]["diverged"] == 1
    assert result["rates"][1]["validation_accuracy"]["mean"] == 0.99


def test_a_last_loss_that_is_not_finite_is_a_divergence():
    assert summary([evaluation(0, 0.1, None, 0.1)])["rates"][0]["diverged"] == 1


def test_best_is_none_when_every_trial_diverged():
    result = summary([divergence(0, 0.1), divergence(1, 1.0)])
    assert result["best"] is None
    assert [rate["diverged"] for rate in result["rates"]] == [1, 1]


@pytest.mark.parametrize(("best", "at_edge"), [(0, True), (1, False), (2, True)])
def test_the_best_rate_at_the_end_of_the_grid_is_at_the_edge(best, at_edge):
    records = [evaluation(i, 10.0**i, 1.0, 0.9 if i == best else 0.5) for i in range(3)]
    assert summary(records)["best"]["at_edge"] is at_edge


def test_a_single_rate_has_no_edge():
    assert summary([evaluation(0, 0.1, 1.0, 0.9)])["best"]["at_edge"] is False


def test_steps_to_target_is_the_median_over_all_trials():
    records = [
        evaluation(trial, 0.1, 1.0, 0.9 if step >= arrives else 0.1, step=step)
        for trial, arrives in enumerate((10, 20, 30, 99))
        for step in (10, 20, 30)
    ]
    reached = summary(records, target=0.9)["rates"][0]["steps_to_target"]
    assert reached == {"median": 25.0, "reached": 3}


def test_steps_to_target_of_loss_counts_downwards():
    records = [evaluation(0, 0.1, loss, None, step=step) for step, loss in ((1, 0.5), (2, 0.1))]
    reached = summary(records, metric="loss", target=0.2)["rates"][0]["steps_to_target"]
    assert reached == {"median": 2.0, "reached": 1}


def test_a_target_that_most_trials_miss_has_no_median():
    records = [evaluation(i, 0.1, 1.0, accuracy) for i, accuracy in enumerate((0.9, 0.1, 0.1))]
    reached = summary(records, target=0.9)["rates"][0]["steps_to_target"]
    assert reached == {"median": None, "reached": 1}


def test_a_diverged_trial_never_reaches_the_target():
    records = [evaluation(0, 0.1, 1.0, 0.9, step=1), divergence(0, 0.1)]
    assert summary(records, target=0.5)["rates"][0]["steps_to_target"]["reached"] == 0


def test_the_test_score_is_reported_once_test_rows_are_recorded():
    records = [evaluation(seed, 0.1, 0.3, 0.9) for seed in range(3)]
    assert "test_accuracy" not in summary(records)["best"]
    tests = [
        evaluation(seed, 0.1, 0.3, accuracy) | {"kind": "test"}
        for seed, accuracy in enumerate((0.8, 0.9, 1.0))
    ]
    best = summary(records + tests)["best"]
    assert best["test_accuracy"]["mean"] == pytest.approx(0.9)
    assert best["test_accuracy"]["low"] < 0.9 < best["test_accuracy"]["high"]
    assert best["validation_accuracy"]["mean"] == pytest.approx(0.9)


def test_regression_is_summarized_by_r2():
    records = [
        evaluation(0, 0.1, 0.5, None, r2=0.5),
        evaluation(1, 0.2, 0.4, None, r2=0.6),
        evaluation(2, 0.4, 0.1, None, r2=0.9),
        divergence(3, 0.4),
    ]
    result = summary(records, metric="r2", task="regression", target=0.55)
    assert result["best"]["learning_rate"] == 0.2
    assert result["best"]["validation_r2"]["mean"] == 0.6
    assert "validation_accuracy" not in result["rates"][0]


def test_further_hyperparameters_make_other_settings():
    records = [
        evaluation(0, 0.1, 0.5, 0.8, weight_decay=0.0),
        evaluation(1, 0.1, 0.5, 0.9, weight_decay=0.1),
    ]
    result = summary(records)
    assert len(settings(trials(records))) == 2
    assert result["best"]["weight_decay"] == 0.1
    assert [rate["weight_decay"] for rate in result["rates"]] == [0.0, 0.1]


def test_summary_is_strict_json():
    records = [evaluation(0, 0.1, 0.5, 0.8), divergence(1, 1.0)]
    json.dumps(summary(records), allow_nan=False)


def seeds(rate, accuracies, **columns):
    """One trial for each accuracy, numbered on from the rate."""
    first = round(1000 * rate)
    return [evaluation(first + i, rate, 1 - a, a, **columns) for i, a in enumerate(accuracies)]


def test_the_interquartile_mean_needs_four_trials():
    records = seeds(0.1, [0.0, 0.8, 0.9, 1.0]) + seeds(0.2, [0.5, 0.6, 0.7])
    four, three = (rate["interquartile_mean"] for rate in summary(records)["rates"])
    assert four["mean"] == pytest.approx(0.85)
    assert four["low"] < 0.85 < four["high"]
    assert three == {"mean": None, "low": None, "high": None}


def test_the_interquartile_mean_is_that_of_the_metric():
    records = seeds(0.1, [0.0, 0.8, 0.9, 1.0])
    assert summary(records, metric="loss")["rates"][0]["interquartile_mean"][
        "mean"
    ] == pytest.approx(0.15)


def test_the_runner_up_comes_with_the_probability_that_the_best_beats_it():
    records = seeds(0.1, [0.8, 0.9]) + seeds(0.2, [0.7, 0.85]) + seeds(0.3, [0.1, 0.2])
    second = summary(records)["runner_up"]
    assert second["learning_rate"] == 0.2
    assert second["probability_of_improvement"]["mean"] == 0.75


def test_a_diverged_trial_of_the_runner_up_is_beaten():
    records = [*seeds(0.1, [0.8, 0.9]), *seeds(0.2, [0.99]), divergence(999, 0.2)]
    assert summary(records)["runner_up"]["probability_of_improvement"]["mean"] == 0.5


def test_a_single_setting_has_no_runner_up():
    assert summary(seeds(0.1, [0.8, 0.9]))["runner_up"] is None


def test_a_setting_that_was_stopped_early_is_not_chosen():
    early = seeds(0.1, [0.99, 0.99], step=50)
    complete = seeds(0.2, [0.8, 0.8])
    result = summary(early + complete)
    assert result["best"]["learning_rate"] == 0.2
    assert result["runner_up"] is None
    assert [rate["steps"] for rate in result["rates"]] == [50, 100]


def test_settings_may_be_words():
    records = [
        row
        for i, (name, accuracy) in enumerate([("sgd", 0.8), ("adam", 0.9)])
        for row in seeds(0.1 * (i + 1), [accuracy], optimizer=name)
    ]
    result = summary(records)
    assert result["best"]["optimizer"] == "adam"
    assert [rate["optimizer"] for rate in result["rates"]] == ["sgd", "adam"]


def test_the_edge_is_that_of_the_rates_with_the_same_other_hyperparameters():
    records = [
        *(evaluation(i, 10.0**i, 1.0, 0.5, optimizer="sgd") for i in range(6)),
        *(evaluation(9 + i, 10.0**i, 1.0, 0.6 + 0.1 * i, optimizer="adam") for i in range(3)),
    ]
    best = summary(records)["best"]
    assert (best["learning_rate"], best["at_edge"]) == (100.0, True)


def test_the_edge_of_a_random_search_is_that_of_all_rates():
    records = [evaluation(i, 1.0 + i, 1.0, 0.5 + 0.1 * i, momentum=0.1 * i) for i in range(3)]
    assert summary(records)["best"]["at_edge"] is True
    inner = [evaluation(i, 1.0 + i, 1.0, 0.9 - abs(i - 1), momentum=0.1 * i) for i in range(3)]
    assert summary(inner)["best"]["at_edge"] is False


def of_scores(scores):
    """Rows of a trial for each rate, whose score `m` at the end is given; NaN is null in JSON."""
    row = {"kind": "eval", "split": "validation", "step": 10, "seed": 0, "loss": 0.5}
    return [
        row | {"trial": i, "learning_rate": 10.0**i, "m": score} for i, score in enumerate(scores)
    ]


def summary_of_scores(scores):
    measures = Measures("other", "m", True, "m", ("loss", "m"))
    return summarize(of_scores(scores), "demo", "other", "m", None, measures)


def test_trial_whose_metric_is_nan_is_a_failure():
    assert summary_of_scores([None, 0.25, None])["best"]["learning_rate"] == 10.0


def test_no_rate_is_best_where_every_metric_is_nan():
    summary = summary_of_scores([None, None])
    assert summary["best"] is None
    assert verdict(summary) == "No rate can be named: m was no number at the end of any trial."
