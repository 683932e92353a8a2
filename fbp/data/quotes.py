r"""Quoted cells of a text: written without quotes, what they hold of its layout put out of sight.

A separator, an end of line or a quote within quotes is a control character meanwhile, so that the
text can be read as one without quotes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt8

QUOTE, NEWLINE = ord('"'), ord("\n")
HELD_QUOTE, HELD_NEWLINE, HELD_SEPARATOR = "\x01", "\x02", "\x03"
HELD = (HELD_QUOTE, HELD_NEWLINE, HELD_SEPARATOR)

Signs = UInt8[np.ndarray, " bytes"]


@dataclass(frozen=True, eq=False)
class Unquoted:
    """A text without quotes.

    Attributes:
      text: with control characters for what quotes held.
      lines: the line of the original on which each of its lines ends, from 1.
      separator: what stands between two cells.
    """

    text: str
    lines: Int[np.ndarray, " lines"]
    separator: str

    def restored(self, cells: list[str]) -> list[str]:
        """Return cells as they were between their quotes."""
        joined = "\n".join(cells)
        if not any(sign in joined for sign in HELD):
            return cells
        held = joined.replace(HELD_SEPARATOR, self.separator).replace(HELD_QUOTE, '"')
        cells = held.split("\n")
        return [c.replace(HELD_NEWLINE, "\n") for c in cells] if HELD_NEWLINE in held else cells


def unquoted(text: str, separator: str) -> Unquoted | None:
    r"""Return a text without its quotes; None where one stands elsewhere than around a cell.

    >>> flat = unquoted('a,"b ""c"", d"\n1,"2\n3"', ",")
    >>> flat.lines, [flat.restored(line.split(",")) for line in flat.text.split("\n")]
    (array([1, 3]), [['a', 'b "c", d'], ['1', '2\n3']])
    >>> unquoted('a,5"\n', ",")
    """
    if any(sign in text for sign in HELD):
        return None
    signs = np.frombuffer(text.encode(), np.uint8)
    quoting = signs == QUOTE
    quotes = np.flatnonzero(quoting)
    opening, closing = quotes[::2], quotes[1::2]
    if len(opening) != len(closing):
        return None
    doubled = opening[1:] == closing[:-1] + 1  # a quote that is written twice within quotes
    if not _around_cells(signs, opening, closing, doubled, ord(separator)):
        return None
    inside = np.bitwise_xor.accumulate(quoting.view(np.uint8)).view(bool)
    flat = signs.copy()
    flat[inside & (signs == ord(separator))] = ord(HELD_SEPARATOR)
    ends = np.flatnonzero(signs == NEWLINE)
    outer = ~inside[ends]
    flat[ends[~outer]] = ord(HELD_NEWLINE)
    second = closing[:-1][doubled]
    flat[second], quoting[second] = ord(HELD_QUOTE), False
    lines = np.append(np.flatnonzero(outer), len(ends)) + 1
    return Unquoted(flat[~quoting].tobytes().decode(), lines, separator)


def _around_cells(
    signs: Signs,
    opening: Int[np.ndarray, " quotes"],
    closing: Int[np.ndarray, " quotes"],
    doubled: Bool[np.ndarray, " others"],
    separator: int,
) -> bool:
    """Whether quotes open at the beginning of a cell and close at its end."""
    padded = np.concatenate([[NEWLINE], signs, [NEWLINE]])
    before = padded[opening[np.append(True, ~doubled)]]
    after = padded[closing[np.append(~doubled, True)] + 2]
    bounds = np.concatenate([before, after])
    return bool(((bounds == separator) | (bounds == NEWLINE)).all())
