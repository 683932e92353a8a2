"""Which states of a loop are saved: as few repetitions as there can be, whatever the length."""

from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbp.autodiff.rules.revolve import empty, first_stop, save_online

MOST = 200


def stops(places):
    """How far to go, for every number of free places and of states to visit."""
    room, length = jnp.arange(places + 1), jnp.arange(MOST + 1)
    table = jax.vmap(lambda r: jax.vmap(lambda n: first_stop(r, n, places))(length))(room)
    return np.asarray(table)


def repeated(table, room, length):
    """How many steps are computed to visit `length` states in reverse, the first being saved."""
    if length <= 1:
        return 0
    far = int(table[room, length])
    assert 0 < far < length
    if room == 0:
        return far + repeated(table, room, length - 1)
    return far + repeated(table, room - 1, length - far) + repeated(table, room, far)


def fewest(snaps, length):
    """Griewank and Walther (2000), proposition 1: the fewest steps to reverse a loop."""
    r = 0
    while comb(snaps + r, snaps) < length:
        r += 1
    return r * length - comb(snaps + r, r - 1) if r else 0


@pytest.mark.parametrize("room", [0, 1, 2, 3, 7, 30])
def test_the_repetitions_are_the_fewest(room):
    table = stops(room)
    for length in (1, 2, 3, 5, 8, 31, 32, 33, 60, MOST):
        assert repeated(table, room, length) == fewest(room + 1, length)


def saved_after(length, places):
    """The saved steps of a loop of so many steps."""

    def visit(carry):
        step, stride, saved = carry
        saved, stride = save_online(saved, step, [step], stride)
        return step + stride - step % stride, stride, saved

    zero, one = jnp.int32(0), jnp.int32(1)
    first = (zero, one, empty(places, [zero]))
    _, stride, saved = jax.lax.while_loop(lambda c: c[0] < length, visit, first)
    return stride, saved


@settings(max_examples=30)
@given(st.integers(1, 5000), st.sampled_from([1, 2, 3, 8, 32]))
def test_saved_states_are_spread_evenly_over_the_loop(length, places):
    stride, saved = jax.jit(saved_after, static_argnums=1)(length, places)
    steps = np.asarray(saved.steps)
    kept = np.sort(steps[steps >= 0])
    np.testing.assert_array_equal(kept, np.arange(0, length, int(stride)))
    assert stride == 1 or places // 4 <= len(kept) <= places - places // 2


@pytest.mark.parametrize("length", [1, 7, 100])
def test_each_saved_state_is_that_of_its_step(length):
    _, saved = saved_after(length, 8)
    steps, (states,) = saved.steps, saved.states
    there = steps >= 0
    np.testing.assert_array_equal(steps[there], states[:8][there])
