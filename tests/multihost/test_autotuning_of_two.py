"""The way of running trials, measured by two processes that must agree on it."""

import ast

import pytest

CHOOSE = """
import sys

import jax

coordinator, number = sys.argv[1:]
jax.distributed.initialize(coordinator, 2, int(number), cluster_detection_method="deactivate")
from fbp.config import MLP, Config, Data, Optimizer, Sweep, Train
from fbp.sweep import autotuning
from fbp.sweep.study import studies_of

autotuning.MEASURE_FROM, autotuning.BUDGET, autotuning.MIN_SECONDS = 0.0, 1e9, 0.01
rates = tuple(0.01 * number for number in range(1, 10))
(study,) = studies_of(
    Config("demo", Data("digits"), MLP((8,)), Optimizer("sgd"), Train(20, 16, 10), Sweep(rates, 2))
)
way, speeds = autotuning.autotune(study)
print("chosen", [way.kind, way.devices, speeds])
"""


@pytest.mark.slow
def test_two_processes_measure_the_same_ways_and_agree(by_two_processes):
    first, second = (
        ast.literal_eval(out.split("chosen ")[1].splitlines()[0])
        for out in by_two_processes(CHOOSE)
    )
    assert first == second
    kind, devices, speeds = first
    assert devices == 4
    assert set(speeds) == {"vmap", "seed 3 at a time", "map", "loop"}
    assert any(name.startswith(kind) for name in speeds)
    assert min(speeds.values()) > 0
