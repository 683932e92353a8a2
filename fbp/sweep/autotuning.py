"""Choose how to run the trials of a study in parallel, by a short measurement.

What is fastest depends on the network, the number of trials and the machine: on two cores, trials
that share their batches are ahead at width 16, one trial after another from width 128 on. So time
a few steps of each candidate, and take the first within `TIE` of the fastest. Compiling takes
time too; therefore

- the likeliest comes first: on a CPU one trial after another from `LARGE` operations a step on, and
  then not all side by side;
- a sweep times the likeliest by its first steps, which count: see `FirstSteps`;
- a study of fewer than `MEASURE_FROM` floating-point operations runs in the likeliest way,
  unmeasured; likewise one of fewer than `UNTRAINED` times as many, if its first evaluation comes
  too late for its first steps to be repeated;
- no candidate is timed where that would take more than `BUDGET` of the time that the study takes by
  the fastest so far.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from fbp.hosts import broadcast, put_global
from fbp.sweep.grid import grid_of
from fbp.sweep.parallelism import Parallelism, configured, round_up, select_trials
from fbp.sweep.problem import first_batch
from fbp.sweep.program import make_program
from fbp.sweep.study import Study
from fbp.train.objective import Objective
from fbp.train.problem import Batches, Part, Problem, example_count

MEASURE_FROM = 1e11  # operations: below, a study takes seconds, as long as compiling a candidate
UNTRAINED = 30  # the likeliest is then compiled once to be measured and again to train
FEW = 0.25  # share of the steps that may be made twice, where another way is faster
BUDGET = 0.2  # of the study's time: with it a first run takes at most about 1.25 of the best one's
LARGE = (
    1e6  # operations of a trial's step: above, its arrays fill the caches of a core by themselves
)
MAX_STEPS, MAX_OPERATIONS = 5, 2e9  # of all trials in one call, so that it takes about a second
MIN_SECONDS, MIN_CALLS = 0.3, 3  # of each candidate, so that the fastest call is undisturbed
TIE = 0.95  # of the highest speed: what such a measurement cannot tell apart
SIDE_BY_SIDE = 2.5  # times one trial's, compiling several takes: first runs of `benchmarks.sweep`
MIN_GROUP = 4  # trials at a time, of `map` in groups and of `seed`: fewer are not worth batching


@dataclass(frozen=True)
class FirstSteps:
    """The first steps of all trials of a study, trained by the likeliest way.

    Attributes:
      parallelism: that way.
      steps: how many each trial made.
      seconds: what they took.
      compiling: seconds of compiling them.
      states: the states after them, which are only copied.
    """

    parallelism: Parallelism
    steps: int
    seconds: float
    compiling: float
    states: Any

    def speed(self, study: Study) -> float:
        """Return the trial-steps per second, without what measuring the validation set took."""
        validation = example_count(study.problem.parts["validation"])
        forward = 3 * self.steps * study.config.train.batch_size  # a gradient counts three times
        alone = self.seconds * forward / (forward + validation)
        return len(study.trials) * self.steps / max(alone, 1e-9)


def is_measured(study: Study) -> bool:
    """Return whether a study is long enough for a measurement, and its config leaves the choice."""
    least = MEASURE_FROM * (1 if is_settled_by_training(study) else UNTRAINED)
    return study.config.sweep.trials == "auto" and operations(study) >= least


def is_settled_by_training(study: Study) -> bool:
    """Return whether the first evaluation comes early enough to measure by the steps before it."""
    train = study.config.train
    return train.evaluate_every <= FEW * train.steps


def likeliest_setting(study: Study) -> Parallelism:
    """Return the way to try first, or the one that the config names."""
    way = configured(study.config.sweep, len(study.trials))
    return _candidates(study, way)[0] if study.config.sweep.trials == "auto" else way


def autotune(
    study: Study,
    say: Callable[[str], None] = lambda *_: None,
    first: FirstSteps | None = None,
) -> tuple[Parallelism, dict[str, float]]:
    """Choose a study's parallelism; return it and each candidate's trial-steps per second.

    A short study's is the likeliest, and without `trials = "auto"` it is what the config names:
    nothing is measured. `say` is called with what is being done. After `first` steps, another way
    must make good the time that it takes to compile it and to repeat them.
    """
    if not is_measured(study):
        return likeliest_setting(study), {}
    way = configured(study.config.sweep, len(study.trials))
    candidates, speeds, compiling = _candidates(study, way), {}, {}
    if first is not None:
        speeds[first.parallelism] = first.speed(study)
        compiling[first.parallelism] = first.compiling
    states = _start(study, way) if first is None else first.states
    left = len(study.trials) * (study.config.train.steps - (0 if first is None else first.steps))
    begin, compiled = time.perf_counter(), 0.0
    for number, candidate in enumerate(candidates, start=1):
        if candidate in speeds:
            continue
        if speeds:
            spent = max(broadcast(time.perf_counter() - begin), compiled)
            affordable = BUDGET * left / max(speeds.values())
            if spent + _predicted(candidate, compiling) > affordable:
                continue
        say(f"measuring way {number} of {len(candidates)} to run trials")
        speeds[candidate], compiling[candidate] = _time_candidate(study, candidate, states)
        compiled += compiling[candidate]
    rounded = {_label(candidate): float(f"{speed:.4g}") for candidate, speed in speeds.items()}
    if first is not None:
        return _cheapest(study, first, speeds, compiling), rounded
    return _first_of_fastest(speeds), rounded


def operations(study: Study) -> float:
    """Count the floating-point operations of a study."""
    return study.step_flops * study.config.train.steps * len(study.trials)


def _candidates(study: Study, first: Parallelism) -> list[Parallelism]:
    """List what to time; groups of `map` hold fewer than all trials, `seed`'s more than one."""
    count, seeds, devices = len(study.trials), study.config.sweep.seeds, first.devices
    by_seed = Parallelism("seed", seeds=seeds).of(count)
    rows_of_seed = math.ceil(count / by_seed.multiple)
    each = math.ceil(count / devices)
    candidates = [first]
    if rows_of_seed > 1:
        candidates.append(replace(by_seed, batch_size=_group(rows_of_seed)))
    candidates.append(Parallelism("map", 1, devices))
    if _group(each) < each:
        candidates.append(Parallelism("map", _group(each), devices))
    candidates.append(Parallelism("loop", 1, devices))
    if jax.default_backend() == "cpu" and study.step_flops >= LARGE:
        in_turn = lambda candidate: candidate.kind not in ("map", "loop")
        candidates.sort(key=lambda c: (in_turn(c), c.batch_size > 1))
        return [candidate for candidate in candidates if candidate.kind != "vmap"]
    return candidates


