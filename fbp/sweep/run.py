"""A sweep from its problem to its summary, recorded as it goes."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from fbp.config import Config
from fbp.records import Row, append_records, read_records, write_summary
from fbp.report.summary import summarise
from fbp.sweep.grid import Trial, grid_of, trials_of
from fbp.sweep.problem import Problem
from fbp.sweep.program import Program, TrialState, make_program
from fbp.train.repeat import Examples
from fbp.verify import Agreement


@dataclass(frozen=True)
class Speed:
    """Wall-clock seconds of a sweep's parts, and how many steps the trials made in them."""

    compiling: float
    training: float
    trial_steps: int


def sweep(config: Config, problem: Problem, directory: Path, check: Agreement) -> dict[str, Any]:
    """Train every trial, record what is measured, and summarise it.

    Args:
      config: what to compare, and how.
      problem: its data and network.
      directory: of a new run, see `fbp.records.create_run`.
      check: the outcome of the gradient check, for the summary.

    Returns the summary, which is also in the directory. Raises InputError where a record cannot
    be written. Whatever ends a sweep early, what it measured before is in the directory.
    """
    begin = time.perf_counter()
    trials = trials_of(config.sweep)
    program = make_program(config, problem)
    states, speed = _train(config, problem, program, trials, directory)
    summary = _summarise(config, problem, directory)
    winners = _winners(trials, states, summary["best"])
    if winners:
        append_records(directory, _test(problem, program, states, winners))
        summary = _summarise(config, problem, directory)
    summary |= {
        "gradient_check": {
            "max_ulps": check.max_ulps,
            "leaf": check.leaf,
            "raw_max_ulps": check.raw_max_ulps,
        },
        "seconds": time.perf_counter() - begin,
        "compile_seconds": speed.compiling,
        "trial_steps_per_second": speed.trial_steps / speed.training,
    }
    write_summary(directory, summary)
    return summary


def _train(
    config: Config, problem: Problem, program: Program, trials: Sequence[Trial], directory: Path
) -> tuple[TrialState, Speed]:
    """Every trial to its end, its rows appended after each evaluation."""
    grid = grid_of(trials)
    training, validation = _examples(problem, "train"), _examples(problem, "validation")
    states, measures = program.start(grid, validation)
    append_records(directory, _measured(trials, 0, measures, np.ones(len(trials), bool)))
    begin = time.perf_counter()
    chunks = list(_chunks(config.train.steps, config.train.evaluate_every))
    zero = jnp.zeros((), jnp.int32)
    advance = {
        count: program.advance.lower(states, grid, zero, training, validation, count).compile()
        for count in {count for _, count in chunks}
    }
    compiled = time.perf_counter()
    done, alive = 0, np.ones(len(trials), bool)
    with tqdm(total=config.train.steps, unit="step", desc=config.name, disable=None) as bar:
        for start, count in chunks:
            states, losses, measures = advance[count](
                states, grid, zero + start, training, validation
            )
            diverged_at = np.asarray(states.diverged_at)
            rows = _rows(trials, start + count, losses, measures, alive, diverged_at)
            append_records(directory, rows)
            done, alive = start + count, diverged_at < 0
            bar.update(count)
            bar.set_postfix(diverged=int(np.sum(~alive)))
            if not alive.any():
                break
    speed = Speed(compiled - begin, time.perf_counter() - compiled, done * len(trials))
    return states, speed


def _chunks(steps: int, every: int) -> Iterator[tuple[int, int]]:
    """Where each stretch between evaluations starts, and its number of steps."""
    return ((start, min(every, steps - start)) for start in range(0, steps, every))


def _rows(
    trials: Sequence[Trial],
    step: int,
    losses: Any,
    measures: dict[str, Any],
    was_alive: np.ndarray,
    diverged_at: np.ndarray,
) -> list[Row]:
    """What was measured of the trials that had not diverged before."""
    alive = diverged_at < 0
    means = np.asarray(losses)
    trained = [
        _row("train", trial, step, loss=float(means[trial.number]))
        for trial in trials
        if alive[trial.number]
    ]
    ended = [
        _row("diverged", trial, int(diverged_at[trial.number]))
        for trial in trials
        if was_alive[trial.number] and not alive[trial.number]
    ]
    return [*trained, *_measured(trials, step, measures, alive), *ended]


def _measured(
    trials: Sequence[Trial], step: int, measures: dict[str, Any], alive: np.ndarray
) -> list[Row]:
    columns = {name: np.asarray(values) for name, values in measures.items()}
    return [
        _row("eval", trial, step, split="validation", **_values(columns, trial.number))
        for trial in trials
        if alive[trial.number]
    ]


def _values(columns: dict[str, np.ndarray], i: int) -> dict[str, float]:
    return {name: float(values[i]) for name, values in columns.items()}


def _row(kind: str, trial: Trial, step: int, **values: Any) -> Row:
    identity = {"kind": kind, "trial": trial.number, **trial.hyperparameters, "seed": trial.seed}
    return {**identity, "step": step, **values}


def _winners(
    trials: Sequence[Trial], states: TrialState, best: dict[str, Any] | None
) -> list[Trial]:
    """The trials of the best setting that did not diverge."""
    if best is None:
        return []
    alive = np.asarray(states.diverged_at) < 0
    return [
        trial
        for trial in trials
        if alive[trial.number]
        and all(best[name] == value for name, value in trial.hyperparameters.items())
    ]


def _test(
    problem: Problem, program: Program, states: TrialState, winners: Sequence[Trial]
) -> list[Row]:
    """The winners on the test set, after their last step."""
    numbers = np.array([trial.number for trial in winners])
    params = jax.tree.map(lambda leaf: leaf[numbers], states.train.params)
    steps = np.asarray(states.train.step)
    measures = program.measure(params, _examples(problem, "test"))
    columns = {name: np.asarray(values) for name, values in measures.items()}
    return [
        _row("test", trial, int(steps[trial.number]), **_values(columns, i))
        for i, trial in enumerate(winners)
    ]


def _summarise(config: Config, problem: Problem, directory: Path) -> dict[str, Any]:
    return summarise(
        read_records(directory),
        config.name,
        problem.dataset.task,
        problem.metric,
        config.train.target,
    )


def _examples(problem: Problem, part: str) -> Examples:
    split = getattr(problem.dataset, part)
    return jax.device_put((split.x, split.y))
