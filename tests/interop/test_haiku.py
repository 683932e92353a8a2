"""Haiku: transformed functions, their state and their loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.agreement import total
from tests.support.clients import assert_grad, client

hk = client("haiku")

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
SEQUENCES = jnp.asarray(np.random.default_rng(1).normal(size=(5, 3, 4)), jnp.float32)
IMAGES = jnp.asarray(np.random.default_rng(2).normal(size=(2, 6, 6, 2)), jnp.float32)


def check(forward, x, tolerance=4):
    """The gradient in the parameters and the input; the new state comes out as it does."""
    model = hk.transform_with_state(forward)
    params, state = jax.jit(model.init)(KEY, x)

    def loss(params, x):
        out, new = model.apply(params, state, KEY, x)
        return total(out), new

    assert_grad(loss, params, x, argnums=(0, 1), has_aux=True, tolerance=tolerance)


def mlp(x):
    x = hk.nets.MLP([8, 6])(x, dropout_rate=0.3, rng=hk.next_rng_key())
    return hk.Linear(2)(hk.LayerNorm(-1, True, True)(x))


def convolutions(images):
    x = hk.Conv2D(4, 3, with_bias=False)(images)
    x = jax.nn.relu(hk.BatchNorm(True, True, 0.9)(x, is_training=True))
    x = hk.Conv2DTranspose(3, 2, stride=2)(hk.MaxPool((2, 2, 1), (2, 2, 1), "SAME")(x))
    return hk.Linear(3)(hk.Flatten()(hk.avg_pool(x, (2, 2, 1), (2, 2, 1), "VALID")))


def attention(x):
    return hk.MultiHeadAttention(2, 4, with_bias=False, w_init=hk.initializers.RandomNormal())(
        x, x, x
    )


def looped(x):
    """A layer in `hk.fori_loop` with static bounds, in `hk.cond` and `hk.remat`."""
    layer = hk.Linear(4)
    x = layer(x)
    x = hk.fori_loop(0, 3, lambda _, x: jnp.tanh(layer(x)), x)
    return hk.cond(x[0, 0] > 0, hk.remat(lambda x: layer(x) * 2), lambda x: x, x)


def scanned(x):
    """Three layers of `hk.layer_stack`."""
    return hk.experimental.layer_stack(3)(lambda x: x + jnp.tanh(hk.Linear(4)(x)))(x)


def words(x):
    tokens = jnp.argsort(x, axis=-1)
    return hk.Embed(6, 3)(tokens)


@pytest.mark.parametrize(
    ("forward", "tolerance"),
    [(mlp, 16), (attention, 16), (looped, 16), (scanned, 64), (words, 16)],
)  # the loss of `scanned` is a sum of terms that are ten times as large as itself
def test_transformed(forward, tolerance):
    check(forward, X, tolerance=tolerance)


def test_batch_statistics():
    check(convolutions, IMAGES, tolerance=32)


@pytest.mark.parametrize("core", ["LSTM", "GRU", "VanillaRNN"])
@pytest.mark.parametrize("unroll", [hk.dynamic_unroll, hk.static_unroll], ids=["scan", "python"])
def test_recurrent(core, unroll):
    def forward(xs):
        cell = getattr(hk, core)(3)
        return unroll(cell, xs, cell.initial_state(xs.shape[1]))

    check(forward, SEQUENCES, tolerance=16)
