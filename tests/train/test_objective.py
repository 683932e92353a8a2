import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbp import InputError
from fbp.data import load
from fbp.train import evaluate, objective_of
from fbp.train.objective import check_fits, mean_loss


@pytest.fixture(scope="module")
def classification():
    return objective_of(load("digits"))


@pytest.fixture(scope="module")
def regression():
    return objective_of(load("diabetes"))


def linear(w, x, *, key=None):
    return x @ w


@pytest.mark.parametrize("batch_size", [3, 7, 100])
def test_measures_do_not_depend_on_the_batch_size(classification, batch_size):
    x = jax.random.normal(jax.random.key(0), (7, 4))
    w = jax.random.normal(jax.random.key(1), (4, 10))
    y = jnp.arange(7, dtype=jnp.int32)
    got = evaluate(linear, classification, w, x, y, batch_size=batch_size)
    logits = np.asarray(x @ w, np.float64)
    log_sums = np.log(np.exp(logits).sum(axis=1))
    np.testing.assert_allclose(got["loss"], np.mean(log_sums - logits[range(7), y]), rtol=1e-5)
    np.testing.assert_allclose(got["accuracy"], np.mean(logits.argmax(axis=1) == y), rtol=1e-6)


def test_r2_is_one_for_the_target_and_zero_for_the_mean(regression):
    y = jnp.array([1.0, 2.0, 6.0])
    perfect = evaluate(linear, regression, jnp.ones((1, 1)), y[:, None], y)
    mean = evaluate(linear, regression, jnp.mean(y)[None, None], jnp.ones((3, 1)), y)
    assert perfect["r2"] == 1.0
    assert perfect["loss"] == 0.0
    np.testing.assert_allclose(mean["r2"], 0.0, atol=1e-6)
    np.testing.assert_allclose(mean["loss"], jnp.var(y), rtol=1e-6)


def test_mean_loss_gives_the_key_to_the_network(regression):
    def noise(params, x, *, key):
        return params * jax.random.normal(key, (len(x), 1))

    loss_fn = mean_loss(noise, regression)
    key = jax.random.key(7)
    expected = jnp.mean(jax.random.normal(key, (5, 1)) ** 2)
    assert loss_fn(jnp.float32(1.0), (jnp.zeros((5, 1)), jnp.zeros(5)), key) == expected


def test_outputs_that_do_not_fit_the_task_are_refused(classification):
    check_fits((-1, 10), classification)
    with pytest.raises(InputError, match=r"the network gives \[9\] numbers .* the task needs \[10"):
        check_fits((-1, 9), classification)
