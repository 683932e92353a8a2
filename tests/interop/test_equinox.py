"""Equinox: modules as pytrees, its own checkpoint, custom derivatives and loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fbp
from tests.support.agreement import assert_same, total
from tests.support.clients import assert_as_jax, assert_grad, client

eqx = client("equinox")
eqxi = client("equinox.internal")

RULES = fbp.rules_of_authors()
KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)


def check(module, loss, *args, tolerance=4):
    """The gradient in a module's floating arrays, as `eqx.filter_grad` takes it."""
    params, static = eqx.partition(module, eqx.is_inexact_array)
    of_params = lambda params, *args: loss(eqx.combine(params, static), *args)
    assert_grad(of_params, params, *args, tolerance=tolerance)


MODULES = {
    "mlp": lambda: eqx.nn.MLP(4, 3, 8, 2, activation=jax.nn.softplus, key=KEY),
    "conv": lambda: eqx.nn.Sequential(
        [
            eqx.nn.Lambda(lambda x: x[None]),
            eqx.nn.Conv1d(1, 3, 2, key=KEY),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.MaxPool1d(2),
            eqx.nn.ConvTranspose1d(3, 2, 2, key=KEY),
        ]
    ),
    "norms": lambda: eqx.nn.Sequential(
        [eqx.nn.LayerNorm(4), eqx.nn.RMSNorm(4), eqx.nn.GroupNorm(2, 4)]
    ),
    "shared": lambda: eqx.nn.Sequential(
        [eqx.nn.WeightNorm(eqx.nn.Linear(4, 4, key=KEY)), eqx.nn.Linear(4, 2, key=KEY)]
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_layers(name):
    check(MODULES[name](), lambda module, x: total(jax.vmap(module)(x)), X)


def test_activation_with_a_parameter():
    check(eqx.nn.PReLU(0.3), lambda module, x: total(module(x)), X)


def test_filter_vmap_of_an_ensemble():
    make = lambda key: eqx.nn.MLP(4, 1, 5, 1, key=key)
    ensemble = eqx.filter_vmap(make)(jax.random.split(KEY, 3))
    run = eqx.filter_vmap(lambda module, x: module(x), in_axes=(eqx.if_array(0), None))
    check(ensemble, lambda ensemble, x: total(run(ensemble, x)), X[0])


def test_attention():
    attention = eqx.nn.MultiheadAttention(2, 4, key=KEY)
    rotary = eqx.nn.RotaryPositionalEmbedding(2)
    heads = lambda q, k, v: (jax.vmap(rotary, 1, 1)(q), jax.vmap(rotary, 1, 1)(k), v)
    check(attention, lambda a, x: total(a(x, x, x, process_heads=heads)), X, tolerance=16)


@pytest.mark.parametrize("cell", ["LSTMCell", "GRUCell"])
def test_recurrent(cell):
    module = getattr(eqx.nn, cell)(4, 3, key=KEY)
    start = (jnp.zeros(3), jnp.zeros(3)) if cell == "LSTMCell" else jnp.zeros(3)

    def loss(module, xs):
        return total(jax.lax.scan(lambda state, x: (module(x, state), None), start, xs)[0])

    check(module, loss, X, tolerance=16)


def test_state_of_batch_norm():
    module, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(4, axis_name="batch", mode="batch")

    def loss(module, x):
        run = jax.vmap(module, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
        return total(run(x, state)[0])

    check(module, loss, X, tolerance=16)


def test_dropout():
    drop = eqx.nn.Dropout(0.5)
    assert_grad(lambda x: total(drop(x, key=KEY)), X)


def test_filter_jit_and_filter_checkpoint():
    """A layer is computed again in the backward pass."""
    layer = eqx.nn.Linear(4, 4, key=KEY)

    @eqx.filter_jit
    def loss(layer, x):
        run = eqx.filter_checkpoint(lambda layer, x: jnp.tanh(jax.vmap(layer)(x)))
        return total(run(layer, run(layer, x)))

    check(layer, loss, X)


def test_filter_custom_vjp():
    """The gradient that a user states in place of the function's own."""

    @eqx.filter_custom_vjp
    def clipped(pair, scale):
        return jnp.sin(pair["x"]) * scale

    @clipped.def_fwd
    def forward(perturbed, pair, scale):
        return clipped(pair, scale), pair["x"]

    @clipped.def_bwd
    def backward(x, ct, perturbed, pair, scale):
        return {"x": jnp.clip(ct * jnp.cos(x), -0.1, 0.1), "name": None}

    assert_grad(lambda x: total(clipped({"x": x, "name": "unused"}, 2.0)), X)


def test_filter_custom_jvp():
    """A tangent that is three times the function's."""

    @eqx.filter_custom_jvp
    def tripled(x, *, power):
        return x**power

    @tripled.def_jvp
    def rule(primals, tangents, *, power):
        (x,), (t,) = primals, tangents
        return tripled(x, power=power), 3 * power * x ** (power - 1) * t

    assert_grad(lambda x: total(tripled(x, power=2)), X)


def test_closure_convert():
    """A converted function's closed-over arrays are differentiated."""

    def loss(w, x):
        converted = eqx.filter_closure_convert(lambda x: jnp.tanh(w * x), x)
        return total(converted(x))

    assert_grad(loss, X, X, argnums=(0, 1))


def test_error_if_does_not_disturb_a_gradient():
    def loss(x):
        x = eqx.error_if(x, jnp.any(x > 100), "too large")
        return total(x * x)

    assert_grad(loss, X)


def test_nondifferentiable_raises():
    with pytest.raises(RuntimeError, match="differentiat"):
        jax.block_until_ready(fbp.grad(lambda x: total(eqxi.nondifferentiable(x) * x))(X))


def steps(kind, **options):
    """A loop of data-dependent length, of at most 16 iterations."""

    def loss(x):
        run = lambda state: (jnp.sin(state[0] * 1.3) + x, state[1] + 1)
        go_on = lambda state: state[1] < 3 + (jnp.sum(x) > 0)
        y, count = eqxi.while_loop(go_on, run, (x, 0), kind=kind, max_steps=16, **options)
        return total(y) * count

    return loss


@pytest.mark.parametrize("kind", ["bounded", "checkpointed"])
def test_while_loop(kind):
    """Equinox's loops of data-dependent length, bounded or checkpointed."""
    options = {"checkpoints": 2} if kind == "checkpointed" else {}
    assert_grad(steps(kind, **options), X[0], tolerance=16)


def test_loop_of_lax_kind_counts():
    """`kind="lax"` is lax.while_loop, which JAX cannot run backward; fbp can."""
    got = jax.jit(fbp.grad(steps("lax"), rules=RULES))(X[0])
    assert_same(got, jax.jit(jax.grad(steps("bounded")))(X[0]), tolerance=16)


@pytest.mark.parametrize("kind", ["lax", "bounded", "checkpointed"])
def test_scan(kind):
    """Equinox's scan; `checkpointed` computes iterations again from a few stored ones."""

    def loss(x):
        options = {"checkpoints": 2} if kind == "checkpointed" else {}
        body = lambda c, y: (jnp.sin(c * y), jnp.cos(c))
        return total(eqxi.scan(body, x[0], x, kind=kind, **options))

    assert_grad(loss, X, tolerance=16)


def test_buffers_in_a_loop():
    """Writing into the carry of a checkpointed loop."""

    def loss(x):
        def body(state):
            buffer, i = state
            return buffer.at[i].set(jnp.sin(x[i]) * i), i + 1

        start = (jnp.zeros(5), 0)
        buffer, _ = eqxi.while_loop(
            lambda state: state[1] < 5,
            body,
            start,
            kind="checkpointed",
            max_steps=5,
            buffers=lambda state: state[0],
            checkpoints=3,
        )
        return total(buffer)

    assert_grad(loss, X[:, 0])


def test_noinline():
    """A primitive of Equinox's own raises, unless its author's rules are passed."""
    loss = lambda x: total(eqxi.noinline(lambda x: jnp.sin(x) * x)(x))
    with pytest.raises(fbp.MissingRule, match=r"noinline.*rules=fbp.rules_of_authors\(\)"):
        fbp.grad(loss)(X)
    assert_grad(loss, X, rules=RULES)


def test_second_order():
    module = MODULES["mlp"]()
    params, static = eqx.partition(module, eqx.is_inexact_array)

    def penalty(value_and_grad, params):
        def steepness(params):
            of_input = lambda x: total(eqx.combine(params, static)(x))
            return total(value_and_grad(of_input)(X[0]))

        return value_and_grad(steepness)(params)

    assert_as_jax(penalty, params, tolerance=32)


def test_whole_module_is_an_argument_with_allow_int():
    """A module of arrays only needs no partition."""
    linear = eqx.nn.Linear(4, 2, key=KEY)
    loss = functools.partial(lambda x, linear: total(jax.vmap(linear)(x)), X)
    assert_same(fbp.grad(loss)(linear), jax.grad(loss)(linear))
