import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbp import nn

KEY = jax.random.key(0)


def test_without_a_key_the_input_is_returned():
    x = jnp.ones((3, 4))
    assert nn.dropout(0.9).apply({}, x) is x


def test_entries_vanish_with_the_rate_and_the_mean_stays():
    y = nn.dropout(0.2).apply({}, jnp.ones((200, 500)), key=KEY)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(0.8)}
    assert abs(float(jnp.mean(y == 0)) - 0.2) < 0.01
    assert abs(float(jnp.mean(y)) - 1) < 0.01


def test_one_key_gives_one_result_and_another_key_another():
    apply = lambda key: nn.dropout(0.5).apply({}, jnp.ones(64), key=key)
    np.testing.assert_array_equal(apply(KEY), apply(KEY))
    assert np.any(apply(KEY) != apply(jax.random.key(1)))


def test_nothing_vanishes_at_rate_zero():
    x = jnp.arange(8.0)
    np.testing.assert_array_equal(nn.dropout(0.0).apply({}, x, key=KEY), x)


def test_the_gradient_passes_where_entries_stayed():
    loss_fn = lambda x: jnp.sum(nn.dropout(0.5).apply({}, x, key=KEY))
    y = nn.dropout(0.5).apply({}, jnp.ones(32), key=KEY)
    np.testing.assert_array_equal(jax.grad(loss_fn)(jnp.ones(32)), y)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_rates_outside_of_zero_to_one_are_an_error(rate):
    with pytest.raises(nn.LayerError, match=r"^dropout: the rate must be .*got "):
        nn.dropout(rate)
