import jax.numpy as jnp
import numpy as np
import pytest

from fbp import nn
from tests.support.networks import KEY, draw, run


def normalized(x, axes, epsilon=1e-5):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


@pytest.mark.parametrize("in_shape", [(4, 6), (2, 3, 6), (2, 3, 3, 6)])
def test_layer_norm_normalizes_the_features_at_each_position(in_shape):
    params, x = draw(nn.layer_norm(), in_shape)
    expected = normalized(x, -1) * params["scale"] + params["bias"]
    np.testing.assert_allclose(run(nn.layer_norm(), params, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("in_shape", [(4, 6), (2, 5, 6), (2, 3, 4, 6)])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_group_norm_normalizes_each_group_over_all_positions(in_shape, groups):
    layer = nn.group_norm(groups)
    params, x = draw(layer, in_shape)
    parts = np.split(x, groups, axis=-1)
    axes = tuple(range(1, len(in_shape)))
    expected = np.concatenate([normalized(part, axes) for part in parts], axis=-1)
    expected = expected * params["scale"] + params["bias"]
    np.testing.assert_allclose(run(layer, params, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [nn.layer_norm(epsilon=1e-3), nn.group_norm(2, epsilon=1e-3)])
def test_constant_features_become_the_bias(layer):
    params, x = draw(layer, (2, 3, 6))
    y = run(layer, params, np.full_like(x, 7.0))
    np.testing.assert_allclose(y, np.broadcast_to(params["bias"], y.shape), atol=1e-6)


def test_statistics_of_narrow_floats_are_taken_in_float32():
    x = (1000 + jnp.arange(512.0)).reshape(1, 512).astype(jnp.bfloat16)
    layer = nn.layer_norm(dtype=jnp.bfloat16)
    params, _ = layer.init(KEY, x.shape)
    expected = normalized(np.asarray(x, np.float64), -1)
    np.testing.assert_allclose(run(layer, params, x).astype(float), expected, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("shape", [(4,), (2, 5), (2, 3, 5)])
def test_groups_must_divide_the_channels(shape):
    with pytest.raises(nn.LayerError, match=r"a multiple of 2 groups, got shape"):
        nn.group_norm(2).init(KEY, shape)


def test_layer_norm_needs_features():
    with pytest.raises(nn.LayerError, match="axis of features"):
        nn.layer_norm().init(KEY, ())
