"""Slopes along directions, where no other gradient is there."""

import jax.numpy as jnp
import numpy as np
import pytest

from fbp.verify.directions import RANDOM, SMALL, along_directions, directions
from fbp.verify.problem import problem_of


def test_a_small_leaf_is_tried_entry_by_entry():
    tried = list(directions("x", np.zeros((2, 3))))
    assert [index for index, _ in tried] == list(np.ndindex(2, 3))
    assert all(unit[index] == 1 and abs(unit).sum() == 1 for index, unit in tried)


def test_the_directions_of_a_leaf_depend_on_its_name_alone():
    leaf = np.zeros(SMALL + 1)
    first, again, other = (
        np.stack([unit for _, unit in directions(name, leaf)]) for name in ("a", "a", "b")
    )
    assert first.shape == (RANDOM, SMALL + 1)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("size", [4, 100])
@pytest.mark.parametrize("by", [jnp, np])
def test_a_right_gradient_fits_the_slopes_and_a_wrong_one_does_not(size, by):
    def fun(x):
        return by.sum(by.sin(x) * by.asarray(np.arange(1, size + 1), x.dtype))

    x = np.linspace(0.1, 2, size).astype(np.float32)
    right = (np.cos(x) * np.arange(1, size + 1)).astype(np.float32)
    problem = problem_of(fun, (x,), 0)
    assert along_directions(problem, [right])[0].ok
    wrong = right.copy()
    wrong[1] *= 1.1
    assert not along_directions(problem, [wrong])[0].ok
