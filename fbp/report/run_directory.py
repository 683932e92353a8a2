"""Read a sweep's directory, also of one that was interrupted."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbp.errors import InputError
from fbp.recording import LAYERS
from fbp.records import check_summarized
from fbp.report.measures import measures_of
from fbp.report.summary import summarize
from fbp.report.trials import Record

NUMBERS = ("trial", "learning_rate", "seed", "step")
FURTHER = {
    "train": ("loss",),
    "eval": ("loss", "split"),
    "test": ("loss",),
    "diverged": (),
    LAYERS: (LAYERS,),
}
SUMMARY_KEYS = frozenset({"name", "task", "metric", "target", "best", "rates"})


@dataclass(frozen=True)
class RecordedRun:
    """One run of a sweep: its config as text, where it ran, its records and their summary.

    `complete` is false for a run that was interrupted: its summary is then made here, of what
    was measured.
    """

    path: Path
    config: str
    environment: Mapping[str, Any]
    records: tuple[Record, ...]
    summary: Mapping[str, Any]
    complete: bool


def read_run(path: Path) -> RecordedRun:
    """Read the run in a directory; InputError names the file and line that is missing or damaged.

    The directory holds `config.toml`, `environment.json`, `records.jsonl` and, unless the run was
    interrupted, `summary.json`. A last record that was cut off is left out.
    """
    if not _is_directory(path):
        raise InputError(f"{path}: no such directory: give the one that fbp sweep wrote")
    config = _text(path / "config.toml")
    records = _records(path / "records.jsonl")
    environment = _json(path / "environment.json")
    complete = (path / "summary.json").exists()
    summary = _stored(path) if complete else _summary(path, config, environment, records)
    check_summarized(path, summary)
    return RecordedRun(
        path=path,
        config=config,
        environment=environment,
        records=records,
        summary=summary,
        complete=complete,
    )


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing: give a directory that fbp sweep wrote") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}): run the sweep again") from error


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: damaged ({error}): run the sweep again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: damaged, it holds no object: run the sweep again")
    return content


def _records(path: Path) -> tuple[Record, ...]:
    lines = _text(path).split("\n")
    complete_lines, cut = lines[:-1], lines[-1]  # every whole record ends its line
    records = tuple(
        _record(line, path, number) for number, line in enumerate(complete_lines, start=1)
    )
    if not records:
        state = "one cut off record" if cut else "no record"
        raise InputError(f"{path}: {state}, nothing was measured: run the sweep again")
    return records


def _record(line: str, path: Path, number: int) -> Record:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: line {number} is damaged ({error}): remove it or run the sweep again"
        ) from error
    if not _is_record(record):
        raise InputError(
            f"{path}: line {number} is no record, it needs a kind (one of {', '.join(FURTHER)}), "
            f"the kind's values, and the numbers {', '.join(NUMBERS)}: remove it or run the sweep "
            "again"
        )
    return record


def _is_record(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(key), int | float) for key in NUMBERS)
        and row.get("kind") in tuple(FURTHER)
        and row.keys() >= set(FURTHER[row["kind"]])
        and isinstance(row.get("loss"), int | float | None)
        and (row["kind"] != LAYERS or _are_layers(row[LAYERS]))
    )


def _are_layers(measures: Any) -> bool:
    """Return whether these are numbers by measure and layer."""
    return isinstance(measures, dict) and all(
        isinstance(by_layer, dict)
        and all(isinstance(value, int | float | None) for value in by_layer.values())
        for by_layer in measures.values()
    )


def _stored(path: Path) -> Mapping[str, Any]:
    summary = _json(path / "summary.json")
    if not summary.keys() >= SUMMARY_KEYS:
        raise InputError(
            f"{path / 'summary.json'}: damaged, it lacks one of {', '.join(sorted(SUMMARY_KEYS))}: "
            "remove it, so that the summary is made of the records"
        )
    return summary


def _summary(
    path: Path, config: str, environment: Mapping[str, Any], records: tuple[Record, ...]
) -> Mapping[str, Any]:
    try:
        settings = tomllib.loads(config)
    except tomllib.TOMLDecodeError as error:
        raise InputError(
            f"{path / 'config.toml'}: damaged ({error}): run the sweep again"
        ) from error
    train, measures = settings.get("train", {}), environment.get("measures")
    name, target = settings.get("name", path.name), train.get("target")
    if measures is not None:
        known = measures_of(measures)
        return summarize(records, name, known.task, known.metric, target, known)
    regression = any(record.get("r2") is not None for record in records)
    task, score = ("regression", "r2") if regression else ("classification", "accuracy")
    metric = train.get("metric") or score
    return summarize(records, name, task, metric, target)
