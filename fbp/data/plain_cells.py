"""The cells of a text without quotes: columns of numbers parsed at once, all others as text.

The numbers are the same ones as those of one cell after another, whatever is installed.
"""

import csv
import importlib
import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, Num, Shaped

from fbp.data.cells import LEADING_ZERO

EXACT = 2**53  # up to which float64 holds every whole number
POWERS = 10 ** np.arange(1, 17)

Column = Num[np.ndarray, " rows"]
Texts = dict[int, list[str]]


def split_cells(rows: str, separator: str, columns: Sequence[int], width: int) -> Texts:
    """Return the cells of some columns, without spaces around them.

    >>> split_cells("1, a\\n2,b", ",", [1], 2)
    {1: ['a', 'b']}
    """
    cells = rows.replace("\n", separator).split(separator) if columns and rows else []
    around = (f" {separator}", f"{separator} ", " \n", "\n ")
    spaced = rows != rows.strip() or any(spaces in rows for spaces in around)
    spaced = spaced or (separator != "\t" and "\t" in rows)
    texts = {column: cells[column::width] for column in columns}
    return {c: stripped(cells) for c, cells in texts.items()} if spaced else texts


def parse_cells(
    rows: str, stored: bytes, lengths: Int[np.ndarray, "rows columns"], separator: str
) -> list[Column | list[str]]:
    """Return each column: an array where all its cells are plain finite numbers, else its text.

    Such columns are of int64 where all numbers are written as Python writes whole ones; where only
    some are, or one begins with a zero as `007` does, their text is kept. An empty cell among
    fractions is NaN. pandas parses them where it is installed, which is three times faster.

    Args:
      rows: the text below the header, without quotes.
      stored: its bytes.
      lengths: of each cell, in bytes.
      separator: what stands between two cells.

    >>> text, lengths = "1,2.5,007\\n3,1.0,012", np.array([[1, 3, 3], [1, 3, 3]])
    >>> parse_cells(text, text.encode(), lengths, ",")
    [array([1, 3]), array([2.5, 1. ]), ['007', '012']]
    """
    width = lengths.shape[1]
    arrays = _by_pandas(stored, separator) or _by_numpy(stored, separator)
    if len(arrays) != width or any(len(array) != len(lengths) for array in arrays):
        arrays = []
    columns: list[Any] = [_plain(a, lengths[:, i]) for i, a in enumerate(arrays)] or [None] * width
    rest = [number for number, column in enumerate(columns) if column is None]
    texts = _texts_by_pandas(stored, separator, rest) if arrays and rest else {}
    texts = texts or split_cells(rows, separator, rest, width)
    for number in rest:
        floats = plain_floats(texts[number])
        columns[number] = texts[number] if floats is None else floats
    return columns


def finite_floats(texts: Sequence[str]) -> Float64[np.ndarray, " rows"] | None:
    """Return the finite numbers in cells, NaN for empty ones; None where a cell is neither.

    >>> finite_floats(["1", "", "2.5"]), finite_floats(["1", "nan"]), finite_floats(["1_0"])
    (array([1. , nan, 2.5]), None, None)
    """
    try:
        floats = np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        if "" not in texts:
            return None
        try:
            floats = np.array([float(text) if text else np.nan for text in texts], np.float64)
        except ValueError:
            return None
    if np.isnan(floats).sum() != texts.count("") or np.isinf(floats).any():
        return None
    return None if not len(floats) or "_" in "".join(texts) else floats


def plain_floats(texts: list[str]) -> Column | None:
    """Return a column of plain finite numbers: int64 where all are written so, else float64.

    None for what is no such column. An empty cell among fractions is NaN.

    >>> plain_floats(["1", "2"]), plain_floats(["1.0", "2e0"])
    (array([1, 2]), array([1., 2.]))
    >>> plain_floats(["007", "012"]), plain_floats(["1_0"]), plain_floats(["1.5", ""])
    (None, None, array([1.5, nan]))
    """
    floats = finite_floats(texts)
    if floats is None or not _is_exact(floats):
        return None
    if _has_fraction(floats):
        return floats
    if np.isnan(floats).any():
        return None
    written = "".join(texts)
    if any(LEADING_ZERO.fullmatch(text) for text in texts if text[:1] in "0+-"):
        return None
    fractions = "." in written or "e" in written or "E" in written
    return floats if fractions else floats.astype(np.int64)


def stripped(column: list[str]) -> list[str]:
    """Return the cells without spaces around them.

    >>> stripped([" a", "b c"])
    ['a', 'b c']
    """
    text = "\n".join(column)
    bounds = ("\n ", " \n", "\n\t", "\t\n")
    if text != text.strip() or any(bound in text for bound in bounds):
        return [cell.strip() for cell in column]
    return column


def _by_pandas(stored: bytes, separator: str) -> list[np.ndarray]:
    """Columns as pandas reads them; none without it, and where it refuses them."""
    try:
        frame = _read_csv(stored, separator, keep_default_na=False, na_values=[""])
    except (ImportError, ValueError, OverflowError):
        return []
    return [frame[name].to_numpy() for name in frame]


def _texts_by_pandas(stored: bytes, separator: str, columns: Sequence[int]) -> Texts:
    try:
        frame = _read_csv(stored, separator, na_filter=False, usecols=columns, dtype=object)
    except (ImportError, ValueError, OverflowError):
        return {}
    return {column: stripped(frame[column].tolist()) for column in columns}


def _read_csv(stored: bytes, separator: str, **how: Any) -> Any:
    pandas: Any = importlib.import_module("pandas")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # columns of mixed types are read as text
        return pandas.read_csv(
            io.BytesIO(stored),
            sep=separator,
            header=None,
            skip_blank_lines=False,
            quoting=csv.QUOTE_NONE,
            **how,
        )


def _by_numpy(stored: bytes, separator: str) -> list[np.ndarray]:
    """All columns where every cell is a number, else none."""
    if b"_" in stored:
        return []
    try:
        lines = io.TextIOWrapper(io.BytesIO(stored), encoding="utf-8")
        return list(np.loadtxt(lines, delimiter=separator, comments=None, ndmin=2).T)
    except ValueError:
        return []


def _plain(array: np.ndarray, lengths: Int[np.ndarray, " rows"]) -> Column | None:
    """Return the numbers of a column where its text says no more; else None."""
    if not _is_exact(array):
        return None
    absent = np.isnan(array)
    if _has_fraction(array):
        return array if (lengths[absent] == 0).all() else None
    if absent.any():
        return None
    digits = 1 + np.searchsorted(POWERS, np.abs(array), side="right")
    return array.astype(np.int64) if (lengths == digits + (array < 0)).all() else None


def _is_exact(array: Shaped[np.ndarray, " rows"]) -> bool:
    """Whether these are numbers, none of them infinite or so large that digits are lost."""
    if array.dtype not in (np.int64, np.float64):
        return False
    most = np.abs(array).max(where=~np.isnan(array), initial=0)
    return bool(most < EXACT) and bool((~np.isnan(array)).any())


def _has_fraction(array: Column) -> bool:
    with np.errstate(invalid="ignore"):
        return bool((array[:100] % 1 > 0).any() or (array % 1 > 0).any())
