"""The second run on a machine makes no measuring step."""

from dataclasses import replace

import pytest

from fbp.config import MLP, Config, Data, Optimizer, Sweep, Train
from fbp.sweep import autotuning
from fbp.sweep.choice import choose_parallelism
from fbp.sweep.parallelism import Parallelism
from fbp.sweep.remembered import choice_key, remember, remembered
from fbp.sweep.study import studies_of

CONFIG = Config(
    name="demo",
    data=Data("digits"),
    network=MLP((8,)),
    optimizer=Optimizer("sgd"),
    train=Train(steps=10, batch_size=16, evaluate_every=10),
    sweep=Sweep((0.1, 1.0), 3),
)
(STUDY,) = studies_of(CONFIG)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fbp" / "sweep" / "parallelism.json"


def test_choice_is_measured_once(monkeypatch):
    measured = []

    def timed(study, way, states):
        measured.append(way)
        return 1.0 if way.kind != "map" else 2.0, 1e-9

    monkeypatch.setattr(autotuning, "_time_candidate", timed)
    monkeypatch.setattr(autotuning, "MEASURE_FROM", 0.0)
    monkeypatch.setattr(autotuning, "BUDGET", 1e9)
    choices = [choose_parallelism(STUDY) for _ in range(2)]
    assert len(measured) == len(set(measured)) > 1
    assert choices[0] == choices[1]
    assert choices[0][0].kind == "map"


def test_key_is_of_the_program_and_of_the_number_of_trials():
    (wider,) = studies_of(replace(CONFIG, network=MLP((9,))))
    keys = {choice_key(s) for s in (STUDY, wider, replace(STUDY, trials=STUDY.trials[:3]))}
    assert len(keys) == 3
    assert choice_key(studies_of(CONFIG)[0]) in keys


@pytest.mark.parametrize("content", ["", "[]", "{", '{"k": {"kind": "warp"}}', '{"k": 3}'])
def test_broken_memory_is_no_memory(cache, content):
    remember("k", Parallelism("map"), {"map": 1.0})
    assert remembered("k") == (Parallelism("map"), {"map": 1.0})
    cache.write_text(content)
    assert remembered("k") is None
    remember("k", Parallelism("loop"), {})
    assert remembered("k") == (Parallelism("loop"), {})


def test_without_a_cache_nothing_is_remembered(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    remember("k", Parallelism("map"), {})
    assert remembered("k") is None
