"""Every row is the test's or learnt from; of these, each validates exactly once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbp.automl.parts import folds, hold_out

LABELS = st.lists(st.integers(0, 3), min_size=5, max_size=60).map(np.array)


@given(LABELS, st.integers(0, 5))
def test_no_row_is_in_both_parts(labels, seed):
    learnt, test = hold_out(labels, 0.2, np.random.default_rng(seed))
    assert sorted([*learnt, *test]) == list(range(len(labels)))


@given(LABELS, st.integers(0, 5))
def test_each_class_gives_its_share_to_the_test(labels, seed):
    _, test = hold_out(labels, 0.2, np.random.default_rng(seed))
    for label in np.unique(labels):
        count = np.sum(labels == label)
        assert np.sum(labels[test] == label) == round(0.2 * count)


@given(LABELS, st.integers(2, 5))
def test_each_row_validates_once(labels, number):
    parts = folds(labels, number, np.random.default_rng(0))
    assert sorted(np.concatenate([fold.validation for fold in parts])) == list(range(len(labels)))
    for fold in parts:
        assert sorted([*fold.train, *fold.validation]) == list(range(len(labels)))


@given(LABELS, st.integers(2, 5))
def test_each_class_validates_alike_in_each_fold(labels, number):
    parts = folds(labels, number, np.random.default_rng(0))
    for label in np.unique(labels):
        counts = [np.sum(labels[fold.validation] == label) for fold in parts]
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 7, 23])
def test_no_fold_is_empty(rows):
    for labels in (np.zeros(rows, int), np.arange(rows), np.arange(rows) // 2):
        assert all(len(f.validation) for f in folds(labels, 5, np.random.default_rng(0)))
