"""The table in a text: columns of text or of numbers, with or without names."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from fbp.data.layout import SAMPLE, head, separator_of, table_start
from fbp.data.rows import plain_rows, quoted_rows
from fbp.errors import InputError


@dataclass(frozen=True)
class Columns:
    """The text of a table.

    Attributes:
      header: names of the columns; None where the first row is one of data.
      columns: the cells of each column, as text or as an array of numbers.
      lines: the line on which each row ends.
      separator: what stands between two cells.
      notes: what a reader should know.
    """

    header: list[str] | None
    columns: list[Any]
    lines: Sequence[int] | Int[np.ndarray, " rows"]
    separator: str
    notes: tuple[str, ...]


def columns_of(
    text: str, origin: str, names: Sequence[str] = (), *, parse: bool = False
) -> Columns:
    """Return the columns of a text: `,`, `;`, tab, `|` or spaces separate its cells.

    Empty lines and those that begin with `#` but are no rows are passed over; so are cells that
    are empty in every row and have no name. The first row is the header, unless it is of the
    same kinds as those below; one of `names` in it makes it the header in any case.

    With `parse`, and where pandas is installed, columns of plain numbers come as arrays of numbers:
    the same ones, four times faster.

    Raises InputError, which names the line, for quotes that do not close and for rows of another
    number of cells.

    >>> table = columns_of("a;b\\n1,5;x\\n2,5;y\\n", "small.csv")
    >>> table.header, table.columns, table.separator
    (['a', 'b'], [['1,5', '2,5'], ['x', 'y']], ';')
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n")
        text = text.replace("\r", " " if "\n" in text else "\n")  # within a line, or ending it
    start, comments = table_start(text)
    table = text.split("\n", start)[start] if start else text
    separator = separator_of([line for line in head(table, SAMPLE) if line])
    body = plain_rows(table, start, separator, names, parse=parse)
    if body is None:
        body = quoted_rows(table, start, separator, names, origin)
    if not len(body.lines):
        raise InputError(f"{origin}: a header but no row: give at least one row")
    header, columns = _aligned(body.header, body.columns)
    comments += body.comments
    said = "1 line" if comments == 1 else f"{comments} lines"
    notes = (f"{said} of comment (#) passed over.",) if comments else ()
    return Columns(header, columns, body.lines, separator, notes)


def _aligned(header: list[str] | None, columns: list[Any]) -> tuple[list[str] | None, list[Any]]:
    """Header and columns of one number, without those that have no name and are empty."""
    if header is not None and len(columns) == len(header) + 1:
        header = ["", *header] if _filled(columns[-1]) else [*header, ""]  # R's row names; a comma
    used = [i for i, column in enumerate(columns) if _filled(column) or (header and header[i])]
    if len(used) < len(columns) and used:
        columns = [columns[i] for i in used]
        header = None if header is None else [header[i] for i in used]
    return header, columns


def _filled(column: Any) -> bool:
    return isinstance(column, np.ndarray) or any(column)
