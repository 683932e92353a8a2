"""The rows of a text file: quickly where all are of one length, with csv where they are not."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from fbp.data.layout import SAMPLE, SPACES, first_is_data, head, words_of
from fbp.data.plain_cells import parse_cells, split_cells, stripped
from fbp.data.quotes import unquoted
from fbp.errors import InputError

MOST_LINES = 2**62


@dataclass(frozen=True)
class RawTable:
    """Header and rows as they are written.

    Attributes:
      header: the cells of the first row; None where that is one of data.
      columns: the cells of each column, as text or as an array of numbers.
      lines: the line of the file on which each row ends.
      comments: number of lines passed over.
    """

    header: list[str] | None
    columns: list[Any]
    lines: Sequence[int] | Int[np.ndarray, " rows"]
    comments: int


def plain_rows(
    table: str, start: int, separator: str, names: Sequence[str], *, parse: bool
) -> RawTable | None:
    """Split a text where every line has as many cells, quotes only around cells; else return None.

    It gives what csv gives, several times faster. With `parse`, columns of plain numbers come as
    arrays, read by pandas where that is installed.
    """
    table = table.rstrip("\n")
    commented = "#" in table and "\n#" in table
    if not table or commented or separator == SPACES:
        return None
    flat = unquoted(table, separator) if '"' in table else None
    if flat is None and '"' in table:
        return None
    restored = flat.restored if flat else list
    text = flat.text if flat else table
    first = [
        restored([cell.strip() for cell in line.split(separator)]) for line in head(text, SAMPLE)
    ]
    width, is_data = len(first[0]), first_is_data(first, names)
    rows = text if is_data else text.partition("\n")[2]
    if width == 1 or not rows:
        return None
    columns = (parse_cells if parse else split_cells)(rows, separator, width)
    if columns is None:
        return None
    lines = flat.lines[1 - is_data :] + start if flat else range(start + 2 - is_data, MOST_LINES)
    columns = [column if isinstance(column, np.ndarray) else restored(column) for column in columns]
    return RawTable(None if is_data else first[0], columns, lines[: len(columns[0])], 0)


def quoted_rows(
    table: str, start: int, separator: str, names: Sequence[str], origin: str
) -> RawTable:
    """Read any text with csv, and check that its rows are of one length.

    Args:
      table: the text from the table's first line on.
      start: number of lines before it.
      separator: what stands between two cells.
      names: names that make the first row a header.
      origin: what the file is called in messages.

    Raises InputError, which names the line, for quotes that do not close and for rows of another
    number of cells.
    """
    try:
        rows = list(_lines(table, separator))
    except csv.Error as error:
        raise InputError(f"{origin}: not a CSV file ({error}): check its quotes") from error
    usual = Counter(len(cells) for _, cells in rows).most_common(1)[0][0] if rows else 0
    known = [row for row in rows if len(row[1]) == usual or not row[1][0].startswith("#")]
    if not known:
        raise InputError(f"{origin}: the file is empty: give a header and at least one row")
    lines, cells = [line + start for line, _ in known], [cells for _, cells in known]
    _check_widths(lines, cells, origin)
    first = [[cell.strip() for cell in row] for row in cells[:SAMPLE]]
    is_data = len(first[0]) == len(cells[-1]) and first_is_data(first, names)
    body = cells if is_data else cells[1:]
    columns = [stripped(list(column)) for column in zip(*body, strict=True)]
    header = None if is_data else first[0]
    return RawTable(header, columns, lines if is_data else lines[1:], len(rows) - len(known))


def _lines(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    if separator == SPACES:
        for number, line in enumerate(text.split("\n"), start=1):
            if cells := words_of(line):
                yield number, cells
        return
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter=separator, strict=True, skipinitialspace=True)
    for cells in reader:
        if cells and (len(cells) > 1 or cells[0].strip()):
            yield reader.line_num, cells


def _check_widths(lines: Sequence[int], rows: Sequence[list[str]], origin: str) -> None:
    """Every row has the header's number of cells, or one more throughout (row names, a comma)."""
    first, widths = len(rows[0]), Counter(map(len, rows[1:]))
    if set(widths) <= {first} or set(widths) == {first + 1}:
        return
    usual = first if widths[first] else widths.most_common(1)[0][0]
    body = zip(lines[1:], rows[1:], strict=True)
    line, cells = next(((n, row) for n, row in body if len(row) != usual), (lines[1], rows[1]))
    raise InputError(
        f"{origin}: line {line} has {len(cells)} cells, the header {first}: "
        "give every row one cell per column"
    )
