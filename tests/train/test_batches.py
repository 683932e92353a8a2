import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbp.train.batches import batch_indices

KEY = jax.random.key(3)


def test_an_epoch_has_every_example_once():
    indices = batch_indices(KEY, 0, steps=4, examples=12, batch_size=3)
    np.testing.assert_array_equal(np.sort(indices, axis=None), np.arange(12))


def test_remainder_is_left_out_and_changes_from_epoch_to_epoch():
    indices = np.asarray(batch_indices(KEY, 0, steps=40, examples=7, batch_size=3)).reshape(20, 6)
    assert all(len(set(epoch)) == 6 for epoch in indices)
    assert len({frozenset(range(7)) - set(epoch) for epoch in indices}) > 1


@pytest.mark.parametrize("cuts", [(5, 6, 12), (1, 1, 21)])
def test_batches_do_not_depend_on_how_steps_are_divided(cuts):
    complete = batch_indices(KEY, 0, steps=23, examples=10, batch_size=2)
    starts = np.cumsum([0, *cuts[:-1]])
    parts = [
        batch_indices(KEY, jnp.int32(start), steps=steps, examples=10, batch_size=2)
        for start, steps in zip(starts, cuts, strict=True)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), complete)


def test_epochs_and_keys_differ():
    indices = batch_indices(KEY, 0, steps=2, examples=50, batch_size=50)
    assert not np.array_equal(indices[0], indices[1])
    other = batch_indices(jax.random.key(4), 0, steps=2, examples=50, batch_size=50)
    assert not np.array_equal(indices, other)
