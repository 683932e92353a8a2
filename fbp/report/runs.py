"""List the runs in a directory: their state, how far they are, and their best setting."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbp.errors import InputError
from fbp.records import RECORDS, is_locked, read_part
from fbp.report.measures import measures_of
from fbp.report.run_directory import RecordedRun, read_run
from fbp.report.text import SCORES, interval_text, setting_label

DEPTH = 3  # folders below the one that is listed


@dataclass(frozen=True)
class RunState:
    """A run in a list.

    Attributes:
      path: its directory.
      state: `complete`, `running`, `interrupted` or `damaged`.
      step: the last one that was measured.
      best: its best setting and metric, in words.
    """

    path: Path
    state: str
    step: int
    best: str


def list_runs(directory: Path) -> list[RunState]:
    """List the runs in a directory and below, by their paths.

    Raises InputError where there is no such directory.

    >>> list_runs(Path("tests"))
    []
    """
    try:
        present = directory.is_dir()
    except (OSError, ValueError):
        present = False
    if not present:
        raise InputError(f"{directory}: no such directory: give the one that holds runs")
    return [_state(path) for path in sorted(_directories(directory, DEPTH))]


def runs_table(runs: list[RunState]) -> str:
    """Format runs as a table: a line for each."""
    rows = [("run", "state", "step", "best")]
    rows += [(str(run.path), run.state, f"{run.step:,}", run.best) for run in runs]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = ([c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in cells)


def _directories(directory: Path, depth: int) -> Iterator[Path]:
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return
    if any(entry.name == RECORDS for entry in entries):
        yield directory
        return
    for entry in entries:
        if depth and entry.is_dir(follow_symlinks=False):
            yield from _directories(Path(entry.path), depth - 1)


def _state(path: Path) -> RunState:
    running = is_locked(path)
    try:
        run = read_run(path)
    except InputError as error:
        empty = "no record" in str(error)
        state = "running" if running else "interrupted" if empty else "damaged"
        return RunState(path, state, 0, "" if empty else str(error))
    complete = run.complete or "records_sha256" in read_part(path)
    state = "complete" if complete else "running" if running else "interrupted"
    step = max(record["step"] for record in run.records)
    return RunState(path, state, int(step), _best(run))


def _best(run: RecordedRun) -> str:
    best: dict[str, Any] | None = run.summary["best"]
    if best is None:
        return "none: every trial diverged, or what compares them was no number"
    metric = measures_of(run.summary).metric
    measured = interval_text(best[f"validation_{metric}"], metric)
    return f"{SCORES.get(metric, metric)} {measured} at learning rate {setting_label(best)}"
