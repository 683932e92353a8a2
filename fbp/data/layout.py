"""How a text file is laid out: where its table begins, what separates the cells, the header."""

import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from fbp.data.cells import is_missing, number_of

SEPARATORS = ("\t", ";", "|", ",")  # the first that gives every line as many cells is taken
SPACES = " "  # one or more of them
SAMPLE = 60  # lines that are looked at to tell separator and header
MOST_COMMENT = 1000  # lines before the table


def head(text: str, lines: int) -> list[str]:
    r"""Return the first lines of a text, without a look at the rest.

    >>> head("a\nb\nc", 2)
    ['a', 'b']
    """
    end = 0
    for _ in range(lines):
        end = text.find("\n", end) + 1
        if not end:
            return text.split("\n")
    return text[: end - 1].split("\n")


def table_start(text: str) -> tuple[int, int]:
    r"""Return how many lines stand before the table, and how many of them are comments.

    Empty lines and those that begin with `#` do; but one that begins with `#` and has as many cells
    as the first line of numbers is the header.

    >>> table_start("# lab\n# 2024\na,b\n1,2\n")
    (2, 2)
    """
    lines = head(text, MOST_COMMENT)
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


def separator_of(lines: Sequence[str]) -> str:
    """Return what separates the cells: the first separator that gives every line as many cells.

    >>> separator_of(["a;b", "1,5;2"])
    ';'
    """
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
        return (words_of(line) for line in lines)
    return csv.reader(lines, delimiter=separator, skipinitialspace=True)


def words_of(line: str) -> list[str]:
    """Return the words of a line that spaces separate; quotes hold one together.

    >>> words_of('3  "New York" x')
    ['3', 'New York', 'x']
    """
    return [word.strip('"') for word in re.findall(r'"[^"]*"|[^\s"]+', line)]


def is_number_of_column(name: str) -> bool:
    """Return whether a column is called so because its file has no header.

    >>> is_number_of_column("column 3"), is_number_of_column("column c")
    (True, False)
    """
    return re.fullmatch(r"column [1-9]\d*", name) is not None


def first_is_data(rows: Sequence[Sequence[str]], names: Sequence[str]) -> bool:
    """Return whether the first row is of the same kinds as the others, and so no header.

    Every column of numbers has one in the first row; and a word of it stands below again, or
    there are no words and the numbers are not such as name columns (whole, different, rising).
    One of `names` in it makes it a header; names that are numbers only make it data.

    >>> first_is_data([["a", "b"], ["1", "2"]], []), first_is_data([["2", "1"], ["1", "2"]], [])
    (False, True)
    """
    first, below = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    if names and all(map(is_number_of_column, names)):
        return not set(names) & set(first)
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
