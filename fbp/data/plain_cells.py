"""The cells of a text without quotes: columns of numbers parsed at once, all others as text.

The numbers are the same ones as those of one cell after another, whatever is installed.
"""

import csv
import importlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int, Num, Shaped, UInt8

from fbp.data.cells import LEADING_ZERO
from fbp.data.decimals import EXACT, decimals

POWERS = 10 ** np.arange(1, 17)
SPACE = (ord(" "), ord("\t"))

Column = Num[np.ndarray, " rows"]


@dataclass(frozen=True, eq=False)
class Cells:
    """A text of as many cells in every line.

    Attributes:
      rows: the text, without a line end at its end.
      separator: what stands between two cells.
      stored: its bytes.
      starts, ends: where the bytes of each cell begin, and end.
      spaced: whether there are spaces around cells.
    """

    rows: str
    separator: str
    stored: UInt8[np.ndarray, " bytes"]
    starts: Int[np.ndarray, "rows columns"]
    ends: Int[np.ndarray, "rows columns"]
    spaced: bool

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.ends.shape[1]

    def lengths(self, column: int) -> Int[np.ndarray, " rows"]:
        """Return the bytes of each cell of a column."""
        return self.ends[:, column] - self.starts[:, column]

    def texts(self, column: int) -> list[str]:
        """Return the text of one column."""
        bounds = zip(self.starts[:, column].tolist(), self.ends[:, column].tolist(), strict=True)
        if len(self.rows) == len(self.stored):  # a byte is a letter
            return self.strip([self.rows[begin:end] for begin, end in bounds])
        stored = self.stored.tobytes()
        return self.strip([stored[begin:end].decode() for begin, end in bounds])

    def all_texts(self) -> list[list[str]]:
        """Return the text of all columns, which is quicker for all than one by one."""
        cells = self.rows.replace("\n", self.separator).split(self.separator)
        return [self.strip(cells[column :: self.width]) for column in range(self.width)]

    def strip(self, texts: list[str]) -> list[str]:
        """Return texts without the spaces around them."""
        return list(map(str.strip, texts)) if self.spaced else texts


def cells_of(rows: str, separator: str, width: int) -> Cells | None:
    r"""Return where the cells stand; None where a line has another number of them than `width`.

    >>> cells_of("1, a\n2,b", ",", 2).all_texts(), cells_of("1,2,3\n4", ",", 2)
    ([['1', '2'], ['a', 'b']], None)
    """
    signs = np.frombuffer(rows.encode(), np.uint8)
    bounds = (signs == ord(separator)) | (signs == ord("\n"))
    ends = np.append(np.flatnonzero(bounds), len(signs))
    if len(ends) % width:
        return None
    ends = ends.astype(np.int32) if len(signs) < 2**31 else ends
    spaced = rows != rows.strip(" \t") or any(_beside(bounds, signs == sign) for sign in SPACE)
    last = ends[width - 1 : -1 : width]
    if len(last) != rows.count("\n") or not (signs[last] == ord("\n")).all():
        return None
    starts = np.append(0, ends[:-1] + 1).astype(ends.dtype)
    return Cells(rows, separator, signs, starts.reshape(-1, width), ends.reshape(-1, width), spaced)


def split_cells(rows: str, separator: str, width: int) -> list[list[str]] | None:
    r"""Return the cells of each column, without spaces around them; None if a line is too short.

    >>> split_cells("1, a\n2,b", ",", 2), split_cells("1,2,3\n4", ",", 2)
    ([['1', '2'], ['a', 'b']], None)
    """
    cells = cells_of(rows, separator, width)
    return None if cells is None else cells.all_texts()


