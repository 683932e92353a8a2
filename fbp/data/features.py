"""From the columns of a table to numbers near 0: how is learnt from the training rows.

A new cell is read by what was learnt of its column, never by the cells beside it: the features of
many rows are those of each row alone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from fbp.data.cells import number_of, truth_of
from fbp.data.kinds import Dates, Kind, Numbers, RowNumbers, Words, as_text, convert
from fbp.data.table import Table, read_columns
from fbp.errors import InputError

MOST_WORDS = 200  # of a column: the commonest; all further ones are "other"
MOST_FEATURES = 5e7  # rows times features of words, some 200 MB: with more, fewer words are kept
MOST_NAMED = 10  # columns that a note tells of
ROUNDING = 1e-12  # of the largest value: columns that vary by less are constant but for rounding
SENTINELS = (-1.0, -9.0, -99.0, -999.0, -9999.0, -99999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0)
YEAR, WEEK, DAY = 365.2425, 7, 86400  # days, days, seconds


@dataclass(frozen=True)
class Numeric:
    """A column of numbers: (value - mean) / std; a missing value counts as the mean.

    Attributes:
      name, kind: of the column.
      mean, std, low, high: of the training rows. A value further out than their range is wide
        counts as if it were just that far out.
      missing: whether a further feature is 1 where the value is missing.
    """

    name: str
    kind: Numbers
    mean: float
    std: float
    low: float
    high: float
    missing: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        return (self.name, f"{self.name}: missing") if self.missing else (self.name,)


@dataclass(frozen=True)
class Categorical:
    """A column of words: one-hot encoding of the words of the training rows.

    Attributes:
      name: of the column.
      words: those that have a feature of their own; '' stands for a missing cell.
      other: whether a further feature is 1 for every other word.
    """

    name: str
    words: tuple[str, ...]
    other: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        words = tuple(f"{self.name}={word or 'missing'}" for word in self.words)
        return (*words, f"{self.name}: other") if self.other else words


@dataclass(frozen=True)
class Dated:
    """A column of dates: days elapsed, year, and where in the year, the week and the day.

    Attributes:
      name, kind: of the column.
      days: mean, std, low and high of the days since 1970.
      times: whether there are times of the day.
      missing: whether a further feature is 1 where the date is missing.
    """

    name: str
    kind: Dates
    days: tuple[float, float, float, float]
    times: bool = False
    missing: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        weekdays = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
        parts = ["elapsed", "year", "month (sin)", "month (cos)", *weekdays]
        parts += ["time (sin)", "time (cos)"] if self.times else []
        parts += ["missing"] if self.missing else []
        return tuple(f"{self.name}: {part}" for part in parts)


Column = Numeric | Categorical | Dated


@dataclass(frozen=True)
class TableEncoder:
    """How a table becomes features.

    Attributes:
      columns: those that are used.
      names: of all columns of the training table, in order.
      named: whether they have names of their own.
    """

    columns: tuple[Column, ...]
    names: tuple[str, ...]
    named: bool = True

    @property
    def features(self) -> tuple[str, ...]:
        """Name each feature."""
        return tuple(feature for column in self.columns for feature in column.features)


def learn_table(
    table: Table, rows: Shaped[np.ndarray, " some"] | slice = slice(None)
) -> tuple[TableEncoder, tuple[str, ...], tuple[Shaped[np.ndarray, " rows"], ...]]:
    """Learn how a table becomes features: kinds from all rows, numbers and words from `rows`.

    Left out are columns that are empty, constant, count the rows, or hold names (words of which
    hardly one comes twice); each is named in a note.

    Returns the encoder, the notes, and the values of each column by its kind.

    Raises InputError where no column is left.

    >>> from fbp.data.table import table_of
    >>> encoder, notes, _ = learn_table(table_of(["age"], [np.array([1.0, 3.0, np.nan])]))
    >>> encoder.features, notes
    (('age', 'age: missing'), ("Missing values count as the column's mean: 1 in age.",))
    """
    kinds, values, notes = read_columns(table)
    learning = [column[rows] for column in values]
    words = sum(isinstance(kind, Words) for kind in kinds)
    most = int(np.clip(MOST_FEATURES / max(1, len(table) * words), 20, MOST_WORDS))
    learnt = [
        _learn(name, kind, cells, most)
        for name, kind, cells in zip(table.names, kinds, learning, strict=True)
    ]
    used = tuple(column for column in learnt if not isinstance(column, str))
    left_out = {n: why for n, why in zip(table.names, learnt, strict=True) if isinstance(why, str)}
    if not used:
        raise InputError(f"no column can be used: {_reasons(left_out)}")
    said = (f"Left out: {_reasons(left_out)}.",) if left_out else ()
    cells = dict(zip(table.names, learning, strict=True))
    notes = (
        *table.notes,
        *notes,
        *_format_notes(used),
        *_missing_note(used, cells),
        *_sentinel_notes(used, cells),
        *_other_notes(used),
        *said,
    )
    return TableEncoder(used, table.names, table.named), notes, values


def encode_table(encoder: TableEncoder, table: Table) -> Float32[np.ndarray, "rows features"]:
    """Return the features of each row.

    Columns that are not used may be missing, and there may be further ones; a table without
    names must have as many columns as the training's.

    Raises InputError where a column is missing.

    >>> from fbp.data.table import table_of
    >>> encoder, _, _ = learn_table(table_of(["kind"], [["a", "b", "a", "b"]]))
    >>> encode_table(encoder, table_of(["kind"], [["b", "a", "c"]]))
    array([[0., 1.],
           [1., 0.],
           [0., 0.]], dtype=float32)
    """
    columns = [_encode(c, cells) for c, cells in _matched(encoder, table)]
    return np.concatenate(columns, axis=1).astype(np.float32)


def encode_values(
    encoder: TableEncoder, names: Sequence[str], values: Sequence[Shaped[np.ndarray, " rows"]]
) -> Float32[np.ndarray, "rows features"]:
    """Return the features of values that `learn_table` has read, without reading them again."""
    cells = dict(zip(names, values, strict=True))
    columns = [_encode(column, cells[column.name]) for column in encoder.columns]
    return np.concatenate(columns, axis=1).astype(np.float32)


def unfamiliar(encoder: TableEncoder, table: Table) -> tuple[str, ...]:
    """Return a note for each column with cells that the training rows prepared nobody for.

    >>> from fbp.data.table import table_of
    >>> encoder, _, _ = learn_table(table_of(["kind"], [["a", "b", "a", "b"]]))
    >>> unfamiliar(encoder, table_of(["kind"], [["b", "c"]]))
    ("kind: 1 cell with a word that training has not seen, first 'c' in row 2.",)
    """
    notes = [_unfamiliar(c, cells, table) for c, cells in _matched(encoder, table)]
    return tuple(note for note in notes if note)


def mean_and_std(values: Float64[np.ndarray, "..."]) -> tuple[float, float]:
    """Return the mean and the standard deviation; 1 where values vary by rounding errors only.

    >>> mean_and_std(np.full(200, 0.1))
    (0.1, 1.0)
    """
    values = np.asarray(values, np.float64)
    low, high = float(values.min()), float(values.max())
    if is_constant(values):
        return low, 1.0
    scale = max(abs(low), abs(high))
    scaled = values / scale  # so that no square overflows
    return scale * float(scaled.mean()), scale * float(scaled.std())


def is_constant(values: Float64[np.ndarray, "..."]) -> bool:
    """Return whether values are the same but for rounding."""
    low, high = float(values.min()), float(values.max())
    scale = max(abs(low), abs(high))
    return scale == 0 or high / scale - low / scale <= ROUNDING


def _learn(name: str, kind: Kind, cells: np.ndarray, most: int) -> Column | str:
    """The column's encoding, or why it is left out."""
    match kind:
        case RowNumbers():
            return "numbers the rows"
        case Numbers():
            known = cells[~np.isnan(cells)]
            return _numeric(name, kind, known, len(known) < len(cells))
        case Dates():
            known = cells[~np.isnat(cells)]
            return _dated(name, kind, known, len(known) < len(cells))
        case Words():
            return _categorical(name, cells, most)


