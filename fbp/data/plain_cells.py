"""The cells of a text without quotes: columns of numbers parsed at once, all others as text.

The numbers are the same ones as those of one cell after another, whatever is installed.
"""

import csv
import functools
import importlib
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, Num, Shaped

from fbp.data.cells import LEADING_ZERO

EXACT = 2**53  # up to which float64 holds every whole number
POWERS = 10 ** np.arange(1, 17)

Column = Num[np.ndarray, " rows"]
Texts = dict[int, list[str]]


def split_cells(rows: str, separator: str, width: int) -> list[list[str]] | None:
    r"""Return the cells of each column, without spaces around them; None if a line is too short.

    >>> split_cells("1, a\n2,b", ",", 2), split_cells("1,2,3\n4", ",", 2)
    ([['1', '2'], ['a', 'b']], None)
    """
    if any(line.count(separator) != width - 1 for line in rows.split("\n") if rows):
        return None
    cells = rows.replace("\n", separator).split(separator) if rows else []
    around = (f" {separator}", f"{separator} ", " \n", "\n ")
    spaced = rows != rows.strip() or any(spaces in rows for spaces in around)
    spaced = spaced or (separator != "\t" and "\t" in rows)
    texts = [cells[column::width] for column in range(width)]
    return [stripped(cells) for cells in texts] if spaced else texts


def parse_cells(rows: str, separator: str, width: int) -> list[Any] | None:
    r"""Return each column: an array where all its cells are plain finite numbers, else its text.

    Such columns are of int64 where all numbers are written as Python writes whole ones; where only
    some are, or one begins with a zero as `007` does, their text is kept. An empty cell among
    fractions is NaN. pandas parses them where it is installed, which is three times faster. None
    where a line has another number of cells; in all there are to be `width` a line.

    Args:
      rows: the text below the header, without quotes.
      separator: what stands between two cells.
      width: number of columns.

    >>> parse_cells("1,2.5,007\n3,1.0,012", ",", 3)
    [array([1, 3]), array([2.5, 1. ]), ['007', '012']]
    """
    stored = rows.encode()
    arrays = (_by_pandas(stored, separator) or _by_numpy(stored, separator)) if rows else []
    if len(arrays) != width:
        texts = split_cells(rows, separator, width)
        return None if texts is None else [_parsed(cells) for cells in texts]
    lengths = functools.cache(lambda: _lengths(stored, separator, width))
    columns: list[Any] = [_plain(array, lengths, i) for i, array in enumerate(arrays)]
    rest = [number for number, column in enumerate(columns) if column is None]
    texts = _texts_by_pandas(stored, separator, rest) if rest else {}
    if texts is None:
        texts = dict(enumerate(split_cells(rows, separator, width) or []))
    for number in rest:
        columns[number] = _parsed(texts[number])
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


def _parsed(texts: list[str]) -> Column | list[str]:
    floats = plain_floats(texts)
    return texts if floats is None else floats


def _lengths(stored: bytes, separator: str, width: int) -> Int[np.ndarray, "rows columns"]:
    """Bytes of each cell, where every line has `width` of them."""
    signs = np.frombuffer(stored, np.uint8)
    ends = np.flatnonzero((signs == ord(separator)) | (signs == ord("\n")))
    bounds = np.concatenate([[-1], ends, [len(stored)]])
    return (np.diff(bounds) - 1).reshape(-1, width)


def _by_pandas(stored: bytes, separator: str) -> list[np.ndarray]:
    """Columns as pandas reads them; none without it, and where it refuses them."""
    try:
        frame = _read_csv(stored, separator, keep_default_na=False, na_values=[""])
    except (ImportError, ValueError, OverflowError):
        return []
    return [frame[name].to_numpy() for name in frame]


def _texts_by_pandas(stored: bytes, separator: str, columns: Sequence[int]) -> Texts | None:
    try:
        frame = _read_csv(stored, separator, na_filter=False, usecols=columns, dtype=object)
    except (ImportError, ValueError, OverflowError):
        return None
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


def _plain(
    array: np.ndarray, lengths: Callable[[], Int[np.ndarray, "rows columns"]], number: int
) -> Column | None:
    """Return the numbers of a column where its text says no more; else None."""
    if not _is_exact(array):
        return None
    absent = np.isnan(array)
    if _has_fraction(array):
        return array if not absent.any() or (lengths()[absent, number] == 0).all() else None
    if absent.any():
        return None
    digits = 1 + np.searchsorted(POWERS, np.abs(array), side="right")
    return array.astype(np.int64) if (lengths()[:, number] == digits + (array < 0)).all() else None


def _is_exact(array: Shaped[np.ndarray, " rows"]) -> bool:
    """Whether these are numbers, none of them infinite or so large that digits are lost."""
    if array.dtype not in (np.int64, np.float64):
        return False
    most = np.abs(array).max(where=~np.isnan(array), initial=0)
    return bool(most < EXACT) and bool((~np.isnan(array)).any())


def _has_fraction(array: Column) -> bool:
    with np.errstate(invalid="ignore"):
        return bool((array[:100] % 1 > 0).any() or (array % 1 > 0).any())
