"""Time to a target, and what each optimizer is judged by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.learning_rate_free.methods import LEARNING_RATE_FREE, TUNED, evaluated
from experiments.learning_rate_free.run import Run, Workload, _steps_to
from fbp.train import initial_state

WORKLOAD = Workload("digits", examples=100, width=8, steps=40, batch_size=10)


def run_of(*validation):
    return Run(np.array(validation), np.zeros((len(validation), 4)), None)


def test_time_to_the_target_is_the_first_of_a_seed_and_the_median_of_the_seeds():
    run = run_of([0.1, 0.9, 0.2, 0.9], [0.9, 0.9, 0.9, 0.9], [0.1, 0.2, 0.3, 0.8])
    assert _steps_to(0.8, WORKLOAD, run) == 20


def test_a_target_that_most_seeds_miss_takes_forever():
    run = run_of([0.1, 0.1, 0.1, 0.1], [0.9, 0.9, 0.9, 0.9], [0.1, 0.1, 0.1, 0.1])
    assert _steps_to(0.8, WORKLOAD, run) == np.inf


@pytest.mark.parametrize("name", ["schedule_free_adamw", "schedule_free_sgd"])
def test_schedule_free_optimizers_are_judged_by_their_average(name):
    with jax.numpy_dtype_promotion("standard"):
        tx = LEARNING_RATE_FREE[name]({}, 10)
        state = initial_state({"w": jnp.ones(3)}, tx, jax.random.key(0))
        _, opt_state = tx.update({"w": jnp.ones(3)}, state.opt_state, state.params)
        moved = type(state)({"w": jnp.full(3, 0.5)}, opt_state, state.step, state.key)
        assert not np.allclose(evaluated(name, moved)["w"], moved.params["w"])
        assert evaluated("momo", moved) is moved.params


def test_a_method_is_either_tuned_or_free():
    assert not set(LEARNING_RATE_FREE) & set(TUNED)
