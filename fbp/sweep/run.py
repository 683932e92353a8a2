"""A sweep from its problem to its summary, recorded as it goes."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fbp.config import Config
from fbp.errors import InputError
from fbp.hosts import once, whole
from fbp.records import Row, append_records, is_complete, read_records, write_summary
from fbp.report.summary import summarise
from fbp.sweep.checkpoint import Checkpoint, kept
from fbp.sweep.cohort import cohorts_of
from fbp.sweep.grid import Trial
from fbp.sweep.problem import Problem
from fbp.sweep.rows import row_of, values_of
from fbp.sweep.runner import Runner
from fbp.sweep.training import train
from fbp.verify import Agreement


def sweep(config: Config, problem: Problem, directory: Path, check: Agreement) -> dict[str, Any]:
    """Train every trial, record what is measured, and summarise it.

    Args:
      config: what to compare, and how.
      problem: its data and network; of a config with axes, those of their first values.
      directory: of a new run, see `fbp.records.create_run`, or of one that was interrupted: that
        one goes on from its checkpoint, and ends with the records of a run that was not.
      check: the outcome of the gradient check, for the summary.

    Returns the summary, which is also in the directory. Raises InputError where a record cannot
    be written, or the run is complete. Whatever ends a sweep early, what it measured before is in
    the directory.
    """
    if once(is_complete, directory):
        raise InputError(f"{directory}: this run is complete: give another directory")
    begin = time.perf_counter()
    cohorts = cohorts_of(config, problem)
    runner = Runner(cohorts, directory)
    progress = train(config, runner)
    summary = once(_summarise, config, problem, directory)
    tests = list(_tests(runner, progress, summary["best"]))
    if tests:
        once(append_records, directory, tests)
        summary = once(_summarise, config, problem, directory)
    speed = runner.speed
    summary |= {
        "gradient_check": {
            "max_ulps": check.max_ulps,
            "leaf": check.leaf,
            "raw_max_ulps": check.raw_max_ulps,
        },
        "seconds": time.perf_counter() - begin,
        "compile_seconds": speed.compiling,
        "trial_steps_per_second": speed.trial_steps / max(speed.training, 1e-9),
    }
    once(write_summary, directory, summary)
    return summary


def _tests(runner: Runner, progress: Checkpoint, best: Mapping[str, Any] | None) -> Iterator[Row]:
    """The trials of the best setting that did not diverge, on the test set."""
    for number, cohort in enumerate(runner.cohorts):
        trials = kept(cohort.trials, progress)
        if best is None or not any(_has(trial, best) for trial in trials):
            continue
        states = progress.states[number]
        alive, steps = whole(states.diverged_at) < 0, whole(states.train.step)
        places = [i for i, trial in enumerate(trials) if alive[i] and _has(trial, best)]
        measures = values_of(runner.test(number, states, places))
        for place, values in zip(places, measures, strict=True):
            yield row_of("test", trials[place], int(steps[place]), **values)


def _has(trial: Trial, setting: Mapping[str, Any]) -> bool:
    return all(setting[name] == value for name, value in trial.setting.items())


def _summarise(config: Config, problem: Problem, directory: Path) -> dict[str, Any]:
    return summarise(
        read_records(directory),
        config.name,
        problem.dataset.task,
        problem.metric,
        config.train.target,
    )
