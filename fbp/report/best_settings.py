"""Of many settings the best ones, for a table that can be read; the rest in a file."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fbp.report.measures import measures_of
from fbp.report.trials import setting_of

MOST = 20  # rows of a table: what a page shows at once
SETTINGS = "settings.csv"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
Entry = Mapping[str, Any]


def shown_entries(summary: Entry) -> Sequence[Entry]:
    """Return the entries of a summary that a table shows: all, or the best `MOST` of more.

    They are in the order of the summary, which is that of the settings.
    """
    entries = summary["rates"]
    if len(entries) <= MOST:
        return entries
    measures = measures_of(summary)
    sign = -1 if measures.higher_is_better else 1

    def cost(entry: Entry) -> float:
        mean = entry[f"validation_{measures.metric}"]["mean"]
        lost = entry["diverged"] / max(entry["trials"], 1)
        return math.inf if mean is None or lost > 0 else sign * mean

    best = sorted(range(len(entries)), key=lambda i: cost(entries[i]))[:MOST]
    chosen = None if summary["best"] is None else setting_of(summary["best"])
    best += [i for i, e in enumerate(entries) if setting_of(e) == chosen and i not in best]
    return [entries[i] for i in sorted(best)]


def settings_csv(summary: Entry) -> str:
    """Return every setting of a summary as CSV: means and intervals each in a column.

    A text that a spreadsheet would take for a formula is preceded by an apostrophe.
    """
    rows = [_flat(entry) for entry in summary["rates"]]
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*map(_safe, names)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({_safe(name): _safe(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()


def _flat(entry: Entry, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in entry.items():
        nested = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return flat


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
