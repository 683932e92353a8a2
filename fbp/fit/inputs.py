"""What examples are: the rows of a table, images, or sounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Num, Shaped

from fbp.errors import InputError

MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
LEAST_SIDE = 8  # pixels: smaller images are tables
MOST_COLOURS = 4


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns of equal length.

    A column is of float64, NaN where a value is missing, or of strings, empty where one is.
    """

    names: tuple[str, ...]
    columns: tuple[Shaped[np.ndarray, " rows"], ...]

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, rows: Any) -> "Table":
        return Table(self.names, tuple(column[rows] for column in self.columns))


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one size, `(examples, height, width, colours)`."""

    pixels: Num[np.ndarray, "examples height width colours"]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Any) -> "Images":
        return Images(self.pixels[rows])


@dataclass(frozen=True, eq=False)
class Sounds:
    """Sounds with one channel and any length.

    Attributes:
      waves: pressure over time, in any unit, one array a sound.
      rate: samples per second, of all of them.
    """

    waves: tuple[Float32[np.ndarray, " samples"], ...]
    rate: int

    def __len__(self) -> int:
        return len(self.waves)

    def __getitem__(self, rows: Any) -> "Sounds":
        chosen = np.arange(len(self))[rows]
        return Sounds(tuple(self.waves[row] for row in chosen), self.rate)


Inputs = Table | Images | Sounds


def inputs_of(x: Any) -> Inputs:
    """The examples in an array, a data frame, a `Table`, `Images` or `Sounds`.

    Arrays `(rows, columns)` are tables, `(rows, height, width)` and
    `(rows, height, width, colours)` are images if both sides have 8 pixels or more; other arrays
    of more dimensions become tables with a column for each number. A data frame (an object with
    `columns`, as pandas' or polars') is a table with its column names.

    Raises InputError for what is none of these, is empty, or holds infinity (a table's NaN is a
    missing value, an image's is an error).

    >>> inputs_of(np.zeros((5, 3))).names
    ('column 0', 'column 1', 'column 2')
    >>> type(inputs_of(np.zeros((5, 28, 28)))).__name__
    'Images'
    """
    if isinstance(x, Table | Images | Sounds):
        return x
    if hasattr(x, "columns"):
        names = [str(name) for name in x.columns]
        return table_of(names, [np.asarray(x[name]) for name in x.columns])
    array = np.asarray(x)
    if array.ndim < 2:
        raise InputError(
            f"x has shape {array.shape}: give an array of (rows, columns), or images of "
            "(rows, height, width)"
        )
    if array.size == 0:
        raise InputError(f"x is empty, shape {array.shape}: give at least one row and column")
    if array.ndim in (3, 4) and min(array.shape[1:3]) >= LEAST_SIDE:
        return _images(array)
    flat = array.reshape(len(array), -1)
    names = [f"column {number}" for number in range(flat.shape[1])]
    return table_of(names, list(flat.T))


def table_of(names: Sequence[str], columns: Sequence[Shaped[np.ndarray, " rows"]]) -> Table:
    """A table of these columns; a column of text is one of numbers where all its cells are.

    >>> table = table_of(["age", "kind"], [np.array(["3", "?"]), np.array(["a", "b"])])
    >>> [column.dtype.kind for column in table.columns]
    ['f', 'U']
    """
    if len(set(names)) != len(names):
        raise InputError(f"two columns have the same name in {', '.join(names)}: rename one")
    return Table(tuple(names), tuple(map(_column, names, columns)))


def _column(name: str, cells: np.ndarray) -> Shaped[np.ndarray, " rows"]:
    if cells.dtype.kind in "buif":
        return _finite(name, cells.astype(np.float64))
    if cells.dtype.kind not in "OUS":
        raise InputError(f"{name} is of {cells.dtype}: give real numbers or strings")
    texts = ["" if cell is None else str(cell).strip() for cell in cells.tolist()]
    texts = ["" if text.lower() in MISSING else text for text in texts]
    try:
        numbers = [float(text) if text else np.nan for text in texts]
    except ValueError:
        return np.array(texts)
    return _finite(name, np.array(numbers, np.float64))


def _finite(name: str, column: Float64[np.ndarray, " rows"]) -> Float64[np.ndarray, " rows"]:
    if np.isinf(column).any():
        row = int(np.flatnonzero(np.isinf(column))[0])
        raise InputError(f"{name}: row {row} is infinite: correct it, or leave it empty")
    if np.abs(column).max(initial=0, where=~np.isnan(column)) > np.finfo(np.float32).max:
        raise InputError(f"{name}: values too large for float32: rescale them first")
    return column


def _images(array: np.ndarray) -> Images:
    pixels = array[..., None] if array.ndim == 3 else array
    if pixels.shape[-1] > MOST_COLOURS:
        raise InputError(
            f"images of shape {array.shape[1:]} have {pixels.shape[-1]} colours: put the colours "
            "last, at most 4"
        )
    if pixels.dtype.kind not in "buif":
        raise InputError(f"the images are of {pixels.dtype}: give real numbers")
    if not np.isfinite(pixels).all():
        image = int(np.argwhere(~np.isfinite(pixels))[0][0])
        raise InputError(f"image {image} holds NaN or infinity: correct it or remove it")
    return Images(pixels)
