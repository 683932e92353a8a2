"""What a reader should know of the columns of a table, in learning and in prediction."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Shaped

from fbp.data.columns import Categorical, Column, Dated, Numeric, numeric_values, word_indices
from fbp.data.kinds import as_text, convert
from fbp.data.table import Table

MOST_NAMED = 10  # columns that a note tells of


def learning_notes(
    used: Sequence[Column],
    cells: Mapping[str, Shaped[np.ndarray, " rows"]],
    left_out: Mapping[str, str],
) -> tuple[str, ...]:
    """Return notes on formats, missing values, suspicious numbers, rare words, columns left out.

    Args:
      used: the columns that are learnt from.
      cells: the values of every column in the rows to learn from.
      left_out: why each other column is not used.
    """
    said = (f"Left out: {reasons(left_out)}.",) if left_out else ()
    return (
        *_format_notes(used),
        *_missing_note(used, cells),
        *_sentinel_notes(used, cells),
        *_other_notes(used),
        *said,
    )


def unfamiliar_note(column: Column, cells: Shaped[np.ndarray, " rows"], table: Table) -> str | None:
    """Return a note on the cells of a column that the training rows prepared nobody for."""
    if isinstance(column, Categorical):
        index = word_indices(column, cells)
        texts = as_text(cells)
        strange = (texts != "") & ((index < 0) | (index >= len(column.words)))
        what = "a word that training has not seen"
        if column.other:
            what = "a word that training has seldom or never seen"
    else:
        if isinstance(column, Numeric):
            values, strange = numeric_values(column, cells)
        else:
            values, strange = convert(column.kind, cells)
        what = "what cannot be read, taken as missing"
        if isinstance(column, Numeric) and not strange.any():
            reach = (column.high / 2 - column.low / 2) * 2
            with np.errstate(over="ignore", invalid="ignore"):
                strange = (values > column.high + reach) | (values < column.low - reach)
            what = f"a value far from those of the training ({column.low:g} to {column.high:g})"
    rows = np.flatnonzero(strange)
    if not len(rows):
        return None
    count = f"{len(rows):,} cells" if len(rows) > 1 else "1 cell"
    shown = str(cells[rows[0]])[:40]
    return f"{column.name}: {count} with {what}, first {shown!r} in {table.row_name(int(rows[0]))}."


def reasons(left_out: Mapping[str, str]) -> str:
    """Return why columns are left out.

    >>> reasons({"a": "is empty", "b": "is 1 in every row"})
    'a is empty; b is 1 in every row'
    """
    shown = [f"{name} {why}" for name, why in list(left_out.items())[:MOST_NAMED]]
    more = len(left_out) - len(shown)
    return "; ".join(shown) + (f"; and {more:,} more columns" if more else "")


def _format_notes(used: Sequence[Column]) -> tuple[str, ...]:
    notes = []
    for column in used:
        if isinstance(column, Numeric) and column.kind.form.unit:
            notes.append(f"{column.name}: numbers in {column.kind.form.unit}.")
        if isinstance(column, Numeric) and column.kind.form.decimal == ",":
            notes.append(f"{column.name}: a comma stands before the decimals.")
        if isinstance(column, Dated) and column.kind.form != "iso":
            notes.append(f"{column.name}: dates written as {column.kind.form}.")
    return tuple(notes)


def _missing_note(used: Sequence[Column], cells: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    counts = {
        column.name: int(np.isnan(cells[column.name]).sum())
        for column in used
        if isinstance(column, Numeric) and column.missing
    }
    missing = [f"{count:,} in {name}" for name, count in counts.items() if count]
    if not missing:
        return ()
    more = (
        f", and in {len(missing) - MOST_NAMED:,} more columns" if len(missing) > MOST_NAMED else ""
    )
    shown = ", ".join(missing[:MOST_NAMED])
    return (f"Missing values count as the column's mean: {shown}{more}.",)


def _sentinel_notes(used: Sequence[Column], cells: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    notes = []
    for column in used:
        if isinstance(column, Numeric) and column.sentinel is not None:
            count = int((cells[column.name] == column.sentinel).sum())
            notes.append(
                f"{column.name}: {column.sentinel:g} stands in {count:,} rows, far from all "
                "others, and is taken for a missing value."
            )
    return tuple(notes)


def _other_notes(used: Sequence[Column]) -> tuple[str, ...]:
    return tuple(
        f"{column.name}: the {len(column.words):,} commonest words count each, all further ones "
        "as 'other'."
        for column in used
        if isinstance(column, Categorical) and column.other
    )