def _numeric(name: str, kind: Numbers, known: np.ndarray, missing: bool) -> Column | str:
    if not len(known):
        return "is empty"
    if is_constant(known) and not missing:
        return f"is {known[0]:g} in every row"
    mean, std = mean_and_std(known)
    return Numeric(name, kind, mean, std, float(known.min()), float(known.max()), missing)


def _dated(name: str, kind: Dates, known: np.ndarray, missing: bool) -> Column | str:
    if not len(known):
        return "is empty"
    days = known.astype("datetime64[s]").astype(np.int64) / DAY
    if is_constant(days) and not missing:
        return "is one date in every row"
    bounds = (*mean_and_std(days), float(days.min()), float(days.max()))
    return Dated(name, kind, bounds, bool((days % 1 != 0).any()), missing)


def _categorical(name: str, cells: np.ndarray, most: int) -> Column | str:
    counts = Counter(cells.tolist())
    if len(counts) == 1:
        word = next(iter(counts))
        return f"is {word[:40]!r} in every row" if word else "is empty"
    few = len(counts) <= min(most, max(2, len(cells) / 2))
    common = [w for w, n in counts.most_common(most) if n > 1 or few]
    if not common:
        return f"holds names, {len(counts):,} different words in {len(cells):,} rows"
    return Categorical(name, tuple(sorted(common)), len(common) < len(counts))


