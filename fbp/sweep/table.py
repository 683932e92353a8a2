"""A sweep's summary as a table for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from fbp.report.best_settings import shown_entries
from fbp.report.text import summary_columns
from fbp.report.trials import setting_of


def summary_table(summary: Mapping[str, Any]) -> str:
    """Format a summary as a table: one line for each setting, the best one marked.

    The columns are those of the report's page.

    Returns:
      The table, as text.

    >>> interval = {"mean": 0.975, "low": None, "high": None}
    >>> entry = {"learning_rate": 0.1, "trials": 1, "diverged": 0, "validation_loss": interval}
    >>> entry |= {"validation_accuracy": interval}
    >>> summary = {"task": "classification", "metric": "accuracy", "target": None}
    >>> print(summary_table({**summary, "rates": [entry], "best": {"learning_rate": 0.1}}))
       learning rate  diverged  validation loss  validation accuracy
    *            0.1    0 of 1            0.975                97.5%
    """
    titles, best = summary_columns(summary), summary["best"]
    chosen = None if best is None else setting_of(best)
    lines = [["", *titles]]
    for entry in shown_entries(summary):
        cells = [" ".join(filter(None, text(entry))) for text in titles.values()]
        lines.append(["*" if setting_of(entry) == chosen else "", *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    hidden = len(summary["rates"]) - len(lines) + 1
    rest = [f"and {hidden} settings more, see summary.json"] if hidden else []
    return "\n".join([*_aligned(lines, widths), *rest])


def _aligned(lines: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
