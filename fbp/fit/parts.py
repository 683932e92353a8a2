"""Which rows are learnt from, which choose, and which are kept for the test."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped

Rows = Int64[np.ndarray, " rows"]


@dataclass(frozen=True, eq=False)
class Fold:
    """One division of the rows that are not the test's."""

    train: Rows
    validation: Rows


def hold_out(
    labels: Shaped[np.ndarray, " rows"], share: float, rng: np.random.Generator
) -> tuple[Rows, Rows]:
    """Rows to learn from, and rows for the test, each class alike.

    Of the n rows of a label, round(share n) are the test's. One label for all rows (a
    regression) gives a plain random division.

    >>> learning, test = hold_out(np.repeat([0, 1], 10), 0.2, np.random.default_rng(0))
    >>> len(learning), sorted(test // 10)
    (16, [np.int64(0), np.int64(0), np.int64(1), np.int64(1)])
    """
    place, count = _places(labels, rng)
    tested = place < np.round(share * count)
    return np.flatnonzero(~tested), np.flatnonzero(tested)


def folds(labels: Shaped[np.ndarray, " rows"], number: int, rng: np.random.Generator) -> list[Fold]:
    """The rows divided `number` times, so that each row validates once, each class alike.

    >>> [fold.validation.size for fold in folds(np.repeat([0, 1], 6), 3, np.random.default_rng(0))]
    [4, 4, 4]
    """
    place, _ = _places(labels, rng)
    first = {label: offset for offset, label in enumerate(np.unique(labels))}
    fold = (place + np.array([first[label] for label in labels])) % number
    return [Fold(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(number)]


def _places(labels: np.ndarray, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """The place of each row in a random order of its label's rows, and their number."""
    place, count = np.empty(len(labels), np.int64), np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        place[rows], count[rows] = rng.permutation(len(rows)), len(rows)
    return place, count
