"""Flax's nnx: modules split into a graph and a state, and merged within the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.agreement import total
from tests.support.clients import assert_grad, client

nnx = client("flax.nnx")

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)), jnp.float32)
SEQUENCES = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, 6)), jnp.float32)
IMAGES = jnp.asarray(np.random.default_rng(2).normal(size=(2, 6, 6, 2)), jnp.float32)


class MLP(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(6, 8, rngs=rngs)
        self.dropout = nnx.Dropout(0.4, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.last = nnx.LoRA(8, 2, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.norm(self.dropout(nnx.gelu(self.first(x)))))


class CNN(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(2, 4, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dense = nnx.Linear(36, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.norm(self.conv(x))), (2, 2), strides=(2, 2))
        return self.dense(x.reshape(x.shape[0], -1))


class Blocks(nnx.Module):
    """Layers made by `nnx.vmap` and run by `nnx.scan` over `nnx.remat`."""

    def __init__(self, rngs):
        split = nnx.split_rngs(splits=3)
        make = nnx.vmap(lambda rngs: nnx.Linear(6, 6, rngs=rngs), in_axes=(0,), out_axes=0)
        self.layers = split(make)(rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        @nnx.remat
        def step(x, layer):
            return x + jnp.tanh(layer(x))

        return step(x, self.layers)


def check(module, x, tolerance=4):
    """The gradient in the parameters and the input; the rest of the state comes out as it does."""
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    def loss(params, x):
        module = nnx.merge(graph, params, rest, copy=True)
        value = total(module(x))
        return value, nnx.state(module, nnx.BatchStat)

    assert_grad(loss, params, x, argnums=(0, 1), has_aux=True, tolerance=tolerance)


def test_mlp_with_dropout_and_low_rank_adaptation():
    check(MLP(nnx.Rngs(0, dropout=1)), X)


def test_batch_statistics():
    check(CNN(nnx.Rngs(0)), IMAGES, tolerance=32)


def test_scan_over_layers():
    check(Blocks(nnx.Rngs(0)), X, tolerance=16)


def test_attention():
    rngs = nnx.Rngs(0)
    attention = nnx.MultiHeadAttention(
        num_heads=2, in_features=6, decode=False, use_bias=False, rngs=rngs
    )
    check(attention, SEQUENCES, tolerance=16)


@pytest.mark.parametrize("cell", ["LSTMCell", "GRUCell", "SimpleCell"])
def test_recurrent(cell):
    check(nnx.RNN(getattr(nnx, cell)(6, 4, rngs=nnx.Rngs(0))), SEQUENCES, tolerance=16)


def test_functions_that_update_state():
    """A module with a count: within `nnx.jit`, fbp differentiates the split state."""

    class Counted(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(6, 2, rngs=rngs)
            self.count = nnx.Variable(jnp.array(0.0))

        def __call__(self, x):
            self.count[...] += 1.0
            return self.linear(x) * self.count[...]

    graph, params, rest = nnx.split(Counted(nnx.Rngs(0)), nnx.Param, ...)

    def loss(params, x):
        module = nnx.merge(graph, params, rest, copy=True)
        twice = nnx.jit(lambda module, x: module(x) + module(x))(module, x)
        return total(twice), nnx.state(module, nnx.Not(nnx.Param))

    assert_grad(loss, params, X, argnums=(0, 1), has_aux=True)


def test_optimizer_descends():
    """`nnx.Optimizer` takes fbp's gradient of the parameters' state."""
    import fbp

    optax = client("optax")
    module = MLP(nnx.Rngs(0, dropout=1))
    module.eval()
    optimizer = nnx.Optimizer(module, optax.adam(0.01), wrt=nnx.Param)
    values = []
    for _ in range(4):
        graph, params, rest = nnx.split(module, nnx.Param, ...)
        loss = lambda params: jnp.mean((nnx.merge(graph, params, rest, copy=True)(X) - 1) ** 2)
        value, grads = jax.jit(fbp.value_and_grad(loss))(params)
        optimizer.update(module, grads)
        values.append(float(value))
    assert values == sorted(values, reverse=True)
