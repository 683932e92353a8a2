"""Classes or numbers: what a target looks like decides, and `task` overrides it."""

import numpy as np
import pytest

from fbp.errors import InputError
from fbp.fit.target import target_of


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (["a", "b", "a"], "classification"),
        ([True, False, True], "classification"),
        (np.array(["x", "y"], dtype=object), "classification"),
        ([0, 1] * 3, "classification"),
        (list(range(5)) * 10, "classification"),
        (list(range(6)) * 9, "regression"),
        (range(50), "regression"),
        ([0.5, 1.5, 2.5], "regression"),
        ([0.0, 1.0, 0.0], "regression"),
    ],
)
def test_the_task_is_recognised(y, task):
    assert target_of(y).task == task


def test_the_task_may_be_given():
    assert target_of(range(9), "classification").classes.tolist() == list(range(9))
    assert target_of([0, 1, 1], "regression").values.dtype == np.float64


def test_classes_are_numbered_in_order_and_keep_their_type():
    target = target_of(np.array([7, -1, 7]), "classification")
    assert target.classes.tolist() == [-1, 7]
    assert target.values.tolist() == [1, 0, 1]
    assert target.classes[target.values].tolist() == [7, -1, 7]


def test_a_regression_of_two_values_is_noted():
    (note,) = target_of([0.0, 1.0, 1.0]).notes
    assert "two different numbers" in note


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([], "kind is empty"),
        (np.zeros((3, 2)), r"kind has shape \(3, 2\)"),
        ([1.0, np.nan, 2.0], "kind: row 1 has no finite value but nan"),
        ([1.0, np.inf], "row 1 has no finite value but inf"),
        (["a", "", "b"], "row 1 has no finite value"),
        ([1.0, None, 2.0], "row 1 has no finite value"),
        (["a", "a"], "only one class, a"),
        ([2.5, 2.5], "2.5 in every row"),
        ([1j, 2j], "is of complex128"),
        (np.array(["a", 1], dtype=object), "mixes types"),
    ],
)
def test_a_target_that_cannot_be_learnt_is_refused(y, message):
    with pytest.raises(InputError, match=message):
        target_of(y, origin="kind")


def test_words_are_no_numbers():
    with pytest.raises(InputError, match="a regression needs numbers"):
        target_of(["a", "b"], "regression")


def test_an_unknown_task_is_refused():
    with pytest.raises(InputError, match="give classification or regression"):
        target_of([1, 2], "clustering")  # pyright: ignore[reportArgumentType]