def _matched(encoder: TableEncoder, table: Table) -> list[tuple[Column, np.ndarray]]:
    if not table.named and len(table.names) == len(encoder.names):
        cells = dict(zip(encoder.names, table.columns, strict=True))
    elif not table.named and not encoder.named:
        raise InputError(
            f"x has {len(table.names)} columns, but the model was trained on {len(encoder.names)}"
        )
    else:
        cells = dict(zip(table.names, table.columns, strict=True))
    missing = [column.name for column in encoder.columns if column.name not in cells]
    if missing:
        used = ", ".join(column.name for column in encoder.columns)
        raise InputError(
            f"the columns are not those of the training, no column {', '.join(missing)}: give "
            f"{used}"
        )
    return [(column, cells[column.name]) for column in encoder.columns]


def _encode(column: Column, cells: np.ndarray) -> Float32[np.ndarray, "rows features"]:
    match column:
        case Numeric():
            values, _ = convert(column.kind, cells)
            absent = np.isnan(values)
            scaled = _scaled(values, column.mean, column.std, column.low, column.high)
            return np.stack([scaled, absent] if column.missing else [scaled], axis=1)
        case Dated():
            values, _ = convert(column.kind, cells)
            return _date_features(column, values.astype("datetime64[s]"))
        case Categorical():
            index = _word_indices(column, cells)
            width = len(column.features)
            return (index[:, None] == np.arange(width)).astype(np.float32)


def _scaled(values: np.ndarray, mean: float, std: float, low: float, high: float) -> np.ndarray:
    reach = (high / 2 - low / 2) * 2
    with np.errstate(over="ignore"):
        near = np.clip(values, low - reach, high + reach)
        return np.nan_to_num((near - mean) / std, nan=0.0, posinf=0.0, neginf=0.0)


def _date_features(column: Dated, dates: np.ndarray) -> np.ndarray:
    absent = np.isnat(dates)
    seconds = np.where(absent, np.datetime64(0, "s"), dates).astype("datetime64[s]")
    days = seconds.astype(np.int64) / DAY
    elapsed = _scaled(days, *column.days)
    year = np.floor(days / YEAR) * YEAR  # days at the year's beginning, leap years levelled out
    phase = 2 * np.pi * (days / YEAR % 1)
    weekday = (np.floor(days).astype(np.int64) + 3) % WEEK  # 1970 began on a Thursday
    parts = [elapsed, _scaled(year, *column.days), np.sin(phase), np.cos(phase)]
    parts += [(weekday == day).astype(np.float64) for day in range(WEEK)]
    if column.times:
        hour = 2 * np.pi * (days % 1)
        parts += [np.sin(hour), np.cos(hour)]
    features = np.stack(parts, axis=1) * ~absent[:, None]
    return np.concatenate([features, absent[:, None]], axis=1) if column.missing else features


def _word_indices(column: Categorical, cells: np.ndarray) -> np.ndarray:
    """The feature of each cell's word, -1 for none."""
    texts = as_text(cells).tolist()
    alike = _alike(column.words)
    known = {text: _word_index(column, text, alike) for text in set(texts)}
    return np.array([known[text] for text in texts], np.int64)


def _word_index(column: Categorical, text: str, alike: dict[str | float, int]) -> int:
    if text in column.words:
        return column.words.index(text)
    if not text:
        return -1
    index = alike.get(text.casefold(), -1)
    number = number_of(text) if truth_of(text) is None else truth_of(text)
    if index < 0 and number is not None:
        index = alike.get(number, -1)
    return len(column.words) if index < 0 and column.other else index


