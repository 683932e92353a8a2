from dataclasses import replace

import pytest

from fbp import InputError
from fbp.config import MLP, Config, Data, Optimizer, Sweep, Train
from fbp.sweep.problem import load_problem
from fbp.sweep.study import studies_of

CONFIG = Config(
    name="demo",
    data=Data("digits"),
    network=MLP((4,)),
    optimizer=Optimizer("sgd"),
    train=Train(steps=4, batch_size=16, evaluate_every=2),
    sweep=Sweep((0.1, 1.0), 2, axes={"train.batch_size": (16, 32), "network.widths": ([4], [8])}),
)


def with_axes(axes):
    return replace(CONFIG, sweep=replace(CONFIG.sweep, axes=axes))


def test_every_combination_is_a_study_and_trials_are_numbered_through():
    studies = studies_of(CONFIG)
    assert [c.problem.in_shape[0] for c in studies] == [16, 16, 32, 32]
    trials = [trial for study in studies for trial in study.trials]
    assert [trial.number for trial in trials] == list(range(16))
    assert trials[4].setting == {
        "learning_rate": 0.1,
        "train.batch_size": 16,
        "network.widths": 8,
    }


def test_data_are_loaded_once():
    problem = load_problem(CONFIG)
    assert all(c.problem.data is problem.data for c in studies_of(CONFIG, problem))


def test_value_that_makes_no_problem_is_refused_before_anything_is_trained():
    with pytest.raises(InputError, match=r"train\.batch_size is 5000, but digits has only"):
        studies_of(with_axes({"train.batch_size": (16, 5000)}))


def test_tables_of_both_tasks_are_not_compared():
    with pytest.raises(InputError, match="cannot be compared"):
        studies_of(with_axes({"data.name": ("digits", "diabetes")}))
