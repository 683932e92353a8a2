"""Gradients and update steps as portable programs: `jax.export` for four platforms at once.

`jax.export` lowers a program for each platform without a compiler of it, and refuses custom
calls that are not stable. Of what fbp has rules for, eig alone is refused: JAX has it for CPU
and GPU only, and does not promise the GPU's call. Keys and the linear algebra pass.

In a program for several platforms each product of matrices is a choice between platforms, which
hinders XLA's fusion: the transformer's last digits differ by it, those of `jax.grad` too. So is
each layer of the CNN that is computed in another way on a CPU.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export, lax

import fbp
from fbp import nn
from fbp.train import initial_state, make_step
from tests.support.agreement import ulps
from tests.support.networks import draw

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
KEY = jax.random.key(0)
ROWS = (4, 8, 8)
FUSED_OTHERWISE = 4  # ULPs


def settle(params, x, *, key=None):
    """x <- tanh(x W + b), until the step is small."""

    def step(state):
        i, x, _ = state
        return i + 1, jnp.tanh(x @ params["kernel"] + params["bias"][None]), x

    def moves(state):
        i, x, previous = state
        return (i < 50) & (jnp.max(jnp.abs(x - previous)) > 1e-3)

    return lax.while_loop(moves, step, (0, x, x + 1))[1]


NETWORKS = {
    "mlp": (nn.mlp([8, 4]), (4, 6)),
    "cnn": (nn.cnn([4], [8, 4]), (4, 8, 8, 1)),
    "transformer": (nn.transformer(4, width=8, depth=1, heads=2, length=8), ROWS),
    "scan": (nn.rnn([8], 4), ROWS),
    "while_loop": (nn.Layer(nn.dense(4).init, settle), (4, 4)),
    "random bits": (nn.serial(nn.dense(8), nn.dropout(0.5), nn.dense(4)), (4, 6)),
}


def task(name):
    """A loss, parameters and a batch."""
    network, in_shape = NETWORKS[name]
    params, x = draw(network, in_shape)
    batch = (jnp.asarray(x), jnp.arange(len(x)) % 4)

    def loss_fn(params, batch, key):
        losses = optax.softmax_cross_entropy_with_integer_labels
        return jnp.mean(losses(network.apply(params, batch[0], key=key), batch[1]))

    return loss_fn, params, batch


def gradient(name):
    loss_fn, params, batch = task(name)
    return jax.jit(fbp.value_and_grad(loss_fn)), (params, batch, KEY)


def update(name):
    loss_fn, params, batch = task(name)
    tx = optax.sgd(0.1, momentum=0.9)
    return make_step(loss_fn, tx), (initial_state(params, tx, KEY), batch)


def from_export(fun, args, platforms=PLATFORMS):
    """What a function gives, by its program, written and read."""
    leaves, tree = jax.tree.flatten(args)
    flat = jax.jit(lambda *leaves: jax.tree.leaves(fun(*jax.tree.unflatten(tree, leaves))))
    exported = export.export(flat, platforms=platforms)(*leaves)
    read = export.deserialize(exported.serialize())
    assert read.platforms == platforms
    return read.call(*leaves)


def difference(got, want):
    """The largest of all leaves, in ULPs; that of keys is none or infinite."""
    want = jax.tree.leaves(want)
    assert [leaf.dtype for leaf in got] == [leaf.dtype for leaf in want]
    return max(ulps(numbers(a), numbers(b)) for a, b in zip(got, want, strict=True))


def numbers(x):
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


@pytest.mark.parametrize("written", [gradient, update])
@pytest.mark.parametrize("name", NETWORKS)
def test_exported_program_is_the_same_bit_for_bit(written, name):
    fun, args = written(name)
    got = from_export(fun, args)
    choosing = ("cnn", "transformer")
    assert difference(got, fun(*args)) <= (FUSED_OTHERWISE if name in choosing else 0)


@pytest.mark.parametrize("name", ["cnn", "transformer"])
def test_exported_for_one_platform_it_is_the_same_bit_for_bit(name):
    fun, args = update(name)
    got = from_export(fun, args, ("cpu",))
    assert difference(got, fun(*args)) == 0


def factors(x):
    eigenvalues, _ = jnp.linalg.eigh(x @ x.T)
    return jnp.sum(eigenvalues**2) + jnp.linalg.det(x) + jnp.sum(jnp.linalg.svd(x)[1])


def test_exported_linear_algebra_is_the_same_bit_for_bit():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)
    fun = jax.jit(fbp.grad(factors))
    assert difference(from_export(fun, (x,)), fun(x)) == 0


def test_eig_is_on_no_tpu():
    spectrum = lambda x: jnp.sum(jnp.abs(jnp.linalg.eig(x)[0]))
    with pytest.raises(NotImplementedError, match="eig"):
        export.export(jax.jit(fbp.grad(spectrum)), platforms=PLATFORMS)(jnp.eye(3))
