"""What is to be predicted: classes or numbers?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Num, Shaped

from fbp.data.dataset import Task
from fbp.errors import InputError

ROWS_PER_CLASS = 10  # integers that repeat less often than this are numbers
TASKS = ("classification", "regression")


@dataclass(frozen=True, eq=False)
class Target:
    """The target of every row.

    Attributes:
      task: `classification` or `regression`.
      values: int32 numbers of the classes, or float64 numbers in the target's own unit.
      classes: the label of each class, sorted; empty for a regression.
      notes: what a reader should know about how the task was recognised.
    """

    task: Task
    values: Num[np.ndarray, " rows"]
    classes: Shaped[np.ndarray, " classes"]
    notes: tuple[str, ...] = ()


def target_of(y: Any, task: Task | None = None, origin: str = "y") -> Target:
    """The target, and whether it is one of classes or of numbers.

    Strings and booleans are classes, floats are numbers. Integers are classes if there are two of
    them, or if each occurs in ten rows on average; else they are numbers. `task` overrides this.

    Raises InputError, which begins with `origin`, for a target that is empty, missing in a row,
    not one-dimensional, or the same in every row.

    >>> target_of(["ham", "spam", "ham"]).task, target_of([1.5, 2.5, 1.5]).task
    ('classification', 'regression')
    >>> target_of([3, 1, 3], task="regression").values
    array([3., 1., 3.])
    """
    labels = _labels(y, origin)
    if task is not None and task not in TASKS:
        raise InputError(f"task is {task!r}: give classification or regression, or leave it out")
    if task is None:
        task = _recognised(labels)
    return _classes(labels, origin) if task == "classification" else _numbers(labels, origin)


def _labels(y: Any, origin: str) -> Shaped[np.ndarray, " rows"]:
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise InputError(f"{origin} has shape {labels.shape}: give one value for each row")
    if not len(labels):
        raise InputError(f"{origin} is empty: give one value for each row")
    if labels.dtype.kind == "O":
        labels = _of_one_type(labels, origin)
    if labels.dtype.kind not in "buifUS":
        raise InputError(f"{origin} is of {labels.dtype}: give numbers, booleans or strings")
    missing = labels == "" if labels.dtype.kind in "US" else ~np.isfinite(labels)
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        raise InputError(
            f"{origin}: row {row} has no finite value but {labels[row]!s:.20} "
            f"({missing.sum()} such rows): fill it in or remove the row"
        )
    return labels


def _of_one_type(labels: np.ndarray, origin: str) -> Shaped[np.ndarray, " rows"]:
    if all(isinstance(label, str) for label in labels):
        return labels.astype(str)
    known = np.array([float("nan") if label is None else label for label in labels.tolist()])
    if known.dtype.kind not in "buif":
        raise InputError(f"{origin} mixes types: give all numbers or all strings")
    return known


def _recognised(labels: np.ndarray) -> Task:
    if labels.dtype.kind == "f":
        return "regression"
    different = len(np.unique(labels))
    few = different <= max(2, len(labels) // ROWS_PER_CLASS)
    return "regression" if labels.dtype.kind in "ui" and not few else "classification"


def _classes(labels: np.ndarray, origin: str) -> Target:
    classes, numbers = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(
            f"{origin}: only one class, {classes[0]!s:.40}: give rows of two classes or more"
        )
    return Target("classification", numbers.astype(np.int32), classes)


def _numbers(labels: np.ndarray, origin: str) -> Target:
    try:
        values = labels.astype(np.float64)
    except ValueError as error:
        raise InputError(f"{origin}: a regression needs numbers ({error})") from error
    different = np.unique(values)
    if len(different) < 2:
        raise InputError(f"{origin}: {different[0]:g} in every row: there is nothing to predict")
    notes = ()
    if len(different) == 2:
        notes = (
            "The target holds two different numbers only, which are predicted as numbers: "
            "if they stand for classes, give the task classification.",
        )
    return Target("regression", values, np.array([]), notes)
