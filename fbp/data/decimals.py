"""Columns of decimal numbers, parsed from the bytes of their cells all at once, without pandas.

A number is digits over a power of ten. Where both are whole numbers that float64 holds, the
quotient is the nearest float64 to what is written, which is what Python reads in the cell.
"""

import numpy as np
from jaxtyping import Float64, Int, UInt8

LONGEST = 24  # bytes of a cell
MOST_DIGITS = 18  # that int64 holds
EXACT = 2**53  # up to which float64 holds every whole number
POWERS = 10.0 ** np.arange(23)  # all of them exact
LOOK = 100  # cells that are tried first
ZERO, NINE, POINT, MINUS = map(ord, "09.-")


def decimals(
    stored: UInt8[np.ndarray, " bytes"],
    starts: Int[np.ndarray, " rows"],
    ends: Int[np.ndarray, " rows"],
) -> Float64[np.ndarray, " rows"] | None:
    """Return the numbers between these bytes, NaN where there are none.

    None where a cell is not of digits, with a point and a minus at most, or has digits too many.

    >>> text = np.frombuffer(b"-1.5,,20", np.uint8)
    >>> decimals(text, np.array([0, 5, 6]), np.array([4, 5, 8]))
    array([-1.5,  nan, 20. ])
    """
    if _parsed(stored, starts[:LOOK], ends[:LOOK]) is None:
        return None
    return _parsed(stored, starts, ends)


def _parsed(
    stored: UInt8[np.ndarray, " bytes"],
    starts: Int[np.ndarray, " rows"],
    ends: Int[np.ndarray, " rows"],
) -> Float64[np.ndarray, " rows"] | None:
    lengths = ends - starts
    width = int(lengths.max(initial=0))
    if not 0 < width <= LONGEST:
        return None
    at = starts[None] + np.arange(width)[:, None]
    signs = np.where(at < ends[None], stored.take(at, mode="clip"), 0)
    digits, points = (signs >= ZERO) & (signs <= NINE), signs == POINT
    negative = signs[0] == MINUS
    counts = digits.sum(axis=0, dtype=np.int32)
    after = np.where(points.any(axis=0), lengths - 1 - points.argmax(axis=0), 0)
    known = counts + points.sum(axis=0, dtype=np.int32) + negative == lengths
    if not known.all() or (points.sum(axis=0, dtype=np.int32) > 1).any():
        return None
    if counts.max() > MOST_DIGITS or ((counts == 0) & (lengths > 0)).any():
        return None
    mantissas = np.zeros(len(starts), np.int64)
    for row, is_digit in zip(signs, digits, strict=True):
        np.copyto(mantissas, mantissas * 10 + (row.astype(np.int64) - ZERO), where=is_digit)
    if mantissas.max(initial=0) >= EXACT:
        return None
    numbers = mantissas / POWERS[after]
    numbers = np.where(negative, -numbers, numbers)
    return np.where(lengths == 0, np.nan, numbers)
