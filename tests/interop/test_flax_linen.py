"""Flax's linen: parameters, batch statistics, lifted scan and remat, dropout, attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fbp
from tests.support.agreement import total
from tests.support.clients import assert_grad, client

nn = client("flax.linen")

KEY = jax.random.key(0)
DROPOUT = jax.random.key(1)
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 3)), jnp.float32)
SEQUENCES = jnp.asarray(np.random.default_rng(1).normal(size=(3, 6, 8)), jnp.float32)


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(nn.gelu(nn.Dense(16)(x)))
        return nn.Dense(4)(nn.silu(nn.Dense(16)(x)))


class CNN(nn.Module):
    """Convolution, batch normalisation, pooling, dropout."""

    train: bool

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(5, (3, 3), use_bias=False)(x)
        x = nn.BatchNorm(use_running_average=not self.train)(x)
        x = nn.max_pool(nn.relu(x), (2, 2), strides=(2, 2))
        x = nn.Dropout(0.3, deterministic=not self.train)(x)
        x = nn.GroupNorm(num_groups=2)(nn.ConvTranspose(6, (2, 2), strides=(2, 2))(x))
        return nn.Dense(3)(nn.avg_pool(x, (2, 2)).reshape(x.shape[0], -1))


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        mask = nn.make_causal_mask(x[..., 0])
        attention = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=8, use_bias=False)
        x = x + attention(x, mask=mask)
        return nn.RMSNorm()(x)


class Layers(nn.Module):
    """The same layer three times, by a lifted scan over a lifted checkpoint."""

    @nn.compact
    def __call__(self, x):
        class Block(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                return x + jnp.tanh(nn.Dense(x.shape[-1])(x)), jnp.mean(x)

        scan = nn.scan(
            nn.remat(Block), variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        return scan()(x, None)


class WhileLoop(nn.Module):
    """A lifted `while_loop` runs Newton's method; its result is not differentiated through."""

    @nn.compact
    def __call__(self, x):
        y = nn.Dense(4)(x)
        steps = nn.while_loop(
            lambda module, i: i < 3, lambda module, i: i + 1, self, 0, carry_variables=[]
        )
        return y * steps


def check(module, x, tolerance=4):
    variables = jax.jit(module.init)(KEY, x)
    loss = lambda params, x: total(module.apply({"params": params}, x))
    assert_grad(loss, variables["params"], x, argnums=(0, 1), tolerance=tolerance)


@pytest.mark.parametrize("cell", ["LSTMCell", "OptimizedLSTMCell", "GRUCell", "MGUCell"])
def test_recurrent_cells(cell):
    check(nn.RNN(getattr(nn, cell)(5), return_carry=True), SEQUENCES, tolerance=16)


def test_bidirectional():
    check(nn.Bidirectional(nn.RNN(nn.SimpleCell(4)), nn.RNN(nn.GRUCell(4))), SEQUENCES, 16)


def test_convolutional_lstm():
    check(nn.RNN(nn.ConvLSTMCell(3, (3, 3))), IMAGES[:, None].repeat(3, 1), tolerance=16)


def test_mlp():
    check(MLP(), SEQUENCES[:, 0])


def test_attention():
    check(Attention(), SEQUENCES, tolerance=16)


def test_scanned_and_checkpointed_layers():
    check(Layers(), SEQUENCES, tolerance=16)


def test_while_loop():
    check(WhileLoop(), SEQUENCES)


def test_embedding_and_weight_normalisation():
    class Words(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            embed = nn.Embed(7, 4)
            return embed.attend(nn.WeightNorm(nn.Dense(4))(embed(tokens)))

    tokens = jnp.array([[1, 2, 2], [0, 6, 1]])
    params = Words().init(KEY, tokens)["params"]
    assert_grad(lambda params: total(Words().apply({"params": params}, tokens)), params)


@pytest.mark.parametrize("train", [False, True])
def test_batch_statistics_and_dropout(train):
    module = CNN(train)
    variables = jax.jit(module.init)({"params": KEY, "dropout": DROPOUT}, IMAGES)

    def loss(params, images):
        out, state = module.apply(
            {"params": params, "batch_stats": variables["batch_stats"]},
            images,
            mutable=["batch_stats"],
            rngs={"dropout": DROPOUT},
        )
        return total(out), state

    assert_grad(loss, variables["params"], IMAGES, argnums=(0, 1), has_aux=True, tolerance=32)


def test_spectral_normalisation():
    """Its power iteration is a loop, and its state is carried on."""

    class Normalised(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.SpectralNorm(nn.Dense(5))(x, update_stats=True)

    x = SEQUENCES[:, 0]
    variables = Normalised().init(KEY, x)

    def loss(params):
        out, state = Normalised().apply(
            {"params": params, "batch_stats": variables["batch_stats"]}, x, mutable=["batch_stats"]
        )
        return total(out), state

    assert_grad(loss, variables["params"], has_aux=True, tolerance=16)


def test_custom_vjp_of_a_module():
    """`nn.custom_vjp` clips the gradient of one layer."""

    class Clipped(nn.Module):
        @nn.compact
        def __call__(self, x):
            def forward(module, x):
                return nn.vjp(lambda module, x: module(x), module, x)

            def backward(pullback, ct):
                params, x = pullback(ct)
                return jax.tree.map(jnp.sign, params), x

            clip = nn.custom_vjp(lambda module, x: module(x), forward, backward)
            return clip(nn.Dense(4), x)

    check(Clipped(), SEQUENCES[:, 0])


def test_train_step_descends():
    """TrainState with fbp's gradient: the same parameters as with JAX's after three steps."""
    optax, train_state = client("optax"), client("flax.training.train_state")
    x, module = SEQUENCES[:, 0], MLP()
    state = train_state.TrainState.create(
        apply_fn=module.apply, params=module.init(KEY, x)["params"], tx=optax.sgd(0.1)
    )

    def run(library):
        @jax.jit
        def step(state):
            loss = lambda params: jnp.mean(state.apply_fn({"params": params}, x) ** 2)
            value, grads = library.value_and_grad(loss)(state.params)
            return state.apply_gradients(grads=grads), value

        values, at = [], state
        for _ in range(3):
            at, value = step(at)
            values.append(float(value))
        return values

    mine = run(fbp)
    np.testing.assert_allclose(mine, run(jax), rtol=1e-5)
    assert mine[2] < mine[0]
