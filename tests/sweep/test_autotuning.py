from dataclasses import replace

import pytest

from fbp.config import MLP, Config, Data, Optimizer, Sweep, Train
from fbp.sweep import autotuning
from fbp.sweep.autotuning import FirstSteps, autotune, operations
from fbp.sweep.parallelism import Parallelism
from fbp.sweep.study import studies_of

CONFIG = Config(
    name="demo",
    data=Data("digits"),
    network=MLP((8,)),
    optimizer=Optimizer("sgd"),
    train=Train(steps=10, batch_size=16, evaluate_every=10),
    sweep=Sweep((0.1, 1.0), 3),
)
(STUDY,) = studies_of(CONFIG)  # two settings with three seeds


def timed(monkeypatch, speeds, compiling=1.0):
    """No program is run: ways have these speeds, and take this long to compile."""
    tried = []

    def attempt(study, way, states):
        tried.append(way)
        return speeds[way.kind, way.batch_size], compiling

    monkeypatch.setattr(autotuning, "_time_candidate", attempt)
    monkeypatch.setattr(autotuning, "MEASURE_FROM", 0.0)
    return tried


def test_operations_are_those_of_the_dense_layers():
    per_example = 2 * (64 * 8 + 8 * 10)
    assert operations(STUDY) == pytest.approx(3 * 16 * per_example * 10 * 6, rel=0.1)


def test_small_sweep_is_not_measured():
    assert autotune(STUDY) == (Parallelism("vmap", 1, 6), {})


def test_way_that_the_config_names_is_not_measured(monkeypatch):
    timed(monkeypatch, {})
    (study,) = studies_of(replace(CONFIG, sweep=replace(CONFIG.sweep, trials="map", batch_size=2)))
    assert autotune(study) == (Parallelism("map", 2, 6), {})


SPEEDS = {("vmap", 1): 1.0, ("seed", 2): 3.9, ("map", 1): 2.0, ("map", 3): 4.0, ("loop", 1): 3.0}


def test_fastest_way_is_taken_and_all_speeds_are_told(monkeypatch):
    monkeypatch.setattr(autotuning, "MIN_GROUP", 3)
    monkeypatch.setattr(autotuning, "TIE", 1.0)
    study = replace(STUDY, trials=STUDY.trials * 8)  # 48 on 8 devices: 6 each, 2 of each seed
    timed(monkeypatch, SPEEDS)
    assert autotune(study) == (
        Parallelism("map", 3, 8),
        {"vmap": 1.0, "seed 2 at a time": 3.9, "map": 2.0, "map 3 at a time": 4.0, "loop": 3.0},
    )


def test_of_ways_that_a_measurement_cannot_tell_apart_the_first_is_taken(monkeypatch):
    monkeypatch.setattr(autotuning, "MIN_GROUP", 3)
    study = replace(STUDY, trials=STUDY.trials * 8)
    timed(monkeypatch, SPEEDS)
    assert autotune(study)[0] == Parallelism("seed", 2, 8, 3)


def test_no_way_is_tried_that_takes_longer_to_compile_than_it_can_save(monkeypatch):
    tried = timed(monkeypatch, {("vmap", 1): 10.0}, compiling=1.0)
    assert autotune(STUDY)[0].kind == "vmap"
    assert len(tried) == 1


def test_measuring_takes_a_share_of_the_studys_time_at_most(monkeypatch):
    """60 trial-steps at 3 a second are 20 s, a fifth of them 4 s: as many ways are compiled."""
    speeds = dict.fromkeys([("vmap", 1), ("seed", 2), ("map", 1), ("map", 3), ("loop", 1)], 3.0)
    tried = timed(monkeypatch, speeds, compiling=1.5)
    autotune(replace(STUDY))
    assert len(tried) == 2


