import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fbp
from fbp import nn
from tests.support.agreement import assert_same, total
from tests.support.networks import KEY, draw

DOTS = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
TRANSFORMER = functools.partial(nn.transformer, 3, width=16, depth=3, heads=2, length=8)


def loss_of(network, x, key=None):
    return lambda params: total(network.apply(params, x, key=key))


def remaining(network, params, x):
    """Bytes of the residuals."""
    _, pullback = fbp.vjp(loss_of(network, x), params)
    return sum(residual.bytes for residual in pullback.residuals)


@pytest.mark.parametrize("policy", [None, DOTS], ids=["nothing", "dots"])
def test_gradients_are_those_of_the_layer_itself(policy):
    plain, network = (
        TRANSFORMER(each_block=each)
        for each in (lambda block: block, functools.partial(nn.remat, policy=policy))
    )
    params, x = draw(plain, (4, 8, 16))
    want = jax.jit(fbp.grad(loss_of(plain, x)))(params)
    assert_same(jax.jit(fbp.grad(loss_of(network, x)))(params), want, tolerance=16)
    assert_same(jax.jit(jax.grad(loss_of(network, x)))(params), want, tolerance=16)


def test_a_checkpointed_block_keeps_its_input_alone_and_dots_lie_between():
    networks = [
        TRANSFORMER(each_block=each)
        for each in (
            nn.remat,
            functools.partial(nn.remat, policy=DOTS),
            lambda block: block,
        )
    ]
    params, x = draw(networks[0], (32, 8, 16))
    nothing, dots, everything = (remaining(network, params, x) for network in networks)
    assert nothing < dots / 3 < everything / 6


def test_the_compiled_gradient_of_checkpointed_blocks_in_a_scan_needs_less_memory():
    def temporary(block):
        def loss(params, x):
            return total(jax.lax.scan(lambda x, p: (block.apply(p, x), None), x, params)[0])

        compiled = jax.jit(fbp.grad(loss)).lower(stacked, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    block = nn.residual(nn.dense(64), nn.gelu(), nn.dense(16))
    params, x = draw(block, (64, 16))
    stacked = jax.tree.map(lambda leaf: np.stack([leaf] * 16), params)
    assert temporary(nn.remat(block)) < temporary(block) / 2


def test_parameters_names_and_outputs_are_the_layers():
    plain, network = TRANSFORMER(), TRANSFORMER(each_block=nn.remat)
    params, x = draw(plain, (4, 8, 16))
    assert_same(network.init(KEY, x.shape)[0], plain.init(KEY, x.shape)[0], tolerance=0)
    assert_same(network.apply(params, x), plain.apply(params, x), tolerance=16)
    assert nn.remat(nn.dense(3)).name == "dense"


def test_what_is_dropped_is_dropped_again():
    layer = nn.serial(nn.dense(8), nn.dropout(0.5), nn.dense(8))
    params, x = draw(layer, (4, 8))
    want = fbp.grad(loss_of(layer, x, KEY))(params)
    assert_same(fbp.grad(loss_of(nn.remat(layer), x, KEY))(params), want, tolerance=8)
    assert np.any(
        want["0_dense"]["kernel"] != fbp.grad(loss_of(layer, x))(params)["0_dense"]["kernel"]
    )


def test_an_input_that_does_not_fit_is_named_with_the_layers_path():
    network = nn.serial(nn.remat(nn.serial(nn.dense(3))))
    params, _ = draw(network, (2, 4))
    with pytest.raises(nn.LayerError, match=r"^serial/0_serial/0_dense: an input \[2, 5\]"):
        network.apply(params, jnp.ones((2, 5)))
