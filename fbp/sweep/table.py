"""A sweep's summary as a table for a terminal."""

from collections.abc import Mapping
from typing import Any

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
    for entry in summary["rates"]:
        cells = [" ".join(filter(None, text(entry))) for text in titles.values()]
        lines.append(["*" if setting_of(entry) == chosen else "", *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
