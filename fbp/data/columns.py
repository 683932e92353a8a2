"""How a column becomes features: learnt from the training rows, then each cell by itself."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int, Shaped

from fbp.data.cells import number_of, truth_of
from fbp.data.kinds import Dates, Kind, Numbers, RowNumbers, Words, as_text, convert
from fbp.data.scaling import is_constant, mean_and_std, scaled

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
      sentinel: a number that stands for a missing value, such as -999.
    """

    name: str
    kind: Numbers
    mean: float
    std: float
    low: float
    high: float
    missing: bool = False
    sentinel: float | None = None

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


def learn_column(
    name: str, kind: Kind, cells: Shaped[np.ndarray, " rows"], most: int
) -> Column | str:
    """Return how a column becomes features, or why it is left out.

    Args:
      name, kind: of the column.
      cells: of the rows to learn from, as `kinds.convert` gives them.
      most: words that get a feature of their own.

    >>> learn_column("kind", Words(), np.array(["a", "b", "a"], object), 200).features
    ('kind=a', 'kind=b')
    >>> learn_column("kind", Words(), np.array(["a", "a"], object), 200)
    "is 'a' in every row"
    """
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


def numeric_values(
    column: Numeric, cells: Shaped[np.ndarray, " rows"]
) -> tuple[Float64[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """Return the numbers of cells, NaN where they are missing, and which cells cannot be read.

    >>> column = Numeric("age", Numbers(), 1.0, 1.0, 0.0, 2.0, True, -999.0)
    >>> numeric_values(column, np.array(["1", "-999", "x"], object))
    (array([ 1., nan, nan]), array([False, False,  True]))
    """
    values, unreadable = convert(column.kind, cells)
    if column.sentinel is not None:
        values = np.where(values == column.sentinel, np.nan, values)
    return values, unreadable


def _numeric(name: str, kind: Numbers, known: np.ndarray, missing: bool) -> Column | str:
    if not len(known):
        return "is empty"
    if is_constant(known) and not missing:
        return f"is {known[0]:g} in every row"
    sentinel = _sentinel(known)
    if sentinel is not None:
        known, missing = known[known != sentinel], True
    mean, std = mean_and_std(known)
    bounds = (float(known.min()), float(known.max()))
    return Numeric(name, kind, mean, std, *bounds, missing, sentinel)


def _sentinel(known: np.ndarray) -> float | None:
    """Return a number such as -999 that recurs far from all others."""
    for end in (float(known.min()), float(known.max())):
        others = known[known != end]
        if end not in SENTINELS or len(known) - len(others) < 2 or len(np.unique(others)) < 3:
            continue
        if abs(end - np.median(others)) > 3 * np.ptp(others) + abs(end) / 3:
            return end
    return None


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


def encode_column(
    column: Column, cells: Shaped[np.ndarray, " rows"]
) -> Shaped[np.ndarray, "rows features"]:
    """Return the features of each cell, made of that cell alone.

    >>> encode_column(Categorical("kind", ("a", "b")), np.array(["b", "c"], object)).tolist()
    [[False, True], [False, False]]
    """
    match column:
        case Numeric():
            values, _ = numeric_values(column, cells)
            absent = np.isnan(values)
            near = scaled(values, column.mean, column.std, column.low, column.high)
            return np.stack([near, absent] if column.missing else [near], axis=1)
        case Dated():
            values, _ = convert(column.kind, cells)
            return _date_features(column, values.astype("datetime64[s]"))
        case Categorical():
            return word_indices(column, cells)[:, None] == np.arange(len(column.features))


def _date_features(column: Dated, dates: np.ndarray) -> np.ndarray:
    absent = np.isnat(dates)
    seconds = np.where(absent, np.datetime64(0, "s"), dates).astype("datetime64[s]")
    days = seconds.astype(np.int64) / DAY
    elapsed = scaled(days, *column.days)
    year = np.floor(days / YEAR) * YEAR  # days at the year's beginning, leap years levelled out
    phase = 2 * np.pi * (days / YEAR % 1)
    weekday = (np.floor(days).astype(np.int64) + 3) % WEEK  # 1970 began on a Thursday
    parts = [elapsed, scaled(year, *column.days), np.sin(phase), np.cos(phase)]
    parts += [(weekday == day).astype(np.float64) for day in range(WEEK)]
    if column.times:
        hour = 2 * np.pi * (days % 1)
        parts += [np.sin(hour), np.cos(hour)]
    features = np.stack(parts, axis=1) * ~absent[:, None]
    return np.concatenate([features, absent[:, None]], axis=1) if column.missing else features


def word_indices(
    column: Categorical, cells: Shaped[np.ndarray, " rows"]
) -> Int[np.ndarray, " rows"]:
    """Return the number of each cell's feature, -1 where it has none.

    A word counts as one of the training that is written with other capitals, or as another text of
    the same number (`250.0` for `250`), if there is only one such.

    >>> word_indices(Categorical("kind", ("250", "a")), np.array([250.0, 3.0]))
    array([ 0, -1])
    """
    texts = as_text(cells).tolist()
    alike, exact = _alike(column.words), {word: i for i, word in enumerate(column.words)}
    as_numbers = any(not isinstance(key, str) for key in alike)
    other = len(column.words) if column.other else -1

    def index_of(text: str) -> int:
        index = exact.get(text, -1)
        if index < 0 and text:
            index = alike.get(text.casefold(), -1)
            if index < 0 and as_numbers and (number := _number(text)) is not None:
                index = alike.get(number, -1)
            return other if index < 0 else index
        return index

    known = {text: index_of(text) for text in set(texts)}
    return np.array(list(map(known.__getitem__, texts)), np.int64)


def _alike(words: Sequence[str]) -> dict[str | float, int]:
    """Words by what else they may be written as: with other capitals, or as a number."""
    keys: dict[str | float, list[int]] = {}
    for index, word in enumerate(words):
        for key in (word.casefold(), _number(word)):
            if key not in (None, ""):
                keys.setdefault(key, []).append(index)
    return {key: indices[0] for key, indices in keys.items() if len(indices) == 1}


def _number(text: str) -> float | None:
    return number_of(text) if truth_of(text) is None else truth_of(text)
