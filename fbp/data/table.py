"""A table: columns of equal length with names, from arrays, data frames or files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from fbp.data.cells import text_of
from fbp.data.kinds import Kind, Words, as_text, object_array, read_column
from fbp.errors import InputError

NAMED_ROWS = 3  # in a note
EXACT = 2**53  # up to which float64 holds every whole number


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns of equal length.

    Attributes:
      names: of the columns.
      columns: each of float64 (NaN where a value is missing) or int64, of datetime64 (NaT), or of
        text in an array of objects ('').
      named: whether the columns have names of their own, or are known by their order.
      lines: the line of the file on which each row stands; None where there is no file.
      rows: the number of each row, from 0, in the table that they were taken from; None for all.
      decimal_comma: whether the file leaves commas to the numbers.
      notes: what a reader should know of how the file was read.
      words: names of columns that are words whatever they look like: pandas' categories.
    """

    names: tuple[str, ...]
    columns: tuple[Shaped[np.ndarray, " rows"], ...]
    named: bool = True
    lines: Int[np.ndarray, " rows"] | None = None
    rows: Int[np.ndarray, " rows"] | None = None
    decimal_comma: bool = False
    notes: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def __getitem__(self, rows: Any) -> "Table":
        numbers = np.arange(len(self)) if self.rows is None else self.rows
        lines = None if self.lines is None else self.lines[rows]
        columns = tuple(column[rows] for column in self.columns)
        return replace(self, columns=columns, lines=lines, rows=numbers[rows])

    def column(self, name: str) -> Shaped[np.ndarray, " rows"]:
        """Return the column of that name."""
        return self.columns[self.names.index(name)]

    def without(self, name: str) -> "Table":
        """Return the table without a column."""
        rest = [(n, c) for n, c in zip(self.names, self.columns, strict=True) if n != name]
        return replace(self, names=tuple(n for n, _ in rest), columns=tuple(c for _, c in rest))

    def row_name(self, row: int) -> str:
        """Return what a row is called in a message: its number from 1, and its line in the file."""
        number = row if self.rows is None else self.rows[row]
        return f"row {number + 1}" + ("" if self.lines is None else f" (line {self.lines[row]})")


def table_of(
    names: Sequence[str], columns: Iterable[Any], *, named: bool = True, **about: Any
) -> Table:
    """Return a table of these columns, of numbers, dates, text, or anything that can be written.

    Raises InputError where two columns share a name, or one holds infinity or complex numbers.

    >>> table = table_of(["age", "kind"], [[3, None], ["a", "b"]])
    >>> [column.tolist() for column in table.columns]
    [['3', ''], ['a', 'b']]
    """
    if len(set(names)) != len(names):
        double = next(name for name in names if list(names).count(name) > 1)
        raise InputError(f"two columns are called {double!r}: rename one")
    columns = list(columns)
    cells = tuple(map(raw_column, names, columns))
    words = frozenset(n for n, c in zip(names, columns, strict=True) if is_categorical(c))
    return Table(tuple(names), cells, named, words=words, **about)


def is_categorical(cells: Any) -> bool:
    """Return whether a column of a data frame says itself that it holds categories.

    >>> is_categorical([1, 2])
    False
    """
    return type(getattr(cells, "dtype", None)).__name__ in (
        "CategoricalDtype",
        "Categorical",
        "Enum",
    )


def raw_column(name: str, cells: Any) -> Shaped[np.ndarray, " rows"]:
    """Return a column as float64, int64, datetime64[s] or an array of text, each cell by itself.

    NaN, None, NaT and pandas' NA are missing; a span of time is its number of seconds.

    Raises InputError for infinity, which names the row, and for complex numbers.

    >>> raw_column("flag", [True, None, 2.0])
    array(['True', '', '2'], dtype=object)
    """
    array = _as_array(cells)
    if array.dtype.kind in "iu" and np.abs(array).max(initial=0) < EXACT:
        return array.astype(np.int64)
    if array.dtype.kind in "buif":
        floats = array.astype(np.float64)
        if np.isinf(floats).any():
            row = int(np.flatnonzero(np.isinf(floats))[0])
            raise InputError(f"{name}: row {row + 1} is infinite: correct it, or leave it empty")
        return floats
    if array.dtype.kind == "M":
        return array.astype("datetime64[s]")
    if array.dtype.kind == "m":
        return np.where(np.isnat(array), np.nan, array / np.timedelta64(1, "s"))
    if array.dtype.kind in "OUS":
        return object_array([text_of(cell) for cell in array.tolist()])
    raise InputError(f"{name} is of {array.dtype}: give real numbers or strings")


def read_columns(
    table: Table,
) -> tuple[tuple[Kind, ...], tuple[Shaped[np.ndarray, " rows"], ...], tuple[str, ...]]:
    """Return the kind of each column, its values, and a note for each that has other cells.

    >>> kinds, values, notes = read_columns(table_of(["size"], [["1", "3.0M", "2"]]))
    >>> values, notes
    ((array([ 1., nan,  2.]),), ("size: numbers but for row 2, '3.0M'; counted as missing.",))
    """
    kinds, columns, notes = [], [], []
    for name, cells in zip(table.names, table.columns, strict=True):
        known_as = name if table.named else f"column {name}"  # arrays have no row numbers
        if name in table.words:
            kinds.append(Words())
            columns.append(as_text(cells))
            continue
        kind, values, unreadable = read_column(known_as, cells, decimal_comma=table.decimal_comma)
        kinds.append(kind)
        columns.append(values)
        if unreadable.any():
            notes.append(_unreadable_note(table, name, kind, cells, unreadable))
    return tuple(kinds), tuple(columns), tuple(notes)


def _as_array(cells: Any) -> np.ndarray:
    dtype = getattr(cells, "dtype", None)
    if isinstance(cells, np.ndarray):
        return cells
    if dtype is not None and hasattr(cells, "to_numpy"):
        return _of_series(cells)
    return np.array([*cells, None], object)[:-1]


def _of_series(series: Any) -> np.ndarray:
    """Read a column of a data frame: nullable numbers and zoned times as plain ones."""
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        return np.asarray(series.to_numpy())
    if getattr(dtype, "kind", "") in ("i", "u", "f"):
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    if getattr(dtype, "tz", None) is not None:
        return np.asarray(series.dt.tz_convert(None).to_numpy())
    array = np.asarray(series.to_numpy())
    return array if array.dtype.kind in "buifM" else np.array([*series, None], object)[:-1]


def _unreadable_note(
    table: Table, name: str, kind: Kind, cells: np.ndarray, unreadable: np.ndarray
) -> str:
    rows = np.flatnonzero(unreadable)
    of = "dates" if type(kind).__name__ == "Dates" else "numbers"
    shown = [
        f"{table.row_name(int(row))}, {str(cells[row])[:40]!r}"
        for row in rows[:NAMED_ROWS].tolist()
    ]
    more = f", and {len(rows) - NAMED_ROWS:,} more" if len(rows) > NAMED_ROWS else ""
    return f"{name}: {of} but for {'; '.join(shown)}{more}; counted as missing."
