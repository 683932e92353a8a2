"""A sweep's summary as a table that a terminal shows."""

from collections.abc import Mapping
from typing import Any

from fbp.report.text import summary_columns
from fbp.report.trials import setting_of


def table(summary: Mapping[str, Any]) -> str:
    """One line for each setting, in columns; the best one is marked.

    The columns are those of the report's page.
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
