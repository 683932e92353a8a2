"""What is to be predicted: classes or numbers? One rule, for every reader."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Int, Num, Shaped

from fbp.data.cells import is_missing, text_of
from fbp.data.dataset import Task
from fbp.data.kinds import Dates, Numbers, convert, recognize
from fbp.data.table import Table, is_categorical, raw_column
from fbp.errors import InputError

TaskName = Literal["classification", "regression", "classes", "numbers"]
MOST_CODES = 10  # whole numbers that count as names of classes: the ten digits, or 1 to 10
FEW_LABELS = 20  # with more, words of which there is one to less than two rows are names
MOST_IMAGE_CODES = 10_000  # pictures are seldom labelled with measurements


@dataclass(frozen=True, eq=False)
class Labels:
    """The targets that are known.

    Attributes:
      values: numbers, booleans or strings, none of them missing.
      rows: the row of each.
      total: number of rows, with or without a target.
      notes: what a reader should know of how they were read.
      categorical: whether they say themselves that they are categories.
    """

    values: Shaped[np.ndarray, " known"]
    rows: Int[np.ndarray, " known"]
    total: int
    notes: tuple[str, ...] = ()
    categorical: bool = False


@dataclass(frozen=True, eq=False)
class Target:
    """The target of every row that has one.

    Attributes:
      task: `classification` or `regression`.
      values: int32 numbers of the classes, or float64 numbers in the target's own unit.
      classes: the label of each class, sorted; empty for a regression.
      notes: what a reader should know; the first says what was taken, and why.
      rows: the row of each value.
    """

    task: Task
    values: Num[np.ndarray, " known"]
    classes: Shaped[np.ndarray, " classes"]
    notes: tuple[str, ...] = ()
    rows: Int[np.ndarray, " known"] | None = None


def task_of(name: str | None) -> Task | None:
    """Return the task of a name: `classes` is short for classification, `numbers` for regression.

    >>> task_of("classes"), task_of(None)
    ('classification', None)
    """
    names = {"classes": "classification", "numbers": "regression"}
    if name is not None and name not in get_args(TaskName):
        raise InputError(
            f"task is {name!r}: give classification (or classes), regression (or numbers), or "
            "leave it out"
        )
    return None if name is None else names.get(name, name)  # pyright: ignore[reportReturnType]


def target_of(
    y: Any, task: str | None = None, origin: str = "y", *, most_codes: int = MOST_CODES
) -> Target:
    """Return the target, and whether it is one of classes or of numbers.

    - Words, booleans and pandas' categories are classes.
    - Numbers with a fraction are numbers.
    - Whole numbers are classes where there are only two of them, or where they are codes: 0, 1, 2
      and so on, or 1, 2, 3 and so on, without a gap and at most ten (`most_codes`). All others
      are numbers, however often they repeat.

    `task` overrides this. Rows without a target are left out and counted.

    Args:
      y: one value for each row, or `Labels`.
      task: `classification` or `classes`, `regression` or `numbers`.
      origin: what the target is called in messages.
      most_codes: up to how many codes are classes.

    Raises InputError, which begins with `origin`, for a target that is empty, infinite, not
    one-dimensional, the same in every row, or of words that hardly come twice.

    >>> target_of(["ham", "spam", "ham"]).task, target_of([1.5, 2.5, 1.5]).task
    ('classification', 'regression')
    >>> target_of([3, 1, 2]).task, target_of([3, 1, 7]).task
    ('classification', 'regression')
    >>> target_of([3, 1, 3], task="regression").values
    array([3., 1., 3.])
    """
    chosen = task_of(task)
    labels = y if isinstance(y, Labels) else labels_of(y, origin)
    if not len(labels.values):
        raise InputError(f"{origin}: no row has a value: fill it in, or name another target")
    recognized, reason = _recognize(labels, most_codes)
    build = _classes if (chosen or recognized) == "classification" else _numbers
    target = build(labels.values, origin)
    if chosen is not None:
        reason = "as asked for"
    notes = (_taken(target, origin, reason), *labels.notes, *target.notes)
    return Target(target.task, target.values, target.classes, notes, labels.rows)


def target_values(labels: Shaped[np.ndarray, " rows"], origin: str) -> Num[np.ndarray, " rows"]:
    """Return labels as float64; raise InputError, which begins with `origin`, where one is a word.

    >>> target_values(np.array([1, 2]), "y")
    array([1., 2.])
    """
    try:
        return labels.astype(np.float64)
    except ValueError as error:
        raise InputError(f"{origin}: a regression needs numbers ({error})") from error


def read_labels(cells: Shaped[np.ndarray, " rows"], origin: str, table: Table) -> Labels:
    """Return the targets in a column of a file, numbers where its cells are numbers.

    >>> table = Table((), (), lines=np.array([2, 3, 4]))
    >>> labels = read_labels(np.array(["7", "", "8"], object), "y", table)
    >>> labels.values, labels.notes
    (array([7, 8]), ('1 row without a value of y left out: row 2 (line 3).',))
    """
    kind = recognize("target", cells, decimal_comma=table.decimal_comma)
    if isinstance(kind, Dates):
        raise InputError(f"{origin}: dates cannot be predicted: give a column of words or numbers")
    if not isinstance(kind, Numbers):
        known = np.array([not is_missing(cell, word=True) for cell in cells.tolist()], bool)
        texts = [text.strip() for text in cells[known].tolist()]
        return _labels(np.array(texts, str), known, origin, table)
    values, unreadable = convert(kind, cells)
    known = ~np.isnan(values)
    more = ()
    if unreadable.any():
        row = int(np.flatnonzero(unreadable)[0])
        more = (f"{origin}: numbers but for {table.row_name(row)}, {str(cells[row])[:40]!r}.",)
    values = values[known]
    if cells.dtype.kind == "i" or (
        cells.dtype.kind == "O" and _written_as_integers(cells[known].tolist(), values)
    ):
        values = values.astype(np.int64)
    return _labels(values, known, origin, table, more)


def labels_of(y: Any, origin: str = "y") -> Labels:
    """Return the targets in an array, a list or a column of a data frame.

    NaN, None and pandas' NA are missing. Raises InputError for infinity and for mixed types.

    >>> labels_of([1.5, None, 2.5]).rows
    array([0, 2])
    """
    array = y if isinstance(y, np.ndarray) else _as_array(y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InputError(f"{origin} has shape {array.shape}: give one value for each row")
    if not len(array):
        raise InputError(f"{origin} is empty: give one value for each row")
    if array.dtype.kind == "O":
        known = raw_column(origin, array) != ""
        array = _of_one_type(array, known, origin)
    elif array.dtype.kind in "US":
        known = array != ("" if array.dtype.kind == "U" else b"")
        array = array.astype(str)
    elif array.dtype.kind in "buif":
        known = ~np.isnan(array) if array.dtype.kind == "f" else np.ones(len(array), bool)
        if array.dtype.kind == "f" and np.isinf(array).any():
            row = int(np.flatnonzero(np.isinf(array))[0])
            raise InputError(
                f"{origin}: row {row + 1} is {array[row]}: correct it, or leave it empty"
            )
    else:
        raise InputError(f"{origin} is of {array.dtype}: give numbers, booleans or strings")
    labels = _labels(array[known], known, origin, Table((), ()))
    return replace(labels, categorical=is_categorical(y))


def _labels(values, known, origin: str, table: Table, notes: tuple[str, ...] = ()) -> Labels:
    rows, lost = np.flatnonzero(known), np.flatnonzero(~known)
    if len(lost) and len(rows):
        number = f"{len(lost):,} rows" if len(lost) > 1 else "1 row"
        first = ("the first is " if len(lost) > 1 else "") + table.row_name(int(lost[0]))
        notes = (*notes, f"{number} without a value of {origin} left out: {first}.")
    return Labels(values, rows, len(known), notes)


def _as_array(y: Any) -> np.ndarray:
    if getattr(y, "ndim", 1) == 2 and hasattr(y, "to_numpy"):
        y = y.to_numpy()
    if is_categorical(y):
        plain = (str, int, float, np.generic, type(None))
        return np.array([*(c if isinstance(c, plain) else text_of(c) for c in y), None], object)[
            :-1
        ]
    if hasattr(y, "dtype") and hasattr(y, "to_numpy"):
        nullable = getattr(y.dtype, "kind", "O") in "iu" and not isinstance(y.dtype, np.dtype)
        return np.array([*y, None], object)[:-1] if nullable else np.asarray(y.to_numpy())
    array = np.asarray(y)
    if array.dtype.kind in "US" and array.ndim == 1:  # numbers among words became words
        return np.array([*y, None], object)[:-1]
    return array


def _of_one_type(labels: np.ndarray, known: np.ndarray, origin: str) -> Shaped[np.ndarray, " rows"]:
    values = [float(v) if isinstance(v, Decimal) else v for v in labels[known].tolist()]
    words = [value.strip() for value in values if isinstance(value, str)]
    if len(words) == len(values):
        plain = np.array(words, str)
    else:
        plain = np.array([], object) if words else np.array(values)
    if plain.ndim != 1 or plain.dtype.kind not in "buifU" or len(plain) != len(values):
        raise InputError(f"{origin} mixes types: give all numbers or all strings")
    array = np.zeros(len(labels), plain.dtype)
    array[known] = plain
    return array


def _written_as_integers(texts: list[str], values: np.ndarray) -> bool:
    integral = bool((values % 1 == 0).all()) and np.abs(values).max(initial=0) < 2**53
    return integral and not any("." in text or "e" in text.lower() for text in texts)


def _recognize(labels: Labels, most_codes: int) -> tuple[Task, str]:
    values = labels.values
    if labels.categorical:
        return "classification", "since it holds categories"
    if values.dtype.kind in "US":
        return "classification", "since it holds words"
    if values.dtype.kind == "b":
        return "classification", "since it holds true and false"
    different = np.unique(values)
    if not (different % 1 == 0).all():
        return "regression", "since it holds fractions"
    count, first = len(different), different[0]
    if count == 2:
        return "classification", "since it holds two whole numbers only"
    if first in (0, 1) and different[-1] == first + count - 1 and count <= most_codes:
        return "classification", f"since it holds the codes {first:g} to {different[-1]:g} only"
    span = f"{first:g} to {different[-1]:g}"
    return "regression", f"since its whole numbers, {span}, are no codes from 0 or 1 on"


def _taken(target: Target, origin: str, reason: str) -> str:
    if target.task == "regression":
        return f"{origin}: predicted as numbers, {reason} (task classification: as classes)."
    other = "" if target.classes.dtype.kind in "US" else " (task regression: as numbers)"
    return f"{origin}: predicted as {len(target.classes)} classes, {reason}{other}."


def _classes(labels: np.ndarray, origin: str) -> Target:
    classes, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise InputError(
            f"{origin}: only one class, {classes[0]!s:.40}: give rows of two classes or more"
        )
    names = counts.max() == 1 or (len(labels) > FEW_LABELS and 2 * len(classes) > len(labels))
    if names and labels.dtype.kind in "US" and len(labels) > 2:
        raise InputError(
            f"{origin}: {len(classes):,} classes in {len(labels):,} rows: these are names, which "
            "cannot be learnt: give another target"
        )
    notes = (*_alone_note(origin, counts), *_case_note(origin, classes))
    return Target("classification", numbers.astype(np.int32), classes, notes)


def _alone_note(origin: str, counts: np.ndarray) -> tuple[str, ...]:
    alone = int((counts == 1).sum())
    if not alone:
        return ()
    classes = "1 class stands" if alone == 1 else f"{alone:,} classes stand"
    return (f"{origin}: {classes} in one row only: nothing can be learnt about them.",)


def _case_note(origin: str, classes: np.ndarray) -> tuple[str, ...]:
    if classes.dtype.kind not in "US":
        return ()
    seen: dict[str, str] = {}
    for label in classes.tolist():
        alike = seen.setdefault(label.casefold(), label)
        if alike != label:
            return (
                f"{origin}: {alike!r} and {label!r} are two classes that differ in capitals only: "
                "if they are one, write them alike.",
            )
    return ()


def _numbers(labels: np.ndarray, origin: str) -> Target:
    values = target_values(labels, origin)
    different = np.unique(values)
    if len(different) < 2:
        raise InputError(f"{origin}: {different[0]:g} in every row: there is nothing to predict")
    notes = ()
    if len(different) == 2:
        notes = (
            f"{origin} holds two different numbers only, which are predicted as numbers: "
            "if they stand for classes, give the task classification.",
        )
    return Target("regression", values, np.array([]), notes)
