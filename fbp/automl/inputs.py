"""What examples are: the rows of a table, images, or sounds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Num

from fbp.data.table import Table, table_of
from fbp.errors import InputError

LEAST_SIDE = 8  # pixels: smaller images are tables
MOST_CHANNELS = 4


@dataclass(frozen=True, eq=False)
class Images:
    """Images of one size, `(examples, height, width, channels)`."""

    pixels: Num[np.ndarray, "examples height width channels"]

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
    """Return the examples in an array, a data frame, a `Table`, `Images` or `Sounds`.

    Arrays `(rows, columns)` are tables, `(rows, height, width)` and
    `(rows, height, width, channels)` are images if both sides have 8 pixels or more; other arrays
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
        if not len(x.columns) or not len(x):
            raise InputError("x is empty: give at least one row and column")
        columns = [x.iloc[:, i] for i in range(len(names))] if hasattr(x, "iloc") else None
        return table_of(names, columns or [x[name] for name in x.columns])
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise InputError("the rows of x differ in length: give all as many cells") from error
    if array.dtype.kind in "US" and not isinstance(x, np.ndarray):
        array = np.array(x, object)  # so that a number beside a word is a number
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
    return table_of(names, list(flat.T), named=False)


def _images(array: np.ndarray) -> Images:
    pixels = array[..., None] if array.ndim == 3 else array
    if pixels.shape[-1] > MOST_CHANNELS:
        raise InputError(
            f"images of shape {array.shape[1:]} have {pixels.shape[-1]} channels: put the channels "
            "last, at most 4"
        )
    if pixels.dtype.kind not in "buif":
        raise InputError(f"the images are of {pixels.dtype}: give real numbers")
    if not np.isfinite(pixels).all():
        image = int(np.argwhere(~np.isfinite(pixels))[0][0])
        raise InputError(f"image {image} holds NaN or infinity: correct it or remove it")
    return Images(pixels)
