"""Which way of running trials is fastest here, by a short measurement.

Which way is faster depends on the network, the number of trials and the machine: on two cores
trials that share their batches are ahead at width 16, one trial after another from width 128 on.
So some ways are tried on a few steps and the fastest is taken, or one before it that the
measurement cannot tell from it. To compile each takes a while; therefore

- a sweep of less than `SMALL` floating-point operations runs by `vmap`, without a measurement;
- no further way is tried when the rest of the sweep would take less than `WORTH` times as long as
  compiling one.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from fbp.data import Split
from fbp.flops import flops
from fbp.hosts import agreed, placed
from fbp.sweep.cohort import Cohort
from fbp.sweep.grid import grid_of
from fbp.sweep.mapping import Mapping, given, rounded_up, selected
from fbp.sweep.problem import Problem
from fbp.sweep.program import make_program

SMALL = 1e11
WORTH = 10.0
STEPS, OPERATIONS = 5, 2e9  # of all trials, at most so much in one call, but at least one step
SECONDS, CALLS = 0.3, 3  # the calls of one way are repeated for so long, and so often at least
CLOSE = 0.95  # of the highest speed: what such a measurement cannot tell apart
GROUP = 4  # trials at a time, of `map` in groups and of `seed`, at least


def choose(cohort: Cohort) -> tuple[Mapping, dict[str, float]]:
    """The way to run a cohort's trials, and the trial-steps per second of those that were tried.

    Without `trials = "auto"` it is the one that the config names, and nothing is measured.
    """
    first = given(cohort.config.sweep, len(cohort.trials))
    if cohort.config.sweep.trials != "auto" or operations(cohort) < SMALL:
        return first, {}
    trial_steps = len(cohort.trials) * cohort.config.train.steps
    states = _start(cohort, first)
    speeds: dict[Mapping, float] = {}
    for way in _ways(cohort, first):
        speeds[way], compiling = _try(cohort, way, states)
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
    """The ways to try; groups of `map` are smaller than all, those of `seed` larger than one."""
    count, seeds, devices = len(cohort.trials), cohort.config.sweep.seeds, first.devices
    by_seed = Mapping("seed", seeds=seeds).of(count)
    of_seed = math.ceil(count / by_seed.multiple)
    each = math.ceil(count / devices)
    ways = [first]
    if of_seed > 1:
        ways.append(replace(by_seed, batch_size=_group(of_seed)))
    ways.append(Mapping("map", 1, devices))
    if _group(each) < each:
        ways.append(Mapping("map", _group(each), devices))
    return [*ways, Mapping("loop", 1, devices)]


def _group(trials: int) -> int:
    """Trials at a time: at least `GROUP`, if there are so many, and a divisor of all."""
    return next(size for size in range(min(GROUP, trials), trials + 1) if trials % size == 0)


def _start(cohort: Cohort, first: Mapping) -> Any:
    """The states of all trials before their first step."""
    program = make_program(cohort.config, cohort.problem, first)
    return program.start(grid_of(cohort.trials), _one(cohort.problem.dataset.validation))[0]


def _try(cohort: Cohort, way: Mapping, states: Any) -> tuple[float, float]:
    """Trial-steps per second of a way, and the seconds that compiling took."""
    count, total, data = len(cohort.trials), cohort.config.train.steps, cohort.problem.dataset
    at_a_time = _at_a_time(way, count)
    affordable = min(STEPS, int(OPERATIONS * total / operations(cohort)))
    steps = min(max(1, affordable) * count // at_a_time, total)
    orders = _orders(cohort, steps)
    shared = placed((orders, (data.train.x, data.train.y), _one(data.validation)), way.everywhere)
    grid = grid_of(cohort.trials[:at_a_time])
    own = selected(states, range(at_a_time), way)
    program = make_program(cohort.config, cohort.problem, way)
    begin = time.perf_counter()
    advance = program.compile(own, grid, *shared)
    compiling = agreed(time.perf_counter() - begin)
    seconds = _fastest(lambda states: advance(states, grid, *shared)[0], own)
    of_use = count / rounded_up(count, way.multiple)
    return of_use * rounded_up(at_a_time, way.multiple) * steps / seconds, compiling


def _at_a_time(way: Mapping, trials: int) -> int:
    """How many trials run at the same time. One after another makes all its steps before the next
    begins, and has its state at hand for them: fewer trials are tried, for more steps."""
    return trials if way.kind == "vmap" else min(trials, way.multiple * way.batch_size)


def _orders(cohort: Cohort, steps: int) -> np.ndarray:
    """Examples for each seed and step; only how long it takes to read them counts here."""
    shape = cohort.config.sweep.seeds, steps, cohort.config.train.batch_size
    examples = len(cohort.problem.dataset.train)
    return np.random.default_rng(0).integers(0, examples, shape, np.int32)


def _one(split: Split) -> tuple[Any, Any]:
    """One example: to measure costs next to nothing."""
    return split.x[:1], split.y[:1]


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
