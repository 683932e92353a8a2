"""Classes or numbers: what a target looks like decides, and `task` overrides it."""

import numpy as np
import pytest

from fbp.data.target import target_of
from fbp.errors import InputError


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (["a", "b", "a"], "classification"),
        ([True, False, True], "classification"),
        (np.array(["x", "y"], dtype=object), "classification"),
        ([0, 1] * 3, "classification"),
        ([-1, 1] * 3, "classification"),
        (list(range(5)) * 10, "classification"),
        (list(range(6)) * 9, "classification"),
        (range(1, 11), "classification"),
        (range(11), "regression"),
        ([4, 6, 8] * 10, "regression"),
        ([1, 2, 4] * 10, "regression"),
        (range(50), "regression"),
        ([0.5, 1.5, 2.5], "regression"),
        ([0.0, 1.0, 0.0], "classification"),
        ([1.0, None, 2.0, 3.0], "classification"),
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
    note = target_of([0.5, 1.5, 1.5]).notes[-1]
    assert "two different numbers" in note


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([], "kind is empty"),
        (np.zeros((3, 2)), r"kind has shape \(3, 2\)"),
        ([np.nan, None], "kind: no row has a value"),
        ([1.0, np.inf], "kind: row 2 is inf"),
        (["a", "b", "c"], "kind: 3 classes in 3 rows"),
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


@pytest.mark.parametrize("rows", [1, 7, 200])
def test_the_task_does_not_turn_on_the_number_of_rows(rows):
    for values, task in (([0, 1, 2], "classification"), ([0, 5, 20], "regression")):
        assert target_of(values * rows).task == task


def test_what_was_taken_is_said_and_how_to_change_it():
    assert target_of([0, 1, 2]).notes[0] == (
        "y: predicted as 3 classes, since it holds the codes 0 to 2 only (task regression: as "
        "numbers)."
    )
    assert "task classification: as classes" in target_of([0.5, 1.0]).notes[0]
    assert "as asked for" in target_of([0, 1], "numbers").notes[0]


def test_rows_without_a_target_are_left_out_and_counted():
    target = target_of([1.5, None, 2.5, np.nan])
    assert target.rows.tolist() == [0, 2]
    assert "2 rows without a value of y left out: the first is row 2." in target.notes


def test_classes_that_differ_in_capitals_only_are_noted():
    assert "'YES' and 'yes'" in target_of(["yes", "YES", "no", "no"]).notes[-1]


def test_an_unknown_task_is_refused():
    with pytest.raises(InputError, match="task is 'clustering': give classification"):
        target_of([1, 2], "clustering")  # pyright: ignore[reportArgumentType]


def test_words_that_hardly_come_twice_are_names():
    with pytest.raises(InputError, match="y: 31 classes in 40 rows: these are names"):
        target_of(["common"] * 10 + [f"name {i}" for i in range(30)])
    assert len(target_of(["common"] * 30 + [f"name {i}" for i in range(10)]).classes) == 11
    assert len(target_of(["a", "b", "a", "c", "d"]).classes) == 4


def test_categories_of_pandas_are_classes_whatever_they_look_like():
    import pandas as pd

    target = target_of(pd.Series([1, 5, None, 7] * 3, dtype="category"))
    assert target.classes.tolist() == [1, 5, 7]
    assert "since it holds categories" in target.notes[0]
    bands = target_of(pd.cut(pd.Series(np.arange(9.0)), 3))
    assert len(bands.classes) == 3


@pytest.mark.parametrize("dtype", ["Int64", "object"])
def test_whole_numbers_stay_whole_beside_missing_ones(dtype):
    import pandas as pd

    target = target_of(pd.Series([1, 2, None, 3] * 3, dtype=dtype))
    assert target.classes.dtype.kind == "i"
    assert len(target.values) == 9
