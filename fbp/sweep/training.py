"""Train all trials of a sweep, from the start or from a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fbp.checkpoints import Checkpoints
from fbp.config import Config
from fbp.errors import InputError
from fbp.hosts import gather_global, on_first_process
from fbp.records import CHECKPOINTS, append_records, read_records
from fbp.report.summary import ranking
from fbp.report.trials import settings, trials
from fbp.sweep.grid import Trial
from fbp.sweep.optuna_search import ask_for_settings
from fbp.sweep.problem import first_batch
from fbp.sweep.progress import SweepProgress, restore_progress, save_progress, surviving_trials
from fbp.sweep.rows import layer_rows, training_rows, validation_rows
from fbp.sweep.runner import Runner
from fbp.sweep.segments import Segment, segments_of, trial_steps
from fbp.sweep.status import Status
from fbp.sweep.study import Study
from fbp.train.checks import nan_at_start
from fbp.train.engine import init_of, keys_of


def train_all(
    config: Config, runner: Runner, *, save_last: bool = False, show: bool = True
) -> SweepProgress:
    """Train every trial to its end, append its rows after each evaluation; return the last states.

    Steps that a checkpoint holds are not repeated. One is written after each evaluation, unless
    writing the last one took more than a tenth of the time since. With `save_last` there is one of
    the last states. `show` is whether the status is shown on stderr.
    """
    everyone = tuple(trial.number for study in runner.studies for trial in study.trials)
    count = len(everyone) // config.sweep.seeds
    plan = config.sweep, config.train
    with Checkpoints(runner.directory / CHECKPOINTS) as checkpoints:
        progress = restore_progress(checkpoints, runner) or SweepProgress(0, 0, everyone, {})
        saved = progress.segments
        segments = segments_of(*plan, len(runner.studies), count)[progress.segments :]
        measures, total = runner.measures, trial_steps(*plan, len(everyone) / config.sweep.seeds)
        shown = config.name, total, progress.trial_steps
        with Status(*shown, measures.metric, measures.higher_is_better, show) as status:
            runner.say = status.say
            for segment in segments:
                ask_for_settings(config, runner, segment.variant)
                progress = _run_segment(segment, progress, runner)
                if runner.latest is not None:
                    status.advance(progress.trial_steps, *runner.latest)
                if checkpoints.due():
                    save_progress(checkpoints, runner.directory, progress)
                    saved = progress.segments
            ask_for_settings(config, runner, len(runner.studies) - 1)
            if save_last and saved < progress.segments:
                save_progress(checkpoints, runner.directory, progress)
    return progress


def _run_segment(segment: Segment, progress: SweepProgress, runner: Runner) -> SweepProgress:
    """Run a segment and append its rows; return the progress after it."""
    done = replace(progress, segments=progress.segments + 1)
    trials = surviving_trials(runner.studies[segment.variant], progress)
    if trials:
        states = _advance(segment, trials, progress, runner)
        steps = (segment.stop - segment.start) * len(trials)
        done = replace(
            done,
            trial_steps=done.trial_steps + steps,
            states={**done.states, segment.variant: states},
        )
    return done if segment.keep is None else _drop(segment.keep, done, runner)


def _advance(segment: Segment, trials: Sequence[Trial], progress: SweepProgress, runner: Runner):
    directory, variant = runner.directory, segment.variant
    everyone = np.ones(len(trials), bool)
    if segment.start == 0:
        states, metrics = runner.start(variant, trials)
        if runner.studies[variant].parallelism is None:  # a group may be of one unlucky seed
            _check_start(runner.studies[variant], metrics)
        if not runner.may_begin_anew(variant):
            rows = validation_rows(trials, 0, metrics, everyone)
            on_first_process(append_records, directory, rows)
    else:
        states = progress.states[variant]
    was_alive = gather_global(states.diverged_at)[: len(trials)] < 0
    if not was_alive.any():
        return states
    begins = runner.may_begin_anew(variant)
    advanced = runner.advance(variant, trials, states, segment.start, segment.stop)
    states, losses, metrics, layers = advanced
    diverged_at = gather_global(states.diverged_at)[: len(trials)]
    rows = training_rows(trials, segment.stop, losses, metrics, was_alive, diverged_at)
    rows += layer_rows(trials, segment.stop, layers, was_alive)
    if begins:
        rows = [*validation_rows(trials, 0, runner.started, everyone), *rows]
    on_first_process(append_records, directory, rows)
    return states


def _check_start(study: Study, metrics: Mapping[str, Any]) -> None:
    """Raise InputError where no trial has a finite loss before its first step."""
    losses = gather_global(metrics["loss"])
    if np.isfinite(losses).any():
        return
    problem, key = study.problem, keys_of(study.trials[0].seed)[0]
    params, carried = init_of(problem)(key)
    batch = first_batch(problem, study.config.train.batch_size)
    origin = nan_at_start(problem, params, carried, batch)
    raise InputError(
        f"the validation loss is {losses[0]} before the first step, in every trial ({origin}): "
        "look at the data, init and loss"
    )


def _drop(keep: int, progress: SweepProgress, runner: Runner) -> SweepProgress:
    """Drop all but the best settings."""
    after = replace(progress, surviving=on_first_process(_best, keep, progress, runner))
    states = {}
    for variant, old in progress.states.items():
        before = surviving_trials(runner.studies[variant], progress)
        indices = [i for i, trial in enumerate(before) if trial.number in after.surviving]
        if indices:
            states[variant] = runner.select(variant, old, indices)
    return replace(after, states=states)


def _best(keep: int, progress: SweepProgress, runner: Runner) -> tuple[int, ...]:
    """Return the numbers of the best settings' trials, by the records of the validation set."""
    recorded = trials(read_records(runner.directory), runner.measures.columns)
    runs = [run for run in recorded if run.number in progress.surviving]
    groups = {s: [run for run in runs if run.setting == s] for s in settings(runs)}
    best = ranking(groups, runner.measures)[:keep]
    return tuple(run.number for s in best for run in groups[s])
