"""Claims: no seed tunes itself, what is told apart, what is reserved, what the command prints."""

import json
import math

import pytest

from fbp.cli import main
from fbp.report.claims import Entrant, choices, claims
from fbp.report.measures import measures_of
from fbp.report.trials import trials
from tests.support import synthetic_run

ACCURACY = measures_of({"task": "classification", "metric": "accuracy"})


def entrant(name, accuracy, *, first=0, at_edge=False, target=None, tested=False):
    """A run of the settings' accuracies by rate, one list of seeds for each."""
    rows = []
    for rate, by_seed in accuracy.items():
        for seed, value in enumerate(by_seed):
            base = {"trial": len(rows), "learning_rate": rate, "seed": first + seed, "step": 10}
            if value is None:
                rows.append(base | {"kind": "diverged"})
                continue
            measured = {"loss": 1 - value, "accuracy": value}
            rows.append(base | measured | {"kind": "eval", "split": "validation"})
            if tested:
                rows.append(base | {"kind": "test", "loss": 0.0, "accuracy": 1 - value})
    return Entrant(name, tuple(trials(rows)), ACCURACY, target, at_edge)


def test_no_seed_takes_part_in_its_own_tuning():
    """The first of five seeds chooses 1.0; 0.1 would be the better choice of all five."""
    run = entrant("a", {0.1: [0.5, 0.9, 0.9, 0.9, 0.9], 1.0: [0.6, 0.6, 0.6, 0.6, 0.6]})
    assert {s: t.learning_rate for s, t in choices(run).items()} == dict.fromkeys(range(1, 5), 1.0)


@pytest.mark.parametrize(("seeds", "compared"), [(2, 1), (5, 4), (9, 8), (10, 8), (25, 20)])
def test_a_fifth_of_the_seeds_choose(seeds, compared):
    assert len(choices(entrant("a", {0.1: [0.5] * seeds, 1.0: [0.6] * seeds}))) == compared


def test_one_seed_of_many_settings_is_not_compared_and_of_one_setting_it_is():
    assert choices(entrant("a", {0.1: [0.5], 1.0: [0.6]})) == {}
    assert list(choices(entrant("a", {0.1: [0.5]}))) == [0]


def test_a_seed_whose_trial_diverged_is_the_lowest():
    x = entrant("x", {0.1: [0.9] * 5 + [None]})
    y = entrant("y", {0.1: [0.1] * 6})
    (claim,) = claims([x, y])
    assert claim.first == "x"
    assert not claim.stands


def test_a_clear_difference_is_claimed_and_an_equal_one_is_not():
    better, equal, worse = (
        entrant(name, {0.1: [level + 0.01 * i for i in range(8)]})
        for name, level in (("better", 0.8), ("equal", 0.8), ("worse", 0.5))
    )
    told = {(c.first, c.second): c for c in claims([better, equal, worse])}
    assert told["better", "worse"].stands
    assert told["equal", "worse"].stands
    same = told["better", "equal"]
    assert not same.stands
    assert "cannot be told apart" in str(same)
    assert "no difference was seen" in str(same)


def test_many_comparisons_are_corrected():
    better = entrant("better", {0.1: [0.8 + 0.01 * i for i in range(6)]})
    others = [entrant(f"w{k}", {0.1: [0.1 + 0.01 * i for i in range(6)]}) for k in range(3)]
    (alone,) = claims([better, others[0]])
    assert alone.stands
    assert not any(claim.stands for claim in claims([better, *others]))


def test_so_few_seeds_can_tell_nothing_apart_and_that_is_said():
    x, y = entrant("x", {0.1: [0.9, 0.91, 0.92]}), entrant("y", {0.1: [0.1, 0.11, 0.12]})
    (claim,) = claims([x, y])
    assert "so few seeds can tell nothing apart, it takes 6 of each or more" in str(claim)


def test_seeds_that_would_tell_are_named():
    x = entrant("x", {0.1: [0.50, 0.60, 0.55, 0.58, 0.62, 0.57]})
    y = entrant("y", {0.1: [0.49, 0.61, 0.54, 0.59, 0.56, 0.55]})
    (claim,) = claims([x, y])
    assert claim.seeds_needed > 6
    assert f"about {claim.seeds_needed} seeds of each would tell" in str(claim)


def test_unequal_budgets_and_an_edge_are_said():
    x = entrant("x", {0.1: [0.5] * 6, 1.0: [0.6] * 6}, at_edge=True)
    y = entrant("y", {0.1: [0.5] * 6})
    (claim,) = claims([x, y])
    assert claim.reservations == (
        "Tuned unequally: x 2 settings, 120 steps in all; y 1 settings, 60 steps in all.",
        "The best rate of x lies at the edge of its grid: extend the grid.",
    )


def test_the_test_set_decides_where_the_chosen_setting_was_tested():
    x = entrant("x", {0.1: [0.9] * 6}, tested=True)
    y = entrant("y", {0.1: [0.2] * 6}, tested=True)
    (claim,) = claims([x, y])
    assert (claim.first, claim.measure) == ("y", "test accuracy")
    untested = entrant("z", {0.1: [0.2] * 6})
    (claim,) = claims([x, untested])
    assert (claim.first, claim.measure) == ("x", "validation accuracy")


def test_steps_to_a_target_are_compared_where_both_have_it():
    x, y = (entrant(n, {0.1: [0.9] * 6}, target=t) for n, t in (("x", 0.5), ("y", 0.5)))
    other = entrant("z", {0.1: [0.9] * 6}, target=0.6)
    assert [claim.measure for claim in claims([x, y])] == [
        "validation accuracy",
        "steps to 50.0%",
    ]
    assert len(claims([x, other])) == 1


@pytest.fixture
def runs(tmp_path):
    sizes = {"few": 3, "many": 8}
    return [
        str(synthetic_run.write(tmp_path / name, synthetic_run.records(seeds=seeds)))
        for name, seeds in sizes.items()
    ]


def test_the_command_prints_claims_and_the_rule_beside_them(runs, capsys):
    assert main(["compare", *runs]) == 0
    printed = capsys.readouterr().out
    assert "few and many cannot be told apart on test accuracy" in printed
    assert "Tuned unequally" in printed
    assert "Holm's method" in printed


def test_the_command_prints_json(runs, capsys):
    assert main(["compare", *runs, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {claim["measure"] for claim in printed["claims"]} == {
        "test accuracy",
        "steps to 70.0%",
    }
    assert all(not claim["stands"] for claim in printed["claims"])
    assert not any(math.isnan(claim["p_value"]) for claim in printed["claims"])


def test_one_run_is_refused(runs, capsys):
    assert main(["compare", runs[0]]) == 2
    assert "1 run to compare" in capsys.readouterr().err
