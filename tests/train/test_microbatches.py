import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbp import InputError, nn
from fbp.train import initial_state, make_step
from fbp.train.microbatches import mean_over_microbatches
from fbp.train.step import loss_and_grads_fn
from tests.support.agreement import assert_same

KEY = jax.random.key(0)
NETWORK = nn.mlp([64, 64, 64, 10])
PARAMS, _ = NETWORK.init(KEY, (-1, 16))
X = jax.random.normal(jax.random.key(1), (256, 16))
BATCH = (X, jnp.arange(256) % 10)


def loss_fn(params, batch, key):
    logits = NETWORK.apply(params, batch[0], key=key)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]))


@pytest.mark.parametrize("count", [1, 2, 16])
def test_loss_and_gradients_are_those_of_the_full_batch(count):
    want = jax.jit(loss_and_grads_fn(loss_fn))(PARAMS, BATCH, KEY)
    got = jax.jit(mean_over_microbatches(loss_and_grads_fn(loss_fn), count))(PARAMS, BATCH, KEY)
    assert_same(got, want, tolerance=8)


def test_memory_falls():
    def temporary(count):
        tx = optax.sgd(0.1)
        step = make_step(loss_fn, tx, microbatches=count)
        compiled = step.lower(initial_state(PARAMS, tx, KEY), BATCH).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(8) < temporary(1) / 2


def test_each_part_has_another_key():
    def noisy(params, batch, key):
        return 0.0 * params + jax.random.uniform(key)

    loss, _ = mean_over_microbatches(loss_and_grads_fn(noisy), 3)(1.0, jnp.ones(6), KEY)
    draws = [jax.random.uniform(jax.random.fold_in(KEY, i)) for i in range(3)]
    np.testing.assert_allclose(loss, np.mean(draws), rtol=1e-6)


def test_a_step_is_one_update():
    tx = optax.sgd(0.1)
    state, _ = make_step(loss_fn, tx, microbatches=4)(initial_state(PARAMS, tx, KEY), BATCH)
    want, _ = make_step(loss_fn, tx)(initial_state(PARAMS, tx, KEY), BATCH)
    assert state.step == 1
    assert_same(state.params, want.params, tolerance=4)


def test_batch_that_does_not_divide_is_told():
    with pytest.raises(InputError, match="256 examples cannot be divided into 3 microbatches"):
        mean_over_microbatches(loss_and_grads_fn(loss_fn), 3)(PARAMS, BATCH, KEY)
