import jax.numpy as jnp
import numpy as np
import pytest

from fbp import nn
from fbp.verify import compare_with_jax
from tests.support.agreement import total
from tests.support.networks import KEY, draw, out_shape_of, run


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8])
def test_embedding_looks_rows_up(dtype):
    layer = nn.embedding(7, 3)
    params, _ = draw(layer, (2, 4))
    tokens = jnp.array([[0, 6, 2, 2], [1, 1, 5, 0]], dtype)
    expected = np.asarray(params["embedding"])[np.asarray(tokens)]
    assert out_shape_of(layer, (2, 4)) == (2, 4, 3)
    np.testing.assert_array_equal(run(layer, params, tokens), expected)


def test_tokens_outside_of_the_vocabulary_give_nan():
    params, _ = draw(nn.embedding(7, 3), (4, 1))
    y = run(nn.embedding(7, 3), params, jnp.array([[7], [6], [-1], [-8]]))
    np.testing.assert_array_equal(np.isnan(y[:, 0, 0]), [True, False, True, True])


@pytest.mark.parametrize("x", [jnp.ones((2, 3)), jnp.ones((2, 3), bool)])
def test_tokens_must_be_integers(x):
    params, _ = draw(nn.embedding(7, 3), (2, 3))
    with pytest.raises(nn.LayerError, match=rf"must be integers, got {x.dtype}\[2, 3\]"):
        nn.embedding(7, 3).apply(params, x)


def test_the_gradient_of_an_embedding_is_that_of_jax():
    params, _ = draw(nn.embedding(7, 3), (2, 4))
    tokens = jnp.array([[0, 6, 2, 2], [1, 1, 5, 0]])
    loss_fn = lambda params: total(nn.embedding(7, 3).apply(params, tokens))
    assert compare_with_jax(loss_fn, params).max_ulps <= 4


@pytest.mark.parametrize("time", [1, 4, 6])
def test_positions_are_added_from_the_first_on(time):
    layer = nn.positional_embedding(6)
    params, x = draw(layer, (2, time, 3))
    expected = x + params["embedding"][:time]
    np.testing.assert_allclose(run(layer, params, x), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 7, 3), (2, 3), (2, 2, 2, 3)])
def test_times_longer_than_the_length_are_an_error(shape):
    layer = nn.positional_embedding(6)
    with pytest.raises(nn.LayerError, match="time at most 6, got shape"):
        layer.init(KEY, shape)
    params, _ = draw(layer, (2, 6, 3))
    with pytest.raises(nn.LayerError, match="time at most 6, got shape"):
        layer.apply(params, jnp.ones(shape))
