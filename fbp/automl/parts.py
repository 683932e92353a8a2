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
    """Return rows to learn from, and rows for the test, each class alike.

    Of the n rows of a label, round(share n) are the test's. One label for all rows (a
    regression) gives a plain random division.

    >>> learning, test = hold_out(np.repeat([0, 1], 10), 0.2, np.random.default_rng(0))
    >>> len(learning), sorted(test // 10)
    (16, [np.int64(0), np.int64(0), np.int64(1), np.int64(1)])
    """
    rank, count = _ranks(labels, rng)
    tested = rank < np.round(share * count)
    return np.flatnonzero(~tested), np.flatnonzero(tested)


def folds(labels: Shaped[np.ndarray, " rows"], number: int, rng: np.random.Generator) -> list[Fold]:
    """Divide the rows `number` times, so that each row validates once, each class alike.

    No fold is empty: there are at most as many as rows, and their sizes differ by one at most.

    >>> [fold.validation.size for fold in folds(np.repeat([0, 1], 6), 3, np.random.default_rng(0))]
    [4, 4, 4]
    >>> [fold.validation.tolist() for fold in folds(np.zeros(3), 5, np.random.default_rng(0))]
    [[1], [2], [0]]
    """
    rank, _ = _ranks(labels, rng)
    order = np.lexsort((rank, labels))  # one class after the other, each in random order
    fold = np.empty(len(labels), np.int64)
    fold[order] = np.arange(len(labels)) % number
    numbers = range(min(number, len(labels)))
    return [Fold(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in numbers]


def _ranks(labels: np.ndarray, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Return the rank of each row in a random order of its label's rows, and their number."""
    rank, count = np.empty(len(labels), np.int64), np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rank[rows], count[rows] = rng.permutation(len(rows)), len(rows)
    return rank, count
