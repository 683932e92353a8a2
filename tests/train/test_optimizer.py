from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbp import InputError
from fbp.config import Optimizer, Train
from fbp.optimizers import FLAGS, OPTIMIZERS, WRAPPERS
from fbp.train.optimizer import factory_of, make_optimizer, scale_by_path

pytestmark = pytest.mark.usefixtures("standard_promotion")

PARAMS = {"w": jnp.array([1.0, -2.0, 0.5]), "b": jnp.array(0.1)}


def trajectory(tx, steps=20):
    """The parameters after each step, the gradients being a fixed sequence; compiled."""
    grads = [jax.tree.map(lambda p, i=i: jnp.sin(i + p), PARAMS) for i in range(steps)]

    tx = optax.with_extra_args_support(tx)

    @jax.jit
    def step(params, opt_state, grads):
        updates, opt_state = tx.update(grads, opt_state, params, value=jnp.float32(1.0))
        return optax.apply_updates(params, updates), opt_state

    params, opt_state, history = PARAMS, tx.init(PARAMS), []
    for g in grads:
        params, opt_state = step(params, opt_state, g)
        history.append(np.concatenate([params["w"], params["b"][None]]))
    return np.stack(history)


TO_ROUNDING = ("adafactor", "fromage")  # they multiply the rate by what is of another precision
ASKING = ("lbfgs", "sam", "sophia")  # for gradients elsewhere: test_extra_args.py
PLAIN = [name for name in OPTIMIZERS if name not in (*WRAPPERS, *ASKING)]


@pytest.mark.parametrize("name", PLAIN)
def test_injected_rate_trains_as_the_plain_optimizer_bit_for_bit(name):
    fixed = {"momentum": 0.9} if "momentum" in OPTIMIZERS[name] else {}
    plain = factory_of(name)(0.003, **fixed)
    swept = make_optimizer(
        Optimizer(name, fixed), Train(20, 1, 1), {"learning_rate": jnp.float32(0.003)}
    )
    compare = np.testing.assert_array_equal
    if name in TO_ROUNDING:
        compare = partial(np.testing.assert_allclose, rtol=1e-5)
    compare(trajectory(swept), trajectory(plain))


@pytest.mark.parametrize("name", [n for n in PLAIN if {*OPTIMIZERS[n]} - {*FLAGS}])
def test_every_number_can_be_swept_and_is_a_value_of_the_state(name):
    numbers = [key for key in OPTIMIZERS[name] if key not in FLAGS]
    swept = {key: jnp.float32(0.5) for key in ("learning_rate", *numbers)}
    tx = make_optimizer(Optimizer(name), Train(20, 1, 1), swept)
    state = jax.jit(tx.init)(PARAMS)
    tx = optax.with_extra_args_support(tx)
    _, state = jax.jit(tx.update)(PARAMS, state, PARAMS, value=jnp.float32(1.0))
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


@pytest.mark.parametrize("base", [None, "adam"])
@pytest.mark.parametrize("name", [name for name in WRAPPERS if name not in ASKING])
def test_wrapper_is_that_of_optax_around_its_base(name, base):
    swept = {"learning_rate": jnp.float32(0.1)}
    tx = make_optimizer(Optimizer(name, base=base), Train(20, 1, 1), swept)
    inner = factory_of(base or "sgd")(0.1)
    rate = (0.1,) if name == "schedule_free" else ()
    plain = factory_of(name)(inner, *rate)
    np.testing.assert_allclose(trajectory(tx), trajectory(plain), rtol=1e-5, atol=1e-7)


def test_shape_of_a_schedule_is_what_the_config_says():
    falls = rates(Train(50, 1, 1, "wsd", decay_share=0.5, end_value=0.1))
    np.testing.assert_array_equal(falls[:26], 1.0)
    np.testing.assert_allclose(falls[25:], 1 - 0.9 * np.arange(25) / 25, rtol=1e-5)
    assert rates(Train(50, 1, 1, "one_cycle", peak_at=0.6)).argmax() == 30
    squared = rates(Train(50, 1, 1, "cosine", exponent=2.0))
    expected = ((1 + np.cos(np.pi * np.arange(50) / 50)) / 2) ** 2
    np.testing.assert_allclose(squared, expected, rtol=1e-4, atol=1e-6)


def test_factor_of_a_pattern_scales_the_rate_of_its_parameters_alone():
    optimizer = Optimizer("sgd", rates={"w": 0.5})
    swept = {"learning_rate": jnp.float32(1.0), "rate of b": jnp.float32(2.0)}
    tx = make_optimizer(optimizer, Train(20, 1, 1), swept)
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["w"], -0.5 * PARAMS["w"])
    np.testing.assert_allclose(updates["b"], -2.0 * PARAMS["b"])


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"head/*": 0.1}, r"the pattern head/\* matches no parameter: they are b, w"),
        ({"w": 0.1, "*": 2.0}, r"the patterns \* both|the patterns w and \* both match w"),
    ],
)
def test_pattern_that_matches_nothing_or_what_another_matches_is_refused(factors, message):
    with pytest.raises(InputError, match=message):
        scale_by_path(factors).init(PARAMS)
