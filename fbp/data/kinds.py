"""What a column of a table is: numbers, dates, words, or the number of the row.

A kind is recognized once, from the rows to learn from; it then says how every further cell is
read, each by itself.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped

from fbp.data.cells import (
    COMMA,
    DATE_FORMATS,
    GROUPS_COMMA,
    GROUPS_POINT,
    LEADING_ZERO,
    PLAIN,
    NumberFormat,
    date_of,
    is_missing,
    number_of,
    text_of,
    truth_of,
    unit_of,
)
from fbp.data.dates import dates_of
from fbp.data.plain_cells import finite_floats

Cells = Shaped[np.ndarray, " rows"]
UNREADABLE_SHARE = 0.1  # of the cells: with more, a column is one of words
UNIT_SAMPLE = 1000  # different cells from which a unit is told
LONGEST_MARKER = 10  # letters of what stands for a missing value, and spaces around
FEW_WORDS = 3  # so many different words may stand more often among many numbers, as "unknown"
ROW_NUMBERS = frozenset(
    ["", "index", "id", "row", "rowid", "row_id", "rownames", "rownumber", "obs", "no", "nr"]
)  # names of columns that count the rows, where their whole numbers rise from row to row

IDENTIFIERS = frozenset(["id", "rowid", "row_id", "rownames", "rownumber"])  # in any order


@dataclass(frozen=True)
class Numbers:
    """A column of numbers, and how they are written."""

    form: NumberFormat = PLAIN


@dataclass(frozen=True)
class Dates:
    """A column of dates or times, in one of `cells.DATE_FORMATS`."""

    form: str = "iso"


@dataclass(frozen=True)
class Words:
    """A column of words: each cell is one of a few, or a name."""


@dataclass(frozen=True)
class RowNumbers:
    """A column that numbers the rows, as pandas writes its index: it is not learnt from."""


Kind = Numbers | Dates | Words | RowNumbers


def recognize(name: str, cells: Cells, *, decimal_comma: bool = False) -> Kind:
    """Return what a column is.

    Text is numbers where all cells but a few are (a tenth at most, or three different words), in
    one format: with thousands separators, a currency, per cent, one unit, a decimal comma. Numbers
    that begin with a zero, as `007`, are words. Then dates are tried; the rest is words.

    Args:
      name: of the column.
      cells: floats, datetimes, or text.
      decimal_comma: whether `1,234` is rather a fraction than 1234, since commas do not separate
        the cells.

    >>> recognize("price", np.array(["$1,200", "$3", "n/a"], object))
    Numbers(form=NumberFormat(decimal='.', unit='$'))
    >>> recognize("code", np.array(["007", "012"], object))
    Words()
    """
    return _recognize(name, cells, _plain(cells), decimal_comma)


def read_column(
    name: str, cells: Cells, *, decimal_comma: bool = False
) -> tuple[Kind, Cells, Bool[np.ndarray, " rows"]]:
    """Return what a column is, and what `convert` gives for it; plain numbers are parsed once.

    >>> read_column("age", np.array(["1", "2"], object))[:2]
    (Numbers(form=NumberFormat(decimal='.', unit='')), array([1., 2.]))
    """
    floats = _plain(cells)
    kind = _recognize(name, cells, floats, decimal_comma)
    if floats is not None and kind == Numbers():
        return kind, floats, np.zeros(len(cells), bool)
    return kind, *convert(kind, cells)


def _plain(cells: Cells) -> Cells | None:
    return finite_floats(cells.tolist()) if cells.dtype.kind == "O" else None


def _recognize(name: str, cells: Cells, floats: Cells | None, decimal_comma: bool) -> Kind:
    if _counts_rows(name, cells if floats is None else floats):
        return RowNumbers()
    if cells.dtype.kind in "if":
        return Numbers()
    if cells.dtype.kind == "M":
        return Dates()
    if floats is not None:
        integral = bool((floats[~np.isnan(floats)] % 1 == 0).all())
        return Words() if integral and _are_codes(set(cells.tolist())) else Numbers()
    counts = Counter(cells.tolist())
    missing = missing_among(counts)
    known = {text: n for text, n in counts.items() if text not in missing}
    if not known:
        return Words() if any(not is_missing(text, word=True) for text in counts) else Numbers()
    form = _number_format(known, decimal_comma)
    if form is not None and not _are_codes(known):
        return Numbers(form)
    date = _date_format(known)
    return Words() if date is None else Dates(date)


def convert(kind: Kind, cells: Cells) -> tuple[Cells, Bool[np.ndarray, " rows"]]:
    """Return a column's values, each made of its cell alone, and which cells cannot be read.

    Floats with NaN for `Numbers`, `datetime64[s]` with NaT for `Dates`, text for `Words`.

    >>> values, unreadable = convert(Numbers(), np.array(["1", "", "-", "3.0M"], object))
    >>> values, unreadable
    (array([ 1., nan, nan, nan]), array([False, False, False,  True]))
    """
    match kind:
        case Numbers(form):
            return _numbers(form, cells)
        case Dates(form):
            return _dates(form, cells)
        case _:
            return as_text(cells), np.zeros(len(cells), bool)


def as_text(cells: Cells) -> Cells:
    """Return the cells as stripped text in an array of objects.

    >>> as_text(np.array([250.0, np.nan]))
    array(['250', ''], dtype=object)
    """
    if cells.dtype.kind == "M":
        texts = ["" if text == "NaT" else text for text in np.datetime_as_string(cells).tolist()]
    else:
        texts = cells.tolist()
        try:
            texts = list(map(str.strip, texts))
        except TypeError:  # not text
            known = {cell: text_of(cell) for cell in set(texts)}
            texts = list(map(known.__getitem__, texts))
    return object_array(texts)


def object_array(texts: list[str] | tuple[str, ...]) -> Cells:
    """Return an array of objects of one dimension, whatever the texts are."""
    array = np.empty(len(texts), object)
    array[:] = texts
    return array


def _numbers(form: NumberFormat, cells: Cells) -> tuple[Cells, Cells]:
    if cells.dtype.kind in "if":
        return cells.astype(np.float64, copy=False), np.zeros(len(cells), bool)
    if cells.dtype.kind == "M":
        return np.full(len(cells), np.nan), ~np.isnat(cells)
    if form == PLAIN and (floats := _plain(cells)) is not None:
        return floats, np.zeros(len(cells), bool)
    known = {text: _number_or_missing(text, form) for text in set(cells.tolist())}
    values = [known[text] for text in cells.tolist()]
    floats = np.array([np.nan if value is None else value for value in values], np.float64)
    return floats, np.array([value is None for value in values], bool)


def _number_or_missing(text: str, form: NumberFormat) -> float | None:
    number = number_of(text, form)
    if number is None:
        number = truth_of(text)
    return np.nan if number is None and is_missing(text, word=False) else number


def _dates(form: str, cells: Cells) -> tuple[Cells, Cells]:
    if cells.dtype.kind == "M":
        return cells, np.zeros(len(cells), bool)
    texts = as_text(cells).tolist()
    missing = missing_among(texts)
    known = list(set(texts) - missing)
    indices = {text: index for index, text in enumerate(known)} | dict.fromkeys(missing, -1)
    at = np.fromiter(map(indices.__getitem__, texts), np.int64, len(texts))
    dates = np.append(dates_of(known, form), np.datetime64("NaT"))[at]
    return dates, np.isnat(dates) & (at >= 0)


def missing_among(texts: Iterable[str]) -> set[str]:
    """Return those texts that stand for a missing value among numbers or dates.

    >>> sorted(missing_among(["1", "NA", "-", "None"]))
    ['-', 'NA', 'None']
    """
    short = {text for text in texts if len(text) <= LONGEST_MARKER}
    return {text for text in short if is_missing(text, word=False)}


def _counts_rows(name: str, numbers: Cells) -> bool:
    plain = name.strip().casefold().replace(" ", "").replace(".", "")
    if len(numbers) < 3 or (plain not in ROW_NUMBERS and not plain.startswith("unnamed:")):
        return False
    if numbers.dtype.kind not in "if" or not (numbers % 1 == 0).all():
        return False
    if plain in IDENTIFIERS or plain.startswith("unnamed:"):
        return len(np.unique(numbers)) == len(numbers)
    return bool((np.diff(numbers) > 0).all())


def _are_codes(texts: Iterable[str]) -> bool:
    """Whether digits are names, as 007 and 012: one in ten begins with a zero that counts not."""
    written = [text.strip() for text in texts if text.strip()]
    zeros = sum(bool(LEADING_ZERO.fullmatch(text)) for text in written if text[0] in "0+-")
    return zeros > 0 and zeros >= 0.1 * len(written)


def _number_format(counts: dict[str, int], decimal_comma: bool) -> NumberFormat | None:
    units = Counter()
    for text, count in itertools.islice(counts.items(), UNIT_SAMPLE):
        unit = unit_of(text.strip())
        if unit:
            units[unit] += count
    unit = units.most_common(1)[0][0] if units else ""
    decimal = "," if _comma_is_decimal(counts, unit, decimal_comma) else "."
    form = NumberFormat(decimal, unit)
    if _readable(counts, lambda text: number_of(text, form) is not None):
        with_unit = sum(n for text, n in counts.items() if unit and unit in text)
        mostly = 2 * with_unit >= sum(counts.values())
        return form if not unit or mostly else _without_unit(counts, decimal)
    return _without_unit(counts, decimal) if unit else None


def _without_unit(counts: dict[str, int], decimal) -> NumberFormat | None:
    form = NumberFormat(decimal)
    return form if _readable(counts, lambda text: number_of(text, form) is not None) else None


def _comma_is_decimal(counts: dict[str, int], unit: str, decimal_comma: bool) -> bool:
    bare = [t.replace(unit, "").strip() if unit else t.strip() for t in counts if "," in t]
    fraction = [bool(COMMA.fullmatch(text) or GROUPS_COMMA.fullmatch(text)) for text in bare]
    grouped = [bool(GROUPS_POINT.fullmatch(text)) for text in bare]
    only_fraction = sum(f and not g for f, g in zip(fraction, grouped, strict=True))
    only_grouped = sum(g and not f for f, g in zip(fraction, grouped, strict=True))
    if only_fraction == only_grouped:
        return any(fraction) and decimal_comma
    return only_fraction > only_grouped


def _readable(counts: dict[str, int], reads: Callable[[str], bool]) -> bool:
    """Whether so many cells can be read that the others are exceptions."""
    cells, lost, unread = sum(counts.values()), 0, 0
    for text, count in counts.items():
        if not reads(text):
            lost, unread = lost + count, unread + 1
            if lost > max(1, UNREADABLE_SHARE * cells) and unread > FEW_WORDS:
                return False
    return _are_exceptions(cells, lost, len(counts), unread)


def _are_exceptions(cells: int, lost: int, different: int, unread: int) -> bool:
    """Whether cells are few, or of few words, that cannot be read."""
    most = max(1, UNREADABLE_SHARE * cells)
    readable = different - unread
    if (lost > most and unread > FEW_WORDS) or (readable < 2 and unread):
        return False
    return lost <= most or (readable >= 20 and 2 * lost <= cells)


def _date_format(counts: dict[str, int]) -> str | None:
    texts = list(counts)
    sample = {text: counts[text] for text in texts[:: max(1, len(texts) // 50)]}
    cells = np.fromiter(counts.values(), np.int64, len(counts))
    for form in DATE_FORMATS:
        if _readable(sample, lambda text, form=form: date_of(text, form) is not None):
            unread = np.isnat(dates_of(texts, form))
            lost = int(cells[unread].sum())
            if _are_exceptions(int(cells.sum()), lost, len(texts), int(unread.sum())):
                return form
    return None
