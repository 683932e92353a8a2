"""The rows to learn from and those for the test, as numbers near 0."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Num

from fbp.automl.encode import Encoder, encode, learn_encoder
from fbp.automl.inputs import Inputs, Table, inputs_of
from fbp.automl.parts import hold_out
from fbp.data.target import (
    MOST_CODES,
    MOST_IMAGE_CODES,
    Labels,
    Target,
    TaskName,
    labels_of,
    target_of,
    target_values,
)
from fbp.errors import InputError

LEAST_ROWS = 5
LEAST_LEARNING = 4  # two folds with two rows to train on


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows to learn from, or for the test: features, targets and weights."""

    x: Float32[np.ndarray, "rows ..."]
    y: Num[np.ndarray, " rows"]
    weights: Float[np.ndarray, " rows"]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a fit begins with.

    Attributes:
      target: of the rows to learn from.
      encoder: how further examples become numbers.
      notes: what a reader should know of the examples.
      learning: rows to learn from; the mean of their weights is 1.
      unseen: rows for the test.
      scored: the examples of those rows as they came; of all, where none is for the test.
    """

    target: Target
    encoder: Encoder
    notes: tuple[str, ...]
    learning: Examples
    unseen: Examples
    scored: Inputs


def prepare(
    x: Any,
    y: Any,
    task: TaskName | None,
    test: float | tuple[Any, Any],
    seed: int,
    target_name: str,
    sample_weight: Any,
) -> Prepared:
    """Return what is learnt from and what is kept for the test; arguments as of `fbp.fit`.

    Raises InputError for what cannot be learnt from.
    """
    inputs = inputs_of(x)
    labels = y if isinstance(y, Labels) else labels_of(y, target_name)
    _check_rows(inputs, labels)
    weights = _weights(sample_weight, labels.total)
    labels = _counting(labels, weights)
    codes = MOST_CODES if isinstance(inputs, Table) else MOST_IMAGE_CODES
    target = target_of(labels, task, target_name, most_codes=codes)
    inputs, weights = _with_targets(inputs, labels, weights)

    rows, test_rows = _apart(target, test, seed)
    encoder, notes, features = learn_encoder(inputs, rows)
    learning = Examples(features[rows], target.values[rows], _normalized(weights[rows]))
    if isinstance(test, tuple):
        unseen, scored = _test_examples(encoder, target, test)
    else:
        scored = inputs[test_rows] if len(test_rows) else inputs
        unseen = Examples(features[test_rows], target.values[test_rows], weights[test_rows])
    target = replace(target, values=learning.y)
    return Prepared(target, encoder, notes, learning, unseen, scored)


def _check_rows(inputs: Inputs, labels: Labels) -> None:
    if len(inputs) != labels.total:
        raise InputError(f"x has {len(inputs)} rows, y {labels.total}: give a target for each row")


def _weights(sample_weight: Any, rows: int) -> Float[np.ndarray, " rows"]:
    if sample_weight is None:
        return np.ones(rows)
    weights = np.asarray(sample_weight, np.float64)
    if weights.ndim == 0:
        weights = np.full(rows, weights)
    if weights.shape != (rows,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise InputError(
            f"sample_weight has shape {weights.shape}: give a finite weight of 0 or more for each "
            f"of {rows} rows"
        )
    return weights


def _counting(labels: Labels, weights: np.ndarray) -> Labels:
    """Return the targets of rows whose weight is not 0; raise InputError where they are too few."""
    if not weights.any():
        raise InputError("sample_weight is zero in every row: give rows that count")
    counts = weights[labels.rows] > 0
    if 0 < counts.sum() < LEAST_ROWS:
        raise InputError(
            f"too few rows, n_samples = {counts.sum()}: give at least {LEAST_ROWS}, better hundreds"
        )
    return replace(labels, values=labels.values[counts], rows=labels.rows[counts])


def _with_targets(
    inputs: Inputs, labels: Labels, weights: np.ndarray
) -> tuple[Inputs, Float[np.ndarray, " known"]]:
    """Return the rows that have a target, and their weights."""
    same = len(labels.rows) == len(inputs)
    return inputs if same else inputs[labels.rows], weights[labels.rows]


def _normalized(weights: np.ndarray) -> Float32[np.ndarray, " rows"]:
    return (weights / weights.mean()).astype(np.float32)


def _apart(
    target: Target, test: float | tuple[Any, Any], seed: int
) -> tuple[Num[np.ndarray, " learning"], Num[np.ndarray, " test"]]:
    """Return the rows to learn from, and those for the test."""
    if isinstance(test, tuple):
        return np.arange(len(target.values)), np.array([], np.int64)
    if not 0 <= test < 1:
        raise InputError(f"test is {test}: give the share of rows to keep apart, such as 0.2")
    rows, test_rows = hold_out(strata(target), test, np.random.default_rng(seed))
    if len(rows) < LEAST_LEARNING:
        raise InputError(
            f"test is {test}, which leaves {len(rows)} rows to learn from: give at least "
            f"{LEAST_LEARNING}"
        )
    return rows, test_rows


def _test_examples(
    encoder: Encoder, target: Target, test: tuple[Any, Any]
) -> tuple[Examples, Inputs]:
    x, y = inputs_of(test[0]), labels_of(test[1], "the test's y")
    if len(x) != y.total:
        raise InputError(f"the test's x has {len(x)} rows, its y {y.total}: give as many")
    if len(y.rows) < y.total:
        x = x[y.rows]
    if not len(y.rows):
        raise InputError("the test's y has no value: give at least one")
    values = _test_values(target, y.values)
    return Examples(encode(encoder, x), values, np.ones(len(y.rows))), x


def _test_values(target: Target, labels: np.ndarray) -> Num[np.ndarray, " test"]:
    if target.task == "regression":
        return target_values(labels, "the test's y")
    unknown = [label for label in np.unique(labels) if label not in target.classes]
    if unknown:
        raise InputError(f"the test's y holds {unknown[0]!s}, a class that no row of y has")
    return np.searchsorted(target.classes, labels).astype(np.int32)


def strata(target: Target) -> Num[np.ndarray, " rows"]:
    """Return what is divided alike: each class; the rows of a regression at random.

    >>> strata(Target("classification", np.array([0, 1, 1]), np.array(["a", "b"])))
    array([0, 1, 1])
    """
    return target.values if target.task == "classification" else np.zeros(len(target.values), int)