def _alike(words: Sequence[str]) -> dict[str | float, int]:
    """Words by what else they may be written as: with other capitals, or as a number."""
    keys: dict[str | float, list[int]] = {}
    for index, word in enumerate(words):
        number = number_of(word) if truth_of(word) is None else truth_of(word)
        for key in (word.casefold(), number):
            if key not in (None, ""):
                keys.setdefault(key, []).append(index)
    return {key: indices[0] for key, indices in keys.items() if len(indices) == 1}


def _unfamiliar(column: Column, cells: np.ndarray, table: Table) -> str | None:
    if isinstance(column, Categorical):
        index = _word_indices(column, cells)
        texts = as_text(cells)
        strange = (texts != "") & ((index < 0) | (index >= len(column.words)))
        what = "a word that training has not seen"
        if column.other:
            what = "a word that training has seldom or never seen"
    else:
        values, strange = convert(column.kind, cells)
        what = "what cannot be read, taken as missing"
        if isinstance(column, Numeric) and not strange.any():
            reach = (column.high / 2 - column.low / 2) * 2
            with np.errstate(over="ignore", invalid="ignore"):
                strange = (values > column.high + reach) | (values < column.low - reach)
            what = f"a value far from those of the training ({column.low:g} to {column.high:g})"
    rows = np.flatnonzero(strange)
    if not len(rows):
        return None
    count = f"{len(rows):,} cells" if len(rows) > 1 else "1 cell"
    shown = str(cells[rows[0]])[:40]
    return f"{column.name}: {count} with {what}, first {shown!r} in {table.row_name(int(rows[0]))}."


def _reasons(left_out: dict[str, str]) -> str:
    shown = [f"{name} {why}" for name, why in list(left_out.items())[:MOST_NAMED]]
    more = len(left_out) - len(shown)
    return "; ".join(shown) + (f"; and {more:,} more columns" if more else "")


def _format_notes(used: Sequence[Column]) -> tuple[str, ...]:
    notes = []
    for column in used:
        if isinstance(column, Numeric) and column.kind.form.unit:
            notes.append(f"{column.name}: numbers in {column.kind.form.unit}.")
        if isinstance(column, Numeric) and column.kind.form.decimal == ",":
            notes.append(f"{column.name}: a comma stands before the decimals.")
        if isinstance(column, Dated) and column.kind.form != "iso":
            notes.append(f"{column.name}: dates written as {column.kind.form}.")
    return tuple(notes)


def _missing_note(used: Sequence[Column], cells: dict[str, np.ndarray]) -> tuple[str, ...]:
    counts = {
        column.name: int(np.isnan(cells[column.name]).sum())
        for column in used
        if isinstance(column, Numeric) and column.missing
    }
    missing = [f"{count:,} in {name}" for name, count in counts.items() if count]
    if not missing:
        return ()
    more = (
        f", and in {len(missing) - MOST_NAMED:,} more columns" if len(missing) > MOST_NAMED else ""
    )
    shown = ", ".join(missing[:MOST_NAMED])
    return (f"Missing values count as the column's mean: {shown}{more}.",)


def _sentinel_notes(used: Sequence[Column], cells: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Notes on numbers such as -999, which recur far from all others: they may mean 'missing'."""
    notes = []
    for column in used:
        if not isinstance(column, Numeric) or column.low == column.high:
            continue
        end = column.low if column.low in SENTINELS else column.high
        values = cells[column.name]
        others = values[~np.isnan(values) & (values != end)]
        count = int((values == end).sum())
        if end not in SENTINELS or count < 2 or len(others) < 2:
            continue
        if abs(end - np.median(others)) > 3 * np.ptp(others) + abs(end) / 3:
            notes.append(
                f"{column.name}: {end:g} stands in {count:,} rows, far from all others: if it "
                "means that the value is missing, leave these cells empty."
            )
    return tuple(notes)


def _other_notes(used: Sequence[Column]) -> tuple[str, ...]:
    return tuple(
        f"{column.name}: the {len(column.words):,} commonest words count each, all further ones "
        "as 'other'."
        for column in used
        if isinstance(column, Categorical) and column.other
    )
