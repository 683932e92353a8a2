import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbp.config import FLAGS, OPTIMIZERS, Optimizer, Train
from fbp.train.optimizer import make_optimizer

pytestmark = pytest.mark.usefixtures("standard_promotion")

PARAMS = {"w": jnp.array([1.0, -2.0, 0.5]), "b": jnp.array(0.1)}


def trajectory(tx, steps=20):
    """The parameters after each step, the gradients being a fixed sequence; compiled."""
    grads = [jax.tree.map(lambda p, i=i: jnp.sin(i + p), PARAMS) for i in range(steps)]

    @jax.jit
    def step(params, opt_state, grads):
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params, opt_state, history = PARAMS, tx.init(PARAMS), []
    for g in grads:
        params, opt_state = step(params, opt_state, g)
        history.append(np.concatenate([params["w"], params["b"][None]]))
    return np.stack(history)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_injected_rate_trains_as_the_plain_optimizer_bit_for_bit(name):
    fixed = {"momentum": 0.9} if "momentum" in OPTIMIZERS[name] else {}
    plain = getattr(optax, name)(0.003, **fixed)
    swept = make_optimizer(
        Optimizer(name, fixed), Train(20, 1, 1), {"learning_rate": jnp.float32(0.003)}
    )
    np.testing.assert_array_equal(trajectory(swept), trajectory(plain))


@pytest.mark.parametrize("name", [n for n, keys in OPTIMIZERS.items() if {*keys} - {*FLAGS}])
def test_every_number_can_be_swept_and_is_a_value_of_the_state(name):
    numbers = [key for key in OPTIMIZERS[name] if key not in FLAGS]
    swept = {key: jnp.float32(0.5) for key in ("learning_rate", *numbers)}
    tx = make_optimizer(Optimizer(name), Train(20, 1, 1), swept)
    state = jax.jit(tx.init)(PARAMS)
    _, state = jax.jit(tx.update)(PARAMS, state, PARAMS)
    actual = optax.tree_utils.tree_get(state, "hyperparams")
    assert {key: float(actual[key]) for key in swept} == dict.fromkeys(swept, 0.5)


def test_swept_moment_decay_trains_as_a_plain_one_to_rounding():
    swept = {"learning_rate": jnp.float32(0.1), "b1": jnp.float32(0.8)}
    tx = make_optimizer(Optimizer("adam"), Train(20, 1, 1), swept)
    plain = optax.adam(0.1, b1=0.8)
    np.testing.assert_allclose(trajectory(tx), trajectory(plain), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_schedule_rises_to_the_rate_and_falls_to_zero(schedule, accumulate):
    train = Train(20 * accumulate, 1, 1, schedule, 5 * accumulate, accumulate=accumulate)
    tx = make_optimizer(Optimizer("sgd"), train, {"learning_rate": jnp.float32(0.5)})
    grads = jnp.ones(20 * accumulate)
    _, updates = jax.lax.scan(lambda s, g: tx.update(g, s)[::-1], tx.init(grads[0]), grads)
    rates = -np.asarray(updates)[accumulate - 1 :: accumulate]
    np.testing.assert_allclose(rates[:6], np.linspace(0, 0.5, 6), rtol=1e-6)
    rest = np.arange(15) / 15
    shape = {"constant": 1 + 0 * rest, "linear": 1 - rest, "cosine": (1 + np.cos(np.pi * rest)) / 2}
    np.testing.assert_allclose(rates[5:], 0.5 * shape[schedule], rtol=1e-5)


def rates(train):
    """The rate of each update, whose peak is 1."""
    tx = make_optimizer(Optimizer("sgd"), train, {"learning_rate": jnp.float32(1.0)})
    grads = jnp.ones(train.steps)
    _, updates = jax.lax.scan(lambda s, g: tx.update(g, s)[::-1], tx.init(grads[0]), grads)
    return -np.asarray(updates)


def test_warmup_stable_decay_falls_over_the_last_fifth_alone():
    actual = rates(Train(50, 1, 1, "wsd", 10))
    np.testing.assert_allclose(actual[:11], np.linspace(0, 1, 11), rtol=1e-6)
    np.testing.assert_array_equal(actual[10:41], 1.0)
    np.testing.assert_allclose(actual[40:], 1 - np.arange(10) / 10, rtol=1e-5)


def test_one_cycle_is_that_of_optax():
    expected = jax.vmap(optax.cosine_onecycle_schedule(50, 1.0))(jnp.arange(50))
    actual = rates(Train(50, 1, 1, "one_cycle"))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    assert actual.argmax() == 15


def test_clipping_comes_before_the_optimizer():
    train = Train(20, 1, 1, clip_norm=1.0)
    tx = make_optimizer(Optimizer("sgd"), train, {"learning_rate": jnp.float32(1.0)})
    updates, _ = tx.update(jnp.array([30.0, 40.0]), tx.init(jnp.zeros(2)))
    np.testing.assert_allclose(updates, [-0.6, -0.8], rtol=1e-6)
