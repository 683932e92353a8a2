"""Which rows are trained on, chosen on and reported: fixed rules, the same on every machine."""

import numpy as np
from jaxtyping import Shaped

from fbp.data.dataset import Partition
from fbp.errors import InputError

TRAIN, VALIDATION = 0.70, 0.15  # the rest is for the test
HELD_OUT = 6  # where a test set is published, one row in six of the training rows validates


def stratified(labels: Shaped[np.ndarray, " examples"], seed: int) -> Partition:
    """Take 70 % of each label's rows for training, 15 % for validation, 15 % for the test.

    The rows are shuffled by `numpy.random.default_rng(seed)`; of the n rows of a label, the
    first round(0.70 n) train, those up to round(0.85 n) validate. One label for all rows (a
    regression) gives a plain random partition.

    >>> parts = stratified(np.repeat([0, 1], 20), seed=0)
    >>> len(parts.train), len(parts.validation), len(parts.test)
    (28, 6, 6)
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    part = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels[shuffled] == label)
        train, validation = round(TRAIN * len(rows)), round((TRAIN + VALIDATION) * len(rows))
        part[rows] = np.searchsorted([train, validation], np.arange(len(rows)), side="right")
    return Partition(*(shuffled[part == number] for number in range(3)))


def published(train_rows: int, test_rows: int) -> Partition:
    """Keep the published test rows for the test; the last sixth of the training rows validates.

    Rows are numbered as if the test rows followed the training rows.

    >>> parts = published(train_rows=60, test_rows=10)
    >>> parts.train[-1], parts.validation[0], parts.test[0]
    (np.int64(49), np.int64(50), np.int64(60))
    """
    rows = np.arange(train_rows + test_rows)
    train = train_rows - train_rows // HELD_OUT
    return Partition(rows[:train], rows[train:train_rows], rows[train_rows:])


def checked(partition: Partition, origin: str) -> Partition:
    """Return the same partition; raise InputError if one of its parts is empty."""
    for name in ("train", "validation", "test"):
        if not len(getattr(partition, name)):
            raise InputError(f"{origin}: too few rows, the {name} part is empty: give more rows")
    return partition
