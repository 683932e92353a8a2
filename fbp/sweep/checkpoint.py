"""From what an interrupted sweep goes on, bit for bit as if it had not been.

A checkpoint holds the states of all trials, and says how far they are and how many bytes of the
records belong to it. Whatever was recorded later is cut off, and measured again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fbp.checkpoints import Checkpoints
from fbp.hosts import once
from fbp.records import cut_records, sync_records
from fbp.sweep.grid import Trial
from fbp.sweep.runner import Runner


@dataclass(frozen=True)
class Checkpoint:
    """A sweep between two stretches.

    Attributes:
      stretches: how many are done.
      trial_steps: how many the trials have made in them.
      kept: numbers of the trials that no search has dropped.
      states: of each variant that has been started, the states of its trials.
    """

    stretches: int
    trial_steps: int
    kept: tuple[int, ...]
    states: Mapping[int, Any]


def kept(trials: Sequence[Trial], progress: Checkpoint) -> list[Trial]:
    """Those that no search has dropped."""
    return [trial for trial in trials if trial.number in progress.kept]


def save(checkpoints: Checkpoints, directory: Path, progress: Checkpoint) -> None:
    """Write a checkpoint of the run in a directory; InputError where it cannot be written."""
    facts = {
        "stretches": progress.stretches,
        "trial_steps": progress.trial_steps,
        "kept": progress.kept,
        "variants": list(progress.states),
        "records_bytes": once(sync_records, directory),
    }
    checkpoints.save(progress.stretches, _by_name(progress.states), facts)


def restore(checkpoints: Checkpoints, runner: Runner) -> Checkpoint | None:
    """The last checkpoint of a run, whose records are cut to what belongs to it; None without one.

    The states are on the devices that are here, however many there were.

    Raises InputError for a checkpoint that is not of this sweep.
    """

    def shapes(facts: Mapping[str, Any]) -> dict[str, Any]:
        progress = _progress(facts)
        counts = {v: len(kept(runner.cohorts[v].trials, progress)) for v in facts["variants"]}
        return _by_name({v: runner.structure(v, count) for v, count in counts.items()})

    found = checkpoints.restore(shapes, resized=True)
    once(cut_records, runner.directory, found.facts["records_bytes"] if found else 0)
    if found is None:
        return None
    progress, states = _progress(found.facts), {}
    for variant in found.facts["variants"]:
        count = len(kept(runner.cohorts[variant].trials, progress))
        states[variant] = runner.select(variant, found.tree[str(variant)], range(count))
    return replace(progress, states=states)


def _progress(facts: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(facts["stretches"], facts["trial_steps"], tuple(facts["kept"]), {})


def _by_name(states: Mapping[int, Any]) -> dict[str, Any]:
    return {str(variant): of_trials for variant, of_trials in states.items()}
