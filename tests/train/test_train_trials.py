import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbp.data import load
from fbp.errors import InputError
from fbp.nn import mlp
from fbp.train import objective_of, train
from fbp.train.trials import train_trials

DIGITS = load("digits")
NETWORK = mlp([8, 10])
RATES = np.array([0.1, 0.5, 0.5], np.float32)
SEEDS = np.array([0, 0, 1])


def run(**changes):
    settings = {"steps": 12, "batch_size": 32, "measure": lambda state: state.params} | changes
    return train_trials(
        NETWORK,
        objective_of(DIGITS),
        lambda trial: optax.sgd(trial["rate"]),
        {"seed": jnp.asarray(SEEDS), "rate": jnp.asarray(RATES)},
        (DIGITS.train.x, DIGITS.train.y),
        **settings,
    )


@pytest.fixture(scope="module")
def trained():
    return run()


def kernel(params, trial):
    return params["3_dense"]["kernel"][trial]


@pytest.mark.parametrize("trial", range(3))
def test_a_trial_is_trained_as_train_does(trained, trial):
    alone = train(
        NETWORK,
        DIGITS,
        optax.sgd(RATES[trial]),
        key=jax.random.key(SEEDS[trial]),
        steps=12,
        batch_size=32,
        evaluate_every=12,
        progress=False,
    )
    losses, params = trained
    np.testing.assert_allclose(
        kernel(params, trial), alone.state.params["3_dense"]["kernel"], rtol=1e-4, atol=1e-6
    )
    assert np.mean(losses[trial]) == pytest.approx(alone.history[-1].training_loss, rel=1e-5)


def test_trials_side_by_side_are_as_one_after_another(trained):
    losses, params = run(at_once=3)
    np.testing.assert_allclose(losses, trained[0], rtol=1e-4)
    np.testing.assert_allclose(kernel(params, 1), kernel(trained[1], 1), rtol=1e-3, atol=1e-6)


def test_measuring_between_the_steps_leaves_them_as_they_are(trained):
    losses, (steps, params) = run(measure=lambda state: (state.step, state.params), measure_every=4)
    np.testing.assert_array_equal(steps, [[4, 8, 12]] * 3)
    np.testing.assert_allclose(losses, trained[0], rtol=1e-5)
    np.testing.assert_allclose(kernel(params, 1)[-1], kernel(trained[1], 1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("every", [0, 5, 24])
def test_times_that_do_not_divide_the_steps_are_told(every):
    with pytest.raises(InputError, match="divisor of the 12 steps"):
        run(measure_every=every)
