"""A sweep from its problem to its summary, recorded as it goes."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fbp.config import Config
from fbp.errors import InputError
from fbp.hosts import gather_global, on_first_process
from fbp.records import (
    Row,
    add_to_environment,
    append_records,
    is_complete,
    read_records,
    records_digest,
    write_summary,
)
from fbp.report.measures import Measures
from fbp.report.summary import summarize
from fbp.sweep.grid import Trial
from fbp.sweep.optuna_search import in_batches
from fbp.sweep.progress import SweepProgress, surviving_trials
from fbp.sweep.rows import make_row, metrics_by_trial
from fbp.sweep.runner import Runner
from fbp.sweep.study import Study, studies_of
from fbp.sweep.training import train_all
from fbp.sweep.unchanged import check_unchanged
from fbp.train.problem import Problem
from fbp.verify import Agreement


def sweep(
    config: Config, problem: Problem | None, directory: Path, check: Agreement
) -> dict[str, Any]:
    """Train every trial, record what is measured, and summarize it.

    However a sweep ends, the directory has all that it measured.

    Args:
      config: what to compare, and how.
      problem: what to train. One that `load_problem` made of the config is, with axes, that of
        their first values; any other is trained as it stands.
      directory: of a new run, see `fbp.records.create_run`, or of one that was interrupted: that
        one continues from its checkpoint, and ends with the records of an uninterrupted run.
      check: the outcome of the gradient check, for the summary.

    Returns:
      The summary, which is also in the directory.

    Raises:
      InputError: a record cannot be written, or the run is complete.

    >>> import tempfile
    >>> from fbp.config_file import config_of, read_tables
    >>> from fbp.records import create_run
    >>> from fbp.sweep import check_gradient, load_problem
    >>> path, out = Path("configs/digits_mlp.toml"), Path(tempfile.mkdtemp())
    >>> few = ["train.steps = 5", "sweep.seeds = 1", "sweep.learning_rate = [0.1]"]
    >>> config = config_of(read_tables(path, few), str(path))
    >>> problem = load_problem(config)
    >>> create_run(out, path.read_text())
    >>> sweep(config, problem, out, check_gradient(problem))["best"]["learning_rate"]
    0.1
    """
    if on_first_process(is_complete, directory):
        raise InputError(f"{directory}: this run is complete: give another directory")
    return sweep_studies(config, studies_of(config, problem), directory, check)


def sweep_studies(
    config: Config,
    studies: Sequence[Study],
    directory: Path,
    check: Agreement,
    show: bool = True,
) -> dict[str, Any]:
    """Do as `sweep`, of studies that are loaded already."""
    begin = time.perf_counter()
    check_unchanged(studies, directory)
    runner = Runner(in_batches(config, studies), directory)
    facts = {"measures": runner.measures.facts()}
    on_first_process(add_to_environment, directory, facts)
    progress = train_all(config, runner, show=show)
    summary = on_first_process(_summarize, config, runner.measures, directory)
    tests = list(winner_rows(runner, progress, summary["best"]))
    if tests:
        on_first_process(append_records, directory, tests)
        summary = on_first_process(_summarize, config, runner.measures, directory)
    throughput = runner.throughput
    summary |= {
        "gradient_check": check_facts(check),
        "seconds": time.perf_counter() - begin,
        "compile_seconds": throughput.compiling,
        "trial_steps_per_second": throughput.trial_steps / max(throughput.training, 1e-9),
        "records_sha256": on_first_process(records_digest, directory),
    }
    on_first_process(write_summary, directory, summary)
    return summary


def check_facts(check: Agreement) -> dict[str, Any]:
    """Return what a summary says of the gradient check."""
    names = ("max_ulps", "leaf", "raw_max_ulps", "reference")
    return {name: getattr(check, name) for name in names} | {"rounding": [*check.rounding]}


def winner_rows(
    runner: Runner, progress: SweepProgress, best: Mapping[str, Any] | None
) -> Iterator[Row]:
    """Yield the test rows of the best setting's trials that did not diverge."""
    for number, study in enumerate(runner.studies):
        trials = surviving_trials(study, progress)
        if "test" not in study.problem.parts:
            continue
        if best is None or not any(_has(trial, best) for trial in trials):
            continue
        states = progress.states[number]
        alive, steps = gather_global(states.diverged_at) < 0, gather_global(states.train.step)
        indices = [i for i, trial in enumerate(trials) if alive[i] and _has(trial, best)]
        metrics = metrics_by_trial(runner.test(number, states, indices))
        for index, values in zip(indices, metrics, strict=True):
            yield make_row("test", trials[index], int(steps[index]), **values)


def _has(trial: Trial, setting: Mapping[str, Any]) -> bool:
    return all(setting[name] == value for name, value in trial.setting.items())


def _summarize(config: Config, measures: Measures, directory: Path) -> dict[str, Any]:
    return summarize(
        read_records(directory),
        config.name,
        measures.task,
        measures.metric,
        config.train.target,
        measures,
    )