def test_ways_side_by_side_are_predicted_to_compile_longer(monkeypatch):
    """480 trial-steps at 32 a second are 15 s, a fifth of them 3 s: a loop fits, groups do not."""
    monkeypatch.setattr(autotuning, "LARGE", 0.0)
    monkeypatch.setattr(autotuning, "MIN_GROUP", 3)
    study = replace(STUDY, trials=STUDY.trials * 8)
    tried = timed(monkeypatch, SPEEDS | {("map", 1): 32.0}, compiling=1.4)
    autotune(study)
    assert [way.kind for way in tried] == ["map", "loop"]


def test_short_study_runs_in_the_likeliest_way_unmeasured(monkeypatch):
    """The likeliest of large networks on a CPU; one measured late must be longer to be measured."""
    timed(monkeypatch, SPEEDS)
    monkeypatch.setattr(autotuning, "LARGE", 0.0)
    monkeypatch.setattr(autotuning, "MEASURE_FROM", operations(STUDY) / 2)
    assert autotune(STUDY) == (Parallelism("map", 1, 6), {})
    often = replace(STUDY, config=replace(CONFIG, train=replace(CONFIG.train, evaluate_every=2)))
    assert autotune(often)[1]


def test_large_networks_run_one_trial_after_another_first_on_a_cpu(monkeypatch):
    tried = timed(monkeypatch, SPEEDS, compiling=100.0)
    monkeypatch.setattr(autotuning, "LARGE", 0.0)
    autotune(STUDY)
    assert [way.kind for way in tried] == ["map"]


def first_steps(seconds, compiling=1.0):
    """A step of all six trials by vmap."""
    return FirstSteps(Parallelism("vmap", 1, 6), 1, seconds, compiling, None)


def test_speed_of_the_first_steps_is_without_the_validation_set():
    examples = len(STUDY.problem.data.validation)
    alone = first_steps(2.0).speed(STUDY) * 3 * 16 / (3 * 16 + examples)
    assert alone == pytest.approx(6 / 2.0)


def test_first_steps_are_not_timed_again_and_go_on_where_no_other_ends_sooner(monkeypatch):
    tried = timed(monkeypatch, SPEEDS | {("map", 1): 1e9}, compiling=0.1)
    way, speeds = autotune(STUDY, first=first_steps(1e-3))
    assert (way.kind, tried) == ("vmap", [])
    assert list(speeds) == ["vmap"]


def test_faster_way_is_taken_if_it_makes_good_the_steps_that_it_repeats(monkeypatch):
    timed(monkeypatch, dict.fromkeys(SPEEDS, 1e-6) | {("map", 1): 1e9}, compiling=0.1)
    assert autotune(STUDY, first=first_steps(1e3))[0].kind == "map"
    timed(monkeypatch, dict.fromkeys(SPEEDS, 1e-6) | {("map", 1): 1e9}, compiling=1e9)
    monkeypatch.setattr(autotuning, "BUDGET", 1e30)
    assert autotune(STUDY, first=first_steps(1e3))[0].kind == "vmap"


@pytest.mark.slow
def test_measurement_is_real_and_short(monkeypatch):
    monkeypatch.setattr(autotuning, "MEASURE_FROM", 0.0)
    monkeypatch.setattr(autotuning, "BUDGET", 1e9)
    monkeypatch.setattr(autotuning, "MIN_SECONDS", 0.01)
    monkeypatch.setattr(autotuning, "TIE", 1.0)
    way, speeds = autotune(replace(STUDY, trials=STUDY.trials * 8))
    assert set(speeds) == {"vmap", "seed 2 at a time", "map", "loop"}
    assert speeds[autotuning._label(way)] == max(speeds.values()) > 0


def test_ways_that_run_one_trial_after_another_are_tried_on_as_many_as_run_at_a_time():
    ways = [
        Parallelism("vmap", 1, 2),
        Parallelism("map", 1, 2),
        Parallelism("map", 4, 2),
        Parallelism("seed", 4, 2, 3),
        Parallelism("loop", 1, 2),
    ]
    assert [autotuning._at_a_time(way, 32) for way in ways] == [32, 2, 8, 24, 2]
    assert autotuning._at_a_time(Parallelism("map", 4, 8), 6) == 6
