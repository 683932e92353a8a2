import jax
import jax.numpy as jnp
import pytest

from fbp.config import CNN, MLP, RNN, Transformer
from fbp.sweep.networks import build_network

NETWORKS = [
    MLP((8, 8), "tanh"),
    CNN((4, 8), (16,), "gelu"),
    Transformer(width=8, depth=1, heads=2),
    RNN((8, 4)),
    RNN((8,), "gru"),
]


def output_shape(layer, in_shape):
    def outputs(key):
        params, out_shape = layer.init(key, in_shape)
        y = layer.apply(params, jnp.ones(in_shape))
        assert y.shape == out_shape
        return y

    return jax.eval_shape(outputs, jax.random.key(0)).shape


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: type(n).__name__)
def test_every_network_reads_images(network):
    layer = build_network(network, (8, 8, 1), 10)
    assert output_shape(layer, (3, 8, 8, 1)) == (3, 10)


@pytest.mark.parametrize(
    "network", [n for n in NETWORKS if not isinstance(n, CNN)], ids=lambda n: type(n).__name__
)
def test_every_network_but_a_cnn_reads_tables(network):
    layer = build_network(network, (12,), 1)
    assert output_shape(layer, (3, 12)) == (3, 1)


def test_widths_and_activation_are_the_configs():
    params, _ = build_network(MLP((7, 5), "tanh"), (3,), 2).init(jax.random.key(0), (-1, 3))
    kernels = [leaf["kernel"].shape for leaf in params.values() if leaf]
    assert kernels == [(3, 7), (7, 5), (5, 2)]
    assert "2_tanh" in params