def _predicted(candidate: Parallelism, compiling: Mapping[Parallelism, float]) -> float:
    """Return the seconds that compiling a candidate will take, by the last one compiled."""
    last, seconds = [*compiling.items()][-1]
    relative = lambda way: SIDE_BY_SIDE if way.kind == "vmap" or way.batch_size > 1 else 1.0
    return seconds * relative(candidate) / relative(last)


def _group(trials: int) -> int:
    """Return a size of groups: `MIN_GROUP` or more, if there are as many, and a divisor of all."""
    return next(size for size in range(min(MIN_GROUP, trials), trials + 1) if trials % size == 0)


def _start(study: Study, first: Parallelism) -> Any:
    """Return the states of all trials before their first step."""
    program = make_program(study, first)
    return program.start(grid_of(study.trials), _to_measure(study.problem))[0]


def _time_candidate(study: Study, candidate: Parallelism, states: Any) -> tuple[float, float]:
    """Return the trial-steps per second of a candidate, and the seconds of compiling it."""
    count, total = len(study.trials), study.config.train.steps
    at_a_time = _at_a_time(candidate, count)
    affordable = min(MAX_STEPS, int(MAX_OPERATIONS * total / operations(study)))
    steps = min(max(1, affordable) * count // at_a_time, total)
    shared = put_global(
        (*_training(study, steps), _to_measure(study.problem)), candidate.replicated
    )
    grid = grid_of(study.trials[:at_a_time])
    trial_states = select_trials(states, range(at_a_time), candidate)
    program = make_program(study, candidate)
    begin = time.perf_counter()
    advance = program.compile(trial_states, grid, *shared)
    compiling = broadcast(time.perf_counter() - begin)
    seconds = _best_seconds(lambda states: advance(states, grid, *shared)[0], trial_states)
    efficiency = count / round_up(count, candidate.multiple)
    return efficiency * round_up(at_a_time, candidate.multiple) * steps / seconds, compiling


def _at_a_time(candidate: Parallelism, trials: int) -> int:
    """Count the trials that run at the same time.

    Where trials run one after another, each makes all its steps before the next begins, and its
    state stays in the caches: time fewer trials, for more steps.
    """
    in_turn = min(trials, candidate.multiple * candidate.batch_size)
    return trials if candidate.kind == "vmap" else in_turn


def _training(study: Study, steps: int) -> tuple[np.ndarray, Part]:
    """Return examples for each seed and step; only how long it takes to read them counts here."""
    training, seeds = study.problem.parts["train"], study.config.sweep.seeds
    if isinstance(training, Batches):
        batch = first_batch(study.problem, study.config.train.batch_size)
        return np.zeros((seeds, steps), np.int32), jax.tree.map(lambda leaf: leaf[None], batch)
    shape = seeds, steps, study.config.train.batch_size
    orders = np.random.default_rng(0).integers(0, example_count(training), shape, np.int32)
    return orders, training


def _to_measure(problem: Problem) -> Part:
    """Return one example: to measure it costs next to nothing. A caller's metrics may need all."""
    validation = problem.parts["validation"]
    one = isinstance(problem.loss, Objective) and problem.metrics is None
    return jax.tree.map(lambda leaf: leaf[:1], validation) if one else validation


def _first_of_fastest(speeds: dict[Parallelism, float]) -> Parallelism:
    """Return the first candidate that is as fast as any, within `TIE`."""
    fastest = max(speeds.values())
    return next(candidate for candidate in speeds if speeds[candidate] >= TIE * fastest)


def _cheapest(
    study: Study,
    first: FirstSteps,
    speeds: Mapping[Parallelism, float],
    compiling: Mapping[Parallelism, float],
) -> Parallelism:
    """Return the way that ends soonest: the first one goes on, any other begins anew."""
    count, steps = len(study.trials), study.config.train.steps
    seconds = {way: compiling[way] + count * steps / speed for way, speed in speeds.items()}
    seconds[first.parallelism] = count * (steps - first.steps) / speeds[first.parallelism]
    return min(seconds, key=lambda way: seconds[way])


def _best_seconds(advance: Callable[[Any], Any], states: Any) -> float:
    """Return the seconds of the fastest call but the first, of those that fit `MIN_SECONDS`."""
    times: list[float] = []
    states = jax.block_until_ready(advance(states))
    while sum(times) < MIN_SECONDS or len(times) < MIN_CALLS:
        begin = time.perf_counter()
        states = jax.block_until_ready(advance(states))
        times.append(broadcast(time.perf_counter() - begin))
    return min(times)


def _label(candidate: Parallelism) -> str:
    kind, size = candidate.kind, candidate.batch_size
    return kind if size == 1 else f"{kind} {size} at a time"
