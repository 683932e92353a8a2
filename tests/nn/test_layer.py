import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn.initializers import normal, ones

from fbp import nn
from fbp.errors import InputError

KEY = jax.random.key(0)


def scale():
    return nn.make_layer(
        "scale",
        lambda params, x: x * jnp.broadcast_to(params["by"], x.shape),
        out_shape=lambda in_shape: in_shape,
        parameters=lambda in_shape: {"by": nn.Parameter(in_shape[-1:], ones)},
    )


def test_a_layer_unpacks_into_init_and_apply():
    init, apply = scale()
    params, _ = init(KEY, (-1, 3))
    np.testing.assert_array_equal(apply(params, jnp.ones((2, 3))), jnp.ones((2, 3)))


def test_the_name_of_a_layer_is_that_of_its_apply():
    def double(params, x, *, key=None):
        return 2 * x

    assert scale().name == "scale"
    assert nn.Layer(lambda key, in_shape: ({}, in_shape), double).name == "double"


def test_parameters_of_another_shape_are_an_error_that_shows_both():
    params, _ = scale().init(KEY, (-1, 3))
    with pytest.raises(nn.LayerError) as caught:
        scale().apply(params, jnp.ones((2, 4)))
    assert str(caught.value) == ("scale: an input [2, 4] needs by [4], the parameters have by [3]")


@pytest.mark.parametrize("params", [{}, {"on": jnp.ones(3)}, {"by": jnp.ones(3), "on": 1.0}])
def test_other_parameters_are_an_error(params):
    with pytest.raises(nn.LayerError, match=r"scale: an input \[2, 3\] needs by \[3\]"):
        scale().apply(params, jnp.ones((2, 3)))


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_must_be_positive(size):
    with pytest.raises(nn.LayerError, match="every size but the batch must be 1 or more"):
        scale().init(KEY, (4, size))


def test_the_order_of_parameters_does_not_matter():
    layer = nn.dense(2)
    params, _ = layer.init(KEY, (-1, 3))
    turned = dict(reversed(params.items()))
    np.testing.assert_array_equal(
        layer.apply(turned, jnp.ones((1, 3))), layer.apply(params, jnp.ones((1, 3)))
    )


def test_parameters_of_one_layer_have_different_keys():
    layer = nn.make_layer(
        "twins",
        lambda params, x: x,
        out_shape=lambda in_shape: in_shape,
        parameters=lambda _: {name: nn.Parameter((8,), normal()) for name in "ab"},
    )
    params, _ = layer.init(KEY, (1,))
    assert not np.any(params["a"] == params["b"])


def test_a_layer_error_is_bad_input_and_can_be_sent_to_another_process():
    error = nn.LayerError(("serial", "0_dense"), "wrong")
    assert isinstance(error, InputError)
    assert str(pickle.loads(pickle.dumps(error))) == "serial/0_dense: wrong"


@pytest.mark.parametrize("layer", [nn.dense, nn.lstm])
def test_narrow_parameters_are_rounded_wide_ones(layer):
    narrow, wide = (layer(3, dtype=d).init(KEY, (1, 2, 4))[0] for d in ("bfloat16", "float32"))
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), wide)
    chex.assert_trees_all_equal(narrow, rounded)
