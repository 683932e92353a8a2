"""All trials of a sweep trained, from the start or from a checkpoint."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from fbp.checkpoints import Checkpoints
from fbp.config import Config
from fbp.hosts import is_first, once, whole
from fbp.records import CHECKPOINTS, append_records, read_records
from fbp.report.summary import ranking
from fbp.report.trials import settings, trials
from fbp.sweep.checkpoint import Checkpoint, kept, restore, save
from fbp.sweep.grid import Trial
from fbp.sweep.rows import measured, trained
from fbp.sweep.runner import Runner
from fbp.sweep.stretches import Stretch, stretches_of, trial_steps


def train(config: Config, runner: Runner) -> Checkpoint:
    """Every trial to its end, its rows appended after each evaluation; the last states.

    What a checkpoint holds is not done again. One is written after each evaluation, unless
    writing the last one took more than a tenth of the time since.
    """
    everyone = tuple(trial.number for cohort in runner.cohorts for trial in cohort.trials)
    count = len(everyone) // config.sweep.seeds
    plan = config.sweep, config.train
    with Checkpoints(runner.directory / CHECKPOINTS) as checkpoints:
        progress = restore(checkpoints, runner) or Checkpoint(0, 0, everyone, {})
        stretches = stretches_of(*plan, len(runner.cohorts), count)[progress.stretches :]
        with tqdm(
            desc=config.name,
            total=trial_steps(*plan, count),
            initial=progress.trial_steps,
            unit=" trial-steps",
            unit_scale=True,
            disable=None if is_first() else True,
        ) as bar:
            for stretch in stretches:
                progress = _carry_out(stretch, progress, runner)
                bar.update(progress.trial_steps - bar.n)
                if checkpoints.due():
                    save(checkpoints, runner.directory, progress)
    return progress


def _carry_out(stretch: Stretch, progress: Checkpoint, runner: Runner) -> Checkpoint:
    """What is so after a stretch; its rows are appended."""
    done = replace(progress, stretches=progress.stretches + 1)
    trials = kept(runner.cohorts[stretch.variant].trials, progress)
    if trials:
        states = _advance(stretch, trials, progress, runner)
        steps = (stretch.stop - stretch.start) * len(trials)
        done = replace(
            done,
            trial_steps=done.trial_steps + steps,
            states={**done.states, stretch.variant: states},
        )
    return done if stretch.keep is None else _drop(stretch.keep, done, runner)


def _advance(stretch: Stretch, trials: Sequence[Trial], progress: Checkpoint, runner: Runner):
    directory, variant = runner.directory, stretch.variant
    if stretch.start == 0:
        states, measures = runner.start(variant, trials)
        rows = measured(trials, 0, measures, np.ones(len(trials), bool))
        once(append_records, directory, rows)
    else:
        states = progress.states[variant]
    was_alive = whole(states.diverged_at)[: len(trials)] < 0
    if not was_alive.any():
        return states
    states, losses, measures = runner.advance(variant, trials, states, stretch.start, stretch.stop)
    diverged_at = whole(states.diverged_at)[: len(trials)]
    rows = trained(trials, stretch.stop, losses, measures, was_alive, diverged_at)
    once(append_records, directory, rows)
    return states


def _drop(keep: int, progress: Checkpoint, runner: Runner) -> Checkpoint:
    """Only the best settings go on."""
    after = replace(progress, kept=once(_best, keep, progress, runner))
    states = {}
    for variant, old in progress.states.items():
        before = kept(runner.cohorts[variant].trials, progress)
        places = [i for i, trial in enumerate(before) if trial.number in after.kept]
        if places:
            states[variant] = runner.select(variant, old, places)
    return replace(after, states=states)


def _best(keep: int, progress: Checkpoint, runner: Runner) -> tuple[int, ...]:
    """Numbers of the best settings' trials, by what is recorded of the validation set."""
    runs = [run for run in trials(read_records(runner.directory)) if run.number in progress.kept]
    groups = {s: [run for run in runs if run.setting == s] for s in settings(runs)}
    best = ranking(groups, runner.cohorts[0].problem.metric)[:keep]
    return tuple(run.number for s in best for run in groups[s])