def parse_cells(rows: str, separator: str, width: int) -> list[Any] | None:
    r"""Return each column: an array where all its cells are plain finite numbers, else its text.

    Such columns are of int64 where all numbers are written as Python writes whole ones; where only
    some are, or one begins with a zero as `007` does, their text is kept. An empty cell among
    fractions is NaN. pandas parses them where it is installed, which is three times faster. None
    where a line has another number of cells than `width`.

    Args:
      rows: the text below the header, without quotes.
      separator: what stands between two cells.
      width: number of columns.

    >>> parse_cells("1,2.5,007\n3,1.0,012", ",", 3)
    [array([1, 3]), array([2.5, 1. ]), ['007', '012']]
    """
    cells = cells_of(rows, separator, width)
    if cells is None:
        return None
    read = _by_pandas(cells) or [None] * width
    return [_column(cells, number, column) for number, column in enumerate(read)]


def finite_floats(texts: Sequence[str]) -> Float64[np.ndarray, " rows"] | None:
    """Return the finite numbers in cells, NaN for empty ones; None where a cell is neither.

    >>> finite_floats(["1", "", "2.5"]), finite_floats(["1", "nan"]), finite_floats(["1_0"])
    (array([1. , nan, 2.5]), None, None)
    """
    try:
        floats = np.fromiter(map(float, texts), np.float64, len(texts))
        unwritten = 0
    except ValueError:
        try:
            floats = np.array([float(text) if text else np.nan for text in texts], np.float64)
        except ValueError:
            return None
        unwritten = texts.count("")
    if np.isfinite(floats).sum() != len(floats) - unwritten:
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


def _column(cells: Cells, number: int, read: Any) -> Column | list[str]:
    """Return a column's numbers where its text says no more, else its text."""
    texts: list[str] | None = read if isinstance(read, list) else None
    if texts is None:
        starts, ends = cells.starts[:, number], cells.ends[:, number]
        array: Any = decimals(cells.stored, starts, ends) if read is None else read
        plain = None if array is None else _plain(array, cells, number)
        if plain is not None:
            return plain
        texts = cells.texts(number)
    floats = plain_floats(texts)
    return texts if floats is None else floats


def _by_pandas(cells: Cells) -> list[Any]:
    """Columns as pandas reads them; none without it, and where it refuses them."""
    try:
        pandas: Any = importlib.import_module("pandas")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = pandas.read_csv(
                io.BytesIO(cells.stored.tobytes()),
                sep=cells.separator,
                header=None,
                skip_blank_lines=False,
                quoting=csv.QUOTE_NONE,
                keep_default_na=False,
                na_values=[""],
                low_memory=False,  # one type for all of a column, so that text is as it is written
            )
    except (ImportError, ValueError, OverflowError):
        return []
    if frame.shape != cells.ends.shape:
        return []
    return [_of_series(cells, number, frame[name]) for number, name in enumerate(frame)]


def _of_series(cells: Cells, number: int, series: Any) -> Column | list[str]:
    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "if":
        return series.to_numpy()
    filled = series.fillna("") if series.hasnans else series
    texts = filled.to_numpy(object).tolist()
    written = set(map(type, texts)) == {str}  # no large integers, nor TRUE and True alike
    return cells.strip(texts) if written else cells.texts(number)


def _beside(bounds: Bool[np.ndarray, " bytes"], signs: Bool[np.ndarray, " bytes"]) -> bool:
    """Whether such a sign is next to a bound."""
    if not signs.any():
        return False
    return bool((bounds[1:] & signs[:-1]).any() or (bounds[:-1] & signs[1:]).any())


def _plain(array: Shaped[np.ndarray, " rows"], cells: Cells, number: int) -> Column | None:
    """Return the numbers of a column where its text says no more; else None."""
    if not _is_exact(array):
        return None
    absent = np.isnan(array)
    if _has_fraction(array):
        written = cells.lengths(number)[absent] if absent.any() else 0
        return array if not np.any(written) else None
    if absent.any():
        return None
    digits = 1 + np.searchsorted(POWERS, np.abs(array), side="right")
    lengths = cells.lengths(number)
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
