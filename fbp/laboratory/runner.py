"""Run an experiment and write down its result.

`result.json` holds everything; `result.md` is the small table that people read; each figure is a
PNG file.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fbp.errors import InputError
from fbp.laboratory.experiment import Cell, Check, Outcome
from fbp.laboratory.registry import Experiment
from fbp.records import environment, to_json

DOTS_PER_INCH = 160
RESULT = "result.json"


def run_experiment(experiment: Experiment, settings: Any, directory: Path, command: str) -> Outcome:
    """Run an experiment and write its result into a directory.

    Args:
      experiment: what to run.
      settings: its settings.
      directory: where `result.json`, `result.md` and the figures go.
      command: what reproduces the result, for the record.

    Returns:
      The outcome.

    Raises:
      InputError: data are missing or the directory cannot be written.
    """
    begin = time.perf_counter()
    outcome = experiment.run(settings)
    seconds = time.perf_counter() - begin
    result = {
        "experiment": experiment.name,
        "question": experiment.question,
        "command": command,
        "seconds": round(seconds, 1),
        "passed": all(check.passed for check in outcome.checks),
        "checks": [asdict(check) for check in outcome.checks],
        "rows": [dict(row) for row in outcome.rows],
        "settings": asdict(settings),
        "environment": environment(),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, figure in outcome.figures.items():
            figure.savefig(directory / f"{name}.png", dpi=DOTS_PER_INCH)
        (directory / RESULT).write_text(to_json(result, indent=1) + "\n")
        (directory / "result.md").write_text(_page(result, outcome))
    except OSError as error:
        raise InputError(
            f"{directory}: {error.strerror}: give a directory that can be written to"
        ) from error
    return outcome


def read_result(directory: Path) -> Mapping[str, Any] | None:
    """Read the result in a directory; None where there is none."""
    path = directory / RESULT
    return json.loads(path.read_text()) if path.exists() else None


def read_checks(directory: Path) -> tuple[Check, ...]:
    """Read the checks of the result in a directory; none where there is no result."""
    result = read_result(directory) or {"checks": []}
    return tuple(
        Check(
            row["quantity"],
            row["published"],
            math.nan if row["measured"] is None else row["measured"],
            -math.inf if row["low"] is None else row["low"],
            math.inf if row["high"] is None else row["high"],
        )
        for row in result["checks"]
    )


def checks_table(checks: Sequence[Check], names: Sequence[str] = ()) -> str:
    """Format checks as a table in Markdown: published, measured, band; `names` is a first column.

    >>> print(checks_table([Check("accuracy", "0.9", 0.91, low=0.9)]))
    | quantity | published | measured | band | |
    |---|---|---|---|---|
    | accuracy | 0.9 | 0.91 | at least 0.9 | in the band |
    """
    columns = {
        "quantity": [check.quantity for check in checks],
        "published": [check.published for check in checks],
        "measured": [_text(check.measured) for check in checks],
        "band": [check.band for check in checks],
        "": ["in the band" if check.passed else "**outside**" for check in checks],
    }
    return markdown({"experiment": names, **columns} if names else columns)


def markdown(columns: Mapping[str, Sequence[str]]) -> str:
    """Format columns of text as a table in Markdown."""
    lines = [tuple(columns), ("---",) * len(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(_line(cells) for cells in lines)


def _line(cells: Sequence[str]) -> str:
    if set(cells) == {"---"}:
        return "|---" * len(cells) + "|"
    return ("| " + " | ".join(cells) + " |").replace("|  |", "| |")


def _page(result: Mapping[str, Any], outcome: Outcome) -> str:
    where = result["environment"]
    versions, device = where["versions"], where["device"]
    parts = [
        f"# {result['question']}",
        f"Made by `{result['command']}` in {result['seconds']:.0f} s "
        f"({device['count']} x {device['kind']}, {where['cpus']} cores, JAX {versions['jax']}).",
        checks_table(outcome.checks),
    ]
    if outcome.rows:
        names = list(outcome.rows[0])
        rows = {name: [_text(row.get(name)) for row in outcome.rows] for name in names}
        parts.append(markdown(rows))
    parts += [f"![{result['question']}]({name}.png)" for name in outcome.figures]
    return "\n\n".join(parts) + "\n"


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:.5g}" if isinstance(cell, float) else str(cell)
