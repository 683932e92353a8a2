"""Save and restore a sweep, so that a resumed run is bit-identical to an uninterrupted one.

A checkpoint holds the states of all trials, and says how far they are and how many bytes of the
records belong to it. Whatever was recorded later is truncated, and measured again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fbp.checkpoints import Checkpoints
from fbp.hosts import on_first_process
from fbp.records import check_records, records_digest, sync_records, truncate_records
from fbp.sweep.grid import Trial
from fbp.sweep.runner import Runner
from fbp.sweep.study import Study


@dataclass(frozen=True)
class SweepProgress:
    """A sweep between two segments.

    Attributes:
      segments: how many are done.
      trial_steps: how many the trials have made in them.
      surviving: numbers of the trials that no search has dropped.
      states: of each variant that has been started, the states of its trials.
    """

    segments: int
    trial_steps: int
    surviving: tuple[int, ...]
    states: Mapping[int, Any]


def surviving_trials(study: Study, progress: SweepProgress) -> list[Trial]:
    """Return the study's trials that no search has dropped."""
    return [trial for trial in study.trials if trial.number in progress.surviving]


def save_progress(checkpoints: Checkpoints, directory: Path, progress: SweepProgress) -> None:
    """Write a checkpoint of the run in a directory; raise InputError where it cannot be written."""
    facts = {
        "stretches": progress.segments,
        "trial_steps": progress.trial_steps,
        "kept": progress.surviving,
        "variants": list(progress.states),
        "records_bytes": on_first_process(sync_records, directory),
        "records_sha256": on_first_process(records_digest, directory),
    }
    checkpoints.save(progress.segments, _by_name(progress.states), facts)


def restore_progress(checkpoints: Checkpoints, runner: Runner) -> SweepProgress | None:
    """Restore the last checkpoint of a run, and truncate its records to it; None without one.

    The states are put on the present devices, however many wrote them.

    Raises InputError for a checkpoint that is not of this sweep.
    """

    def shapes(facts: Mapping[str, Any]) -> dict[str, Any]:
        progress = _progress(facts)
        count = lambda variant: len(surviving_trials(runner.studies[variant], progress))
        return _by_name({v: runner.structure(v, count(v)) for v in facts["variants"]})

    facts = checkpoints.facts()
    if facts is not None and "records_sha256" in facts:
        expected = facts["records_bytes"], facts["records_sha256"]
        on_first_process(check_records, runner.directory, *expected)
    saved = checkpoints.restore(shapes, resized=True)
    length = saved.facts["records_bytes"] if saved else 0
    on_first_process(truncate_records, runner.directory, length)
    if saved is None:
        return None
    progress, states = _progress(saved.facts), {}
    for variant in saved.facts["variants"]:
        count = len(surviving_trials(runner.studies[variant], progress))
        states[variant] = runner.select(variant, saved.tree[str(variant)], range(count))
    return replace(progress, states=states)


def _progress(facts: Mapping[str, Any]) -> SweepProgress:
    return SweepProgress(facts["stretches"], facts["trial_steps"], tuple(facts["kept"]), {})


def _by_name(states: Mapping[int, Any]) -> dict[str, Any]:
    return {str(variant): of_trials for variant, of_trials in states.items()}
