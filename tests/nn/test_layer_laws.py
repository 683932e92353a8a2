"""What holds for every layer and every ready-made network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbp import nn
from fbp.verify import compare_with_jax
from tests.support.networks import KEY, draw, out_shape_of, run

WITH_PARAMETERS = {
    "dense": (lambda dtype: nn.dense(3, dtype=dtype), (4, 5)),
    "dense on sequences": (lambda dtype: nn.dense(3, dtype=dtype), (4, 2, 5)),
    "dense without bias": (lambda dtype: nn.dense(3, bias=False, dtype=dtype), (4, 5)),
    "conv 1d": (lambda dtype: nn.conv(3, (3,), dtype=dtype), (2, 7, 2)),
    "conv 2d": (
        lambda dtype: nn.conv(3, (3, 2), strides=(2, 1), padding="VALID", dtype=dtype),
        (2, 7, 6, 2),
    ),
    "positional_embedding": (lambda dtype: nn.positional_embedding(6, dtype=dtype), (2, 4, 3)),
    "layer_norm": (lambda dtype: nn.layer_norm(dtype=dtype), (3, 2, 8)),
    "group_norm": (lambda dtype: nn.group_norm(2, dtype=dtype), (2, 3, 3, 4)),
    "attention": (lambda dtype: nn.multi_head_attention(2, dtype=dtype), (2, 5, 6)),
    "causal attention": (
        lambda dtype: nn.multi_head_attention(3, causal=True, dtype=dtype),
        (2, 5, 6),
    ),
    "lstm": (lambda dtype: nn.lstm(4, dtype=dtype), (2, 5, 3)),
    "lstm last": (lambda dtype: nn.lstm(4, sequence=False, dtype=dtype), (2, 5, 3)),
    "gru": (lambda dtype: nn.gru(4, dtype=dtype), (2, 5, 3)),
    "gru last": (lambda dtype: nn.gru(4, sequence=False, dtype=dtype), (2, 5, 3)),
    "serial": (
        lambda dtype: nn.serial(nn.dense(4, dtype=dtype), nn.tanh(), nn.dropout(0.5)),
        (3, 5),
    ),
    "parallel": (
        lambda dtype: nn.parallel(nn.dense(4, dtype=dtype), same=nn.dropout(0.5)),
        (3, 5),
    ),
    "residual": (
        lambda dtype: nn.residual(nn.layer_norm(dtype=dtype), nn.dense(5, dtype=dtype)),
        (3, 5),
    ),
    "mlp": (lambda dtype: nn.mlp([6, 3], activation=jnp.tanh, dtype=dtype), (4, 5)),
    "cnn": (lambda dtype: nn.cnn([3, 4], [5, 2], dtype=dtype), (2, 6, 5, 1)),
    "transformer": (
        lambda dtype: nn.transformer(3, width=8, depth=1, heads=2, length=5, dtype=dtype),
        (2, 5, 4),
    ),
    "rnn": (lambda dtype: nn.rnn([4, 5], 3, dtype=dtype), (2, 4, 3)),
}

WITHOUT_PARAMETERS = {
    "max_pool": (lambda _: nn.max_pool((2, 2)), (2, 5, 4, 3)),
    "max_pool 1d": (lambda _: nn.max_pool((3,), strides=(2,), padding="SAME"), (2, 6, 3)),
    "average_pool": (lambda _: nn.average_pool((2, 2)), (2, 5, 4, 3)),
    "average_pool same": (lambda _: nn.average_pool((3,), padding="SAME"), (2, 7, 3)),
    "global_max_pool": (lambda _: nn.global_max_pool(), (2, 3, 3, 4)),
    "global_average_pool": (lambda _: nn.global_average_pool(), (2, 3, 4)),
    "flatten": (lambda _: nn.flatten(), (2, 3, 4)),
    "dropout": (lambda _: nn.dropout(0.25), (4, 5)),
    "activation": (lambda _: nn.activation(jnp.sin), (3, 4)),
    "relu": (lambda _: nn.relu(), (3, 4)),
    "gelu": (lambda _: nn.gelu(), (3, 4)),
    "silu": (lambda _: nn.silu(), (3, 4)),
    "elu": (lambda _: nn.elu(), (3, 4)),
    "softplus": (lambda _: nn.softplus(), (3, 4)),
    "tanh": (lambda _: nn.tanh(), (3, 4)),
    "sigmoid": (lambda _: nn.sigmoid(), (3, 4)),
    "softmax": (lambda _: nn.softmax(), (3, 4)),
}

LAYERS = WITH_PARAMETERS | WITHOUT_PARAMETERS


def each(layers):
    return pytest.mark.parametrize(("make", "in_shape"), layers.values(), ids=list(layers))


every_layer = each(LAYERS)


@every_layer
def test_output_shape_matches_init(make, in_shape):
    layer = make(jnp.float32)
    params = jax.eval_shape(lambda: layer.init(KEY, in_shape)[0])
    y = jax.eval_shape(layer.apply, params, jax.ShapeDtypeStruct(in_shape, jnp.float32))
    assert y.shape == out_shape_of(layer, in_shape)


@every_layer
def test_batch_size_does_not_matter_to_init(make, in_shape):
    layer = make(jnp.float32)
    program = lambda batch: str(
        jax.make_jaxpr(lambda key: layer.init(key, (batch, *in_shape[1:]))[0])(KEY)
    )
    assert program(-1) == program(1) == program(7)
    assert out_shape_of(layer, [-1, *in_shape[1:]])[0] == -1


@every_layer
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_parameters_and_output_have_the_dtype(make, in_shape, dtype):
    check_dtype(make(dtype), in_shape, dtype)


@every_layer
@pytest.mark.usefixtures("x64")
def test_parameters_and_output_have_the_dtype_float64(make, in_shape):
    check_dtype(make(jnp.float64), in_shape, jnp.float64)


def check_dtype(layer, in_shape, dtype):
    params = jax.eval_shape(lambda: layer.init(KEY, in_shape)[0])
    x = jax.ShapeDtypeStruct(in_shape, dtype)
    y = jax.eval_shape(lambda params, x: layer.apply(params, x, key=KEY), params, x)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, y))} == {jnp.dtype(dtype)}


@every_layer
def test_examples_do_not_see_each_other(make, in_shape):
    layer = make(jnp.float32)
    params, x = draw(layer, in_shape)
    one_by_one = jax.vmap(lambda x: layer.apply(params, x[None])[0])
    np.testing.assert_allclose(jax.jit(one_by_one)(x), run(layer, params, x), rtol=1e-4, atol=1e-5)


@each(WITH_PARAMETERS)
def test_many_networks_are_one_program_under_vmap(make, in_shape):
    layer = make(jnp.float32)
    params, x = draw(layer, in_shape)
    two = jax.tree.map(lambda leaf: np.stack([leaf, leaf[..., ::-1]]), params)
    together = jax.jit(jax.vmap(layer.apply, in_axes=(0, None)))(two, x)
    np.testing.assert_allclose(together[0], run(layer, params, x), rtol=1e-4, atol=1e-5)


@each(WITH_PARAMETERS)
def test_other_features_than_at_init_are_an_error_with_path_and_shape(make, in_shape):
    network = nn.serial(nn.relu(), under_test=make(jnp.float32))
    params = jax.eval_shape(lambda: network.init(KEY, in_shape)[0])
    wrong = jax.ShapeDtypeStruct((*in_shape[:-1], in_shape[-1] + 6), jnp.float32)
    with pytest.raises(nn.LayerError, match=r"^serial/under_test.*the parameters have") as caught:
        jax.eval_shape(network.apply, params, wrong)
    assert str(wrong.shape[-1]) in caught.value.reason


@every_layer
def test_gradient_is_that_of_jax(make, in_shape):
    check_gradient(make, in_shape, jnp.float32)


@every_layer
@pytest.mark.usefixtures("x64")
def test_gradient_is_that_of_jax_in_float64(make, in_shape):
    check_gradient(make, in_shape, jnp.float64)


def check_gradient(make, in_shape, dtype):
    layer = make(dtype)
    rng = np.random.default_rng(1)
    cotangent = rng.normal(size=out_shape_of(layer, in_shape)).astype(dtype)

    def loss_fn(inputs):
        return jnp.sum(cotangent * layer.apply(*inputs, key=jax.random.key(2)))

    agreement = compare_with_jax(loss_fn, draw(layer, in_shape, dtype))
    assert agreement.max_ulps <= 8, str(agreement)
