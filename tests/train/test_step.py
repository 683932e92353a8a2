import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbp import InputError
from fbp.train import initial_state, make_step, with_guards

KEY = jax.random.key(0)


def loss_fn(params, batch, key):
    del key
    return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2)


@pytest.fixture
def params():
    return {"w": jnp.array([1.0, -2.0, 0.5])}


@pytest.fixture
def batch():
    x = jax.random.normal(jax.random.key(1), (8, 3))
    return {"x": x, "y": x @ jnp.array([0.3, 0.1, -0.7])}


def run(tx, params, batches, loss=loss_fn):
    step, state = make_step(loss, tx), initial_state(params, tx, KEY)
    losses = []
    for batch in batches:
        state, value = step(state, batch)
        losses.append(float(value))
    return state, losses


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("tx", [optax.sgd(0.1), optax.adam(0.1), optax.adamw(0.1), optax.lion(0.1)])
def test_step_is_the_one_that_jax_grad_makes(tx, params, batch):
    grads = jax.grad(loss_fn)(params, batch, KEY)
    updates, _ = tx.update(grads, tx.init(params), params)
    expected = optax.apply_updates(params, updates)
    state, _ = run(tx, params, [batch])
    np.testing.assert_allclose(state.params["w"], expected["w"], rtol=1e-6)
    assert state.step == 1


def test_loss_falls(params, batch):
    _, losses = run(optax.sgd(0.1), params, [batch] * 20)
    assert losses[-1] < losses[0] / 10


def test_state_that_was_passed_is_donated(params, batch):
    tx = optax.sgd(0.1)
    state = initial_state(params, tx, KEY)
    make_step(loss_fn, tx)(state, batch)
    assert state.params["w"].is_deleted()
    assert not params["w"].is_deleted()


def test_each_step_has_another_key(params, batch):
    def noisy(params, batch, key):
        return 0.0 * jnp.sum(params["w"]) + jax.random.uniform(key)

    _, losses = run(optax.sgd(0.1), params, [batch] * 3, noisy)
    assert losses == [float(jax.random.uniform(jax.random.fold_in(KEY, i))) for i in range(3)]


@pytest.mark.usefixtures("standard_promotion")
def test_accumulated_batches_are_one_large_batch(params, batch):
    halves = [jax.tree.map(lambda leaf, i=i: leaf[4 * i : 4 * i + 4], batch) for i in (0, 1)]
    expected, _ = run(optax.sgd(0.1), params, [batch])
    state, _ = run(with_guards(optax.sgd(0.1), accumulate=2), params, halves)
    np.testing.assert_allclose(state.params["w"], expected.params["w"], rtol=1e-6)


def test_clipped_gradient_has_the_norm(params, batch):
    state, _ = run(with_guards(optax.sgd(1.0), clip_norm=0.01), params, [batch])
    change = np.linalg.norm(state.params["w"] - params["w"])
    np.testing.assert_allclose(change, 0.01, rtol=1e-4)


def test_update_that_is_not_finite_is_left_out(params, batch):
    bad = {**batch, "y": batch["y"].at[0].set(jnp.nan)}
    state, _ = run(with_guards(optax.sgd(0.1), skip_nonfinite=5), params, [bad])
    np.testing.assert_array_equal(state.params["w"], params["w"])


def test_guards_leave_a_plain_update_as_it_is(params, batch):
    expected, _ = run(optax.sgd(0.1, 0.9), params, [batch] * 3)
    guards = with_guards(optax.sgd(0.1, 0.9), clip_norm=1e9, skip_nonfinite=5)
    state, _ = run(guards, params, [batch] * 3)
    np.testing.assert_allclose(state.params["w"], expected.params["w"], rtol=1e-5)


def test_loss_that_is_not_one_number_is_refused(params, batch):
    def losses(params, batch, key):
        return (batch["x"] @ params["w"] - batch["y"]) ** 2

    with pytest.raises(InputError, match=r"the loss is float32\[8\]: .* take the mean"):
        run(optax.sgd(0.1), params, [batch], losses)


def test_integer_loss_is_refused(params, batch):
    with pytest.raises(InputError, match=r"the loss is int32\[\]"):
        run(optax.sgd(0.1), params, [batch], lambda params, batch, key: jnp.int32(1))


def test_integer_parameter_is_named(params, batch):
    tx = optax.sgd(0.1)
    state = initial_state(params, tx, KEY)
    wrong = type(state)({"w": jnp.arange(3)}, state.opt_state, state.step, state.key)
    with pytest.raises(InputError, match=r"params\['w'\] is int32\[3\]"):
        make_step(loss_fn, tx)(wrong, batch)


def test_batch_of_unequal_leaves_is_named(params, batch):
    uneven = {**batch, "y": batch["y"][:5]}
    with pytest.raises(InputError, match=r"batch\['y'\] has shape \[5\], but batch\['x'\] .*8, 3"):
        run(optax.sgd(0.1), params, [uneven])


def test_input_that_does_not_fit_a_network_is_named_with_the_layers_path():
    from fbp import nn

    network = nn.mlp([4, 2])
    params, _ = network.init(KEY, (-1, 3))

    def network_loss(params, batch, key):
        return jnp.mean(network.apply(params, batch["x"], key=key) ** 2)

    with pytest.raises(InputError, match=r"1_dense: an input \[8, 5\] needs .*kernel \[5, 4\]"):
        run(optax.sgd(0.1), params, [{"x": jnp.ones((8, 5))}], network_loss)


@pytest.mark.usefixtures("standard_promotion")
def test_an_optimizer_that_asks_for_the_loss_gets_it(params, batch):
    tx = optax.contrib.momo(learning_rate=1.0)
    loss, grads = jax.value_and_grad(loss_fn)(params, batch, KEY)
    updates, _ = tx.update(grads, tx.init(params), params, value=loss)
    state, _ = run(tx, params, [batch])
    np.testing.assert_allclose(
        state.params["w"], optax.apply_updates(params, updates)["w"], rtol=1e-6
    )
