import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbp import nn
from fbp.autodiff import value_and_grad
from fbp.verify import compare_with_jax
from tests.support.agreement import total
from tests.support.networks import KEY, draw, out_shape_of, run

TOKENS = jnp.array([[1, 2, 3, 0], [4, 4, 0, 1]])


def trained(network, x, labels, steps=100):
    """The loss before and after some steps."""
    tx = optax.sgd(0.1, momentum=0.9)

    def loss_fn(params):
        logits = network.apply(params, x)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    def step(state, _):
        params, opt_state = state
        loss, grads = value_and_grad(loss_fn)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    @jax.jit
    def train():
        params, _ = network.init(KEY, x.shape)

        return jax.lax.scan(step, (params, tx.init(params)), length=steps)[1]

    losses = train()
    return losses[0], losses[-1]


@pytest.mark.parametrize(
    ("network", "in_shape"),
    [
        (nn.mlp([32, 3]), (12, 8)),
        (nn.cnn([4], [16, 3]), (12, 6, 6, 1)),
        (nn.rnn([16], 3), (12, 5, 4)),
    ],
    ids=["mlp", "cnn", "rnn"],
)
def test_networks_can_learn_random_labels(network, in_shape):
    x = jax.random.normal(jax.random.key(1), in_shape)
    before, after = trained(network, x, jnp.arange(12) % 3)
    assert after < before / 4


def test_a_language_model_learns_the_next_token():
    network = nn.transformer(
        5, width=16, depth=1, heads=2, length=8, vocabulary=5, head="language_model"
    )
    tokens = jnp.arange(8).reshape(1, 8) % 5
    _, after = trained(network, tokens, (tokens + 1) % 5)
    assert after < 0.1


def test_the_layers_of_an_mlp():
    network = nn.mlp([7, 6, 5], activation=jnp.tanh)
    params, _ = draw(network, (3, 2, 4))
    assert list(params) == ["0_flatten", "1_dense", "2_tanh", "3_dense", "4_tanh", "5_dense"]
    assert out_shape_of(network, (3, 2, 4)) == (3, 5)
    assert params["1_dense"]["kernel"].shape == (8, 7)


def test_an_mlp_of_one_width_is_linear():
    params, _ = draw(nn.mlp([3]), (1, 4))
    assert list(params) == ["0_flatten", "1_dense"]


def test_each_convolution_of_a_cnn_halves_the_image():
    params, _ = draw(nn.cnn([2, 3], [4]), (1, 9, 8, 1))
    assert params["7_dense"]["kernel"].shape == (2 * 2 * 3, 4)


def test_a_language_model_does_not_see_the_next_token():
    network = nn.transformer(
        5, width=8, depth=2, heads=2, length=4, vocabulary=5, head="language_model"
    )
    params, _ = draw(network, TOKENS.shape)
    y = run(network, params, TOKENS)
    assert out_shape_of(network, TOKENS.shape) == y.shape == (2, 4, 5)
    changed = run(network, params, TOKENS.at[:, -1].set(3))
    np.testing.assert_array_equal(y[:, :-1], changed[:, :-1])
    np.testing.assert_allclose(run(network, params, TOKENS[:, :2]), y[:, :2], rtol=1e-4, atol=1e-5)


def test_a_transformer_knows_the_order_of_its_input():
    network = nn.transformer(5, width=8, depth=1, heads=2, length=4, vocabulary=5)
    params, _ = draw(network, TOKENS.shape)
    assert np.any(run(network, params, TOKENS) != run(network, params, TOKENS[:, ::-1]))


@pytest.mark.parametrize(
    "network",
    [
        nn.transformer(3, width=8, depth=1, heads=2, length=4, vocabulary=5),
        nn.rnn([6, 4], 3, vocabulary=5),
    ],
    ids=["transformer", "rnn"],
)
def test_gradients_of_networks_over_tokens_are_those_of_jax(network):
    params, _ = draw(network, TOKENS.shape)
    agreement = compare_with_jax(lambda params: total(network.apply(params, TOKENS)), params)
    assert agreement.max_ulps <= 16, str(agreement)


@pytest.mark.parametrize("make", [nn.mlp, lambda w: nn.cnn([2], w), lambda w: nn.rnn(w, 3)])
def test_no_widths_are_an_error(make):
    with pytest.raises(nn.LayerError, match="no widths were given"):
        make([])


def test_an_unknown_head_is_an_error():
    with pytest.raises(nn.LayerError, match="classifier or language_model, got decoder"):
        nn.transformer(3, width=8, depth=1, heads=2, length=4, head="decoder")


@pytest.mark.parametrize(
    ("network", "in_shape", "path"),
    [
        (
            nn.transformer(3, width=9, depth=1, heads=2, length=4),
            (2, 4, 3),
            "block_0/attention/attention",
        ),
        (nn.transformer(3, width=8, depth=1, heads=2, length=4), (2, 5, 3), "position"),
        (nn.cnn([2, 2, 2], [3]), (2, 7, 7, 1), "8_max_pool"),
        (nn.rnn([3], 2), (2, 5), "0_lstm"),
    ],
)
def test_what_does_not_fit_a_network_is_named(network, in_shape, path):
    with pytest.raises(nn.LayerError, match=f"^serial/{path}: .*got shape|{path}: the window"):
        network.init(KEY, in_shape)
