"""The cells of a text file: its encoding, what separates the cells, where the rows begin."""

import csv
import importlib
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fbp.data.cells import is_missing, number_of
from fbp.errors import InputError

SEPARATORS = ("\t", ";", "|", ",")  # the first that gives every line as many cells is taken
SPACES = " "  # one or more of them
SAMPLE = 60  # lines that are looked at to tell separator and header
FORMS = {b"PK\x03\x04": "an Excel or ZIP file", b"\xd0\xcf\x11\xe0": "an old Excel file"}
FORMS |= {b"PAR1": "a Parquet file", b"\x1f\x8b": "a gzip file", b"%PDF": "a PDF file"}


@dataclass(frozen=True)
class Body:
    """Header and rows as they are written.

    Attributes:
      header: the cells of the first row; None where that is one of data.
      columns: the cells of each column, as text or as an array of numbers.
      lines: the line of the file on which each row ends.
      comments: number of lines passed over.
    """

    header: list[str] | None
    columns: list[Any]
    lines: Sequence[int]
    comments: int


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
    lines: Sequence[int]
    separator: str
    notes: tuple[str, ...]


def decode(stored: bytes, origin: str) -> tuple[str, tuple[str, ...]]:
    """Return the text of a file, and a note where it is not of UTF-8.

    Raises InputError for what is no text.

    >>> decode("größe".encode("latin-1"), "old.csv")
    ('größe', ('The file is not of UTF-8; it was read as Windows-1252 (latin-1).',))
    """
    for magic, form in FORMS.items():
        if stored.startswith(magic):
            raise InputError(f"{origin}: this is {form}: name it as one, or save it as CSV")
    if stored[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text, notes = _decoded(stored, "utf-16", origin), ("The file was read as UTF-16.",)
    else:
        try:
            text, notes = stored.decode("utf-8-sig"), ()
        except UnicodeDecodeError:
            text = stored.decode("cp1252", "replace")
            notes = ("The file is not of UTF-8; it was read as Windows-1252 (latin-1).",)
    if "\0" in text:
        line = 1 + text.count("\n", 0, text.index("\0"))
        raise InputError(f"{origin}: line {line} holds a NUL byte: this is no text, or damaged")
    return text, notes


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
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    start, comments = _first_line(text)
    table = text.split("\n", start)[start] if start else text
    separator = _separator([line for line in table.split("\n", SAMPLE)[:SAMPLE] if line])
    body = _simple(table, start, separator, names, parse)
    if body is None:
        body = _quoted(table, start, separator, names, origin)
    if not body.lines:
        raise InputError(f"{origin}: a header but no row: give at least one row")
    header, columns = _aligned(body.header, body.columns)
    comments += body.comments
    said = "1 line" if comments == 1 else f"{comments} lines"
    notes = (f"{said} of comment (#) passed over.",) if comments else ()
    return Columns(header, columns, body.lines, separator, notes)


def _decoded(stored: bytes, encoding: str, origin: str) -> str:
    try:
        return stored.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{origin}: damaged {encoding} text ({error.reason})") from error


def _first_line(text: str) -> tuple[int, int]:
    """How many lines stand before the table, and how many of them are comments."""
    lines = text.split("\n", 1000)
    first = 0
    while first < len(lines) - 1 and (not lines[first].strip() or lines[first][0] == "#"):
        first += 1
    comments = [line for line in lines[:first] if line.startswith("#")]
    if comments and _is_header(comments[-1], lines[first]):
        first = max(i for i in range(first) if lines[i].startswith("#"))
        comments.pop()
    return first, len(comments)


def _is_header(comment: str, line: str) -> bool:
    """Whether a line that begins with # names the columns of the next one."""
    counts = [(comment.count(s), line.count(s)) for s in SEPARATORS]
    numbers = any(number_of(cell) is not None for cell in re.split(r"[,;|\t]", line))
    return numbers and any(a == b and a > 0 for a, b in counts)


def _separator(lines: Sequence[str]) -> str:
    best, agreeing = ",", 0.0
    for separator in (*SEPARATORS, SPACES):
        widths = Counter(len(cells) for cells in _split(lines, separator) if cells)
        widths.pop(1, None)
        if not widths:
            continue
        width, count = widths.most_common(1)[0]
        share = (count + 0.5 * widths[width - 1]) / len(lines)
        if separator == SPACES and share < 1:
            continue
        if share >= 1 - 0.5 / len(lines):
            return separator
        if share > agreeing:
            best, agreeing = separator, share
    return best


def _split(lines: Sequence[str], separator: str) -> Iterator[list[str]]:
    if separator == SPACES:
        return (_words(line) for line in lines)
    return csv.reader(lines, delimiter=separator, skipinitialspace=True)


def _words(line: str) -> list[str]:
    return [word.strip('"') for word in re.findall(r'"[^"]*"|[^\s"]+', line)]


def _simple(
    table: str, start: int, separator: str, names: Sequence[str], parse: bool
) -> Body | None:
    """Split a text where no cell is quoted and every line has as many cells; else return None.

    It gives what csv gives, several times faster.
    """
    table = table.rstrip("\n")
    if '"' in table or separator == SPACES or "\n\n" in table or "\n#" in table:
        return None
    first = [line.split(separator) for line in table.split("\n", SAMPLE)[:SAMPLE]]
    width, count = len(first[0]), table.count("\n") + 1
    if width == 1 or table.count(separator) != (width - 1) * count:
        return None
    first = [[cell.strip() for cell in row] for row in first]
    is_data = _is_data(first, names)
    lines = range(start + 2 - is_data, start + count + 1)
    rows = table if is_data else table.partition("\n")[2]
    header = None if is_data else first[0]
    numbers = _numbers(rows, separator, len(lines)) if parse and rows else [None] * width
    if len(numbers) == width and not any(column is None for column in numbers):
        return Body(header, numbers, lines, 0)
    if any(line.count(separator) != width - 1 for line in rows.split("\n")):
        return None
    cells = rows.replace("\n", separator).split(separator) if rows else []
    spaced = " " in rows or (separator != "\t" and "\t" in rows)
    columns: list[Any] = [cells[number::width] for number in range(width)]
    columns = [_stripped(column) if spaced else column for column in columns]
    if len(numbers) == width:
        columns = [c if n is None else n for c, n in zip(columns, numbers, strict=True)]
    return Body(header, columns, lines, 0)


def _numbers(rows: str, separator: str, count: int) -> list[Any]:
    """Columns of plain finite numbers as arrays, None for all others; empty without pandas.

    pandas refuses a row of more cells than the first, so that with as many separators as there
    ought to be, all rows are of one length.
    """
    try:
        pandas: Any = importlib.import_module("pandas")
        frame = pandas.read_csv(
            io.BytesIO(rows.encode()),
            sep=separator,
            header=None,
            na_filter=False,
            low_memory=False,
            skip_blank_lines=False,
            quoting=csv.QUOTE_NONE,
        )
    except (ImportError, ValueError, OverflowError):
        return []
    arrays = [frame[name].to_numpy() for name in frame]
    plain = [a.dtype in (np.int64, np.float64) and bool(np.isfinite(a).all()) for a in arrays]
    finite = [array for array, is_plain in zip(arrays, plain, strict=True) if is_plain]
    whole = any(array[0] % 1 == 0 and (array % 1 == 0).all() for array in finite)
    if len(frame) != count or (whole and _leading_zeros(rows, separator)):
        return []
    return [array if is_plain else None for array, is_plain in zip(arrays, plain, strict=True)]


def _leading_zeros(rows: str, separator: str) -> bool:
    """Whether a cell may be a code such as 007, which only its text tells."""
    before = f"^|{re.escape(separator)}"
    return re.search(f"(?:{before}) *[+-]?0[0-9]", rows, re.MULTILINE) is not None


def _stripped(column: list[str]) -> list[str]:
    text = "\n".join(column)
    return [cell.strip() for cell in column] if " " in text or "\t" in text else column


def _quoted(table: str, start: int, separator: str, names: Sequence[str], origin: str) -> Body:
    """Read any text with csv, and check that its rows are of one length."""
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
    is_data = len(first[0]) == len(cells[-1]) and _is_data(first, names)
    body = cells if is_data else cells[1:]
    columns = [_stripped(list(column)) for column in zip(*body, strict=True)]
    header = None if is_data else first[0]
    return Body(header, columns, lines if is_data else lines[1:], len(rows) - len(known))


def _lines(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    if separator == SPACES:
        for number, line in enumerate(text.split("\n"), start=1):
            if cells := _words(line):
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
    line, cells = next(
        (n, row) for n, row in zip(lines[1:], rows[1:], strict=True) if len(row) != usual
    )
    raise InputError(
        f"{origin}: line {line} has {len(cells)} cells, the header {first}: "
        "give every row one cell per column"
    )


def _is_data(rows: Sequence[Sequence[str]], names: Sequence[str]) -> bool:
    """Whether the first row is of the same kinds as the others, and so no header.

    Every column of numbers has one in the first row; and a word of it stands below again, or
    there are no words and the numbers are not such as name columns (whole, different, rising).
    """
    first, below = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    if set(names) & set(first) or not below:
        return False
    columns = list(zip(*below, strict=True))
    known = [[cell for cell in column if not is_missing(cell, word=False)] for column in columns]
    numeric = [bool(k) and all(number_of(cell) is not None for cell in k) for k in known]
    if not any(numeric):
        return False
    heads = [cell for cell, of_numbers in zip(first, numeric, strict=True) if of_numbers]
    if any(
        number_of(cell) is None and not (cell and is_missing(cell, word=False)) for cell in heads
    ):
        return False
    words = [i for i, of_numbers in enumerate(numeric) if not of_numbers]
    if words:
        return any(first[i] and first[i] in columns[i] for i in words)
    values = [number for number in map(number_of, heads) if number is not None]
    naming = all(value.is_integer() for value in values) and len(values) > 1
    return not (naming and all(b > a for a, b in itertools.pairwise(values)))


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
