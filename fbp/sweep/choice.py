"""Which way of running trials is fastest here, by a short measurement.

Whether `vmap` or a loop is faster depends on the network, the number of trials and the machine:
on two cores `vmap` is ahead at width 16, and loses to `lax.map` from width 128 on. So some ways are
tried on a few steps and the fastest is taken, or one before it that the measurement cannot tell
from it. To compile each takes a while; therefore

- a sweep of less than `SMALL` floating-point operations runs by `vmap`, without a measurement;
- no further way is tried when the rest of the sweep would take less than `WORTH` times as long as
  compiling one.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fbp.flops import flops
from fbp.hosts import agreed
from fbp.sweep.cohort import Cohort
from fbp.sweep.grid import grid_of
from fbp.sweep.mapping import Mapping, given
from fbp.sweep.problem import Problem
from fbp.sweep.program import make_program

SMALL = 1e11
WORTH = 10.0
STEPS, OPERATIONS = 5, 2e9  # of all trials, at most so much in one call, but at least one step
SECONDS, CALLS = 0.3, 3  # the calls of one way are repeated for so long, and so often at least
CLOSE = 0.95  # of the highest speed: what such a measurement cannot tell apart
GROUP = 4  # trials at a time, of `map` in groups


def choose(cohort: Cohort) -> tuple[Mapping, dict[str, float]]:
    """The way to run a cohort's trials, and the trial-steps per second of those that were tried.

    Without `trials = "auto"` it is the one that the config names, and nothing is measured.
    """
    first = given(cohort.config.sweep, len(cohort.trials))
    if cohort.config.sweep.trials != "auto" or operations(cohort) < SMALL:
        return first, {}
    trial_steps = len(cohort.trials) * cohort.config.train.steps
    speeds: dict[Mapping, float] = {}
    for way in _ways(cohort, first):
        speeds[way], compiling = _try(cohort, way)
        if trial_steps / max(speeds.values()) < WORTH * compiling:
            break
    return _chosen(speeds), {_name(way): float(f"{speed:.4g}") for way, speed in speeds.items()}


def operations(cohort: Cohort) -> float:
    """Floating-point operations of a whole sweep, as XLA counts those of the forward pass.

    A gradient counts as three forward passes.
    """
    problem, train = cohort.problem, cohort.config.train
    params = jax.eval_shape(lambda key: _params(problem, key), jax.random.key(0))
    batch = jax.ShapeDtypeStruct(problem.in_shape, problem.dataset.train.x.dtype)
    forward = flops(problem.network.apply, params, batch)
    return 3 * forward * train.steps * len(cohort.trials)


def _params(problem: Problem, key: Any) -> Any:
    return problem.network.init(key, problem.in_shape)[0]


def _ways(cohort: Cohort, first: Mapping) -> list[Mapping]:
    """The ways to try, each once; `map` in groups that leave none over."""
    devices = first.devices
    each = math.ceil(len(cohort.trials) / devices)
    group = max(size for size in range(1, GROUP + 1) if each % size == 0)
    ways = [first, Mapping("map", 1, devices), Mapping("map", group, devices)]
    return list(dict.fromkeys([*ways, Mapping("loop", 1, devices)]))


def _try(cohort: Cohort, way: Mapping) -> tuple[float, float]:
    """Trial-steps per second of a way, and the seconds that compiling took."""
    trials = cohort.trials[: _at_a_time(way, len(cohort.trials))]
    program, grid = make_program(cohort.config, cohort.problem, way), grid_of(trials)
    train, validation = cohort.problem.dataset.train, cohort.problem.dataset.validation
    one = (validation.x[:1], validation.y[:1])
    states, _ = program.start(grid, one)
    total = cohort.config.train.steps
    affordable = min(STEPS, int(OPERATIONS * total / operations(cohort)))
    steps = max(1, affordable) * len(cohort.trials) // len(trials)
    orders = program.draw(0, min(steps, total))
    data = jax.device_put((orders, (train.x, train.y), one), way.everywhere)
    begin = time.perf_counter()
    advance = program.compile(states, grid, *data)
    compiling = agreed(time.perf_counter() - begin)
    seconds = _fastest(lambda states: advance(states, grid, *data)[0], states)
    return len(trials) * np.shape(orders)[1] / seconds, compiling


def _at_a_time(way: Mapping, trials: int) -> int:
    """How many trials run at the same time. One after another makes all its steps before the next
    begins, and has its state at hand for them: fewer trials are tried, for more steps."""
    return trials if way.kind == "vmap" else min(trials, way.devices * way.batch_size)


def _chosen(speeds: dict[Mapping, float]) -> Mapping:
    """The first that was tried of those that are as fast as any."""
    return next(way for way in speeds if speeds[way] >= CLOSE * max(speeds.values()))


def _fastest(advance: Callable[[Any], Any], states: Any) -> float:
    """The seconds of the fastest call after the first, of as many as fit into `SECONDS`."""
    times: list[float] = []
    states = jax.block_until_ready(advance(states))
    while sum(times) < SECONDS or len(times) < CALLS:
        begin = time.perf_counter()
        states = jax.block_until_ready(advance(states))
        times.append(agreed(time.perf_counter() - begin))
    return min(times)


def _name(way: Mapping) -> str:
    return way.kind if way.batch_size == 1 else f"{way.kind} {way.batch_size} at a time"
