"""Laws of the parts: disjoint, complete, stratified, the same on every machine."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbp.data.dataset import Partition
from fbp.data.parts import checked, published, stratified
from fbp.errors import InputError


def rows(partition):
    return np.concatenate([partition.train, partition.validation, partition.test])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 5))
def test_every_row_lies_in_exactly_one_part(labels, seed):
    assert sorted(rows(stratified(np.array(labels), seed))) == list(range(len(labels)))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 5))
def test_each_label_is_divided_alike(labels, seed):
    labels = np.array(labels)
    parts = stratified(labels, seed)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        assert np.sum(labels[parts.train] == label) == round(0.70 * count)
        assert np.sum(labels[parts.test] == label) == count - round(0.85 * count)


def test_parts_depend_on_the_seed_alone():
    labels = np.arange(100) % 3
    np.testing.assert_array_equal(rows(stratified(labels, 1)), rows(stratified(labels, 1)))
    assert not np.array_equal(rows(stratified(labels, 1)), rows(stratified(labels, 2)))


def test_parts_are_the_same_on_every_machine():
    parts = stratified(np.repeat([0, 1], 10), seed=0)
    assert parts.train.tolist() == [4, 19, 6, 2, 13, 16, 3, 11, 10, 8, 0, 12, 7, 18]
    assert parts.validation.tolist() == [5, 17]
    assert parts.test.tolist() == [14, 9, 1, 15]


def test_training_rows_are_shuffled():
    train = stratified(np.repeat([0, 1], 50), seed=0).train
    assert not np.array_equal(train, np.sort(train))


@given(st.integers(6, 500), st.integers(1, 50))
def test_a_published_test_set_is_kept_and_the_last_training_rows_validate(train, test):
    parts = published(train, test)
    np.testing.assert_array_equal(rows(parts), np.arange(train + test))
    assert len(parts.test) == test
    assert len(parts.validation) == train // 6


def test_an_empty_part_is_refused():
    few = Partition(np.arange(2), np.arange(0), np.arange(1))
    with pytest.raises(InputError, match=r"few\.csv: too few rows, the validation part is empty"):
        checked(few, "few.csv")
