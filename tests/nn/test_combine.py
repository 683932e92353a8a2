import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbp import nn
from tests.support.networks import KEY, draw

X = jnp.linspace(-1.0, 1.0, 12).reshape(3, 4)


def drawn(layer):
    return draw(layer, X.shape)[0]


def test_serial_is_composition():
    network = nn.serial(nn.dense(5), nn.tanh(), head=nn.dense(2))
    params = drawn(network)
    hidden = jnp.tanh(nn.dense(5).apply(params["0_dense"], X))
    expected = nn.dense(2).apply(params["head"], hidden)
    np.testing.assert_array_equal(network.apply(params, X), expected)


def test_serial_of_nothing_is_the_identity():
    params, out_shape = nn.serial().init(KEY, (-1, 4))
    assert (params, out_shape) == ({}, (-1, 4))
    np.testing.assert_array_equal(nn.serial().apply(params, X), X)


def test_names_are_positions_and_kinds_or_keywords():
    network = nn.serial(nn.dense(5), nn.serial(nn.relu()), nn.activation(jnp.sin), out=nn.tanh())
    assert list(drawn(network)) == ["0_dense", "1_serial", "2_sin", "out"]


def test_names_run_on_after_ten_layers_in_order():
    layers = [nn.dense(3) for _ in range(12)]
    network = nn.serial(*layers)
    params = jax.tree.map(jnp.asarray, drawn(network))
    expected = X
    for i, layer in enumerate(layers):
        expected = layer.apply(params[f"{i}_dense"], expected)
    np.testing.assert_array_equal(network.apply(params, X), expected)


def test_parallel_joins_what_its_layers_make_of_one_input():
    layer = nn.parallel(nn.dense(2), same=nn.relu())
    params = drawn(layer)
    expected = [nn.dense(2).apply(params["0_dense"], X), jax.nn.relu(X)]
    np.testing.assert_array_equal(layer.apply(params, X), jnp.concatenate(expected, axis=-1))


def test_residual_adds_its_input():
    layer = nn.residual(nn.tanh(), nn.dense(4))
    params = drawn(layer)
    inner = nn.serial(nn.tanh(), nn.dense(4))
    np.testing.assert_array_equal(layer.apply(params, X), X + inner.apply(params, X))


@pytest.mark.parametrize("combine", [nn.serial, nn.parallel, nn.residual])
def test_each_child_has_another_key(combine):
    params, _ = combine(nn.dense(4), nn.dense(4)).init(KEY, (-1, 4))
    assert not np.any(params["0_dense"]["kernel"] == params["1_dense"]["kernel"])
    noise = nn.parallel(nn.dropout(0.5), nn.dropout(0.5))
    left, right = jnp.split(noise.apply(drawn(noise), jnp.ones((8, 4)), key=KEY), 2, axis=-1)
    assert np.any(left != right)


@pytest.mark.parametrize("combine", [nn.serial, nn.parallel, nn.residual])
def test_without_a_key_nothing_is_random(combine):
    layer = combine(nn.dropout(0.5), nn.dropout(0.5))
    params = drawn(layer)
    np.testing.assert_array_equal(layer.apply(params, X), layer.apply(params, X))
    assert "random" not in str(jax.make_jaxpr(layer.apply)(params, X))


def test_adding_a_layer_at_the_end_leaves_the_others_parameters_alone():
    networks = nn.serial(nn.dense(4)), nn.serial(nn.dense(4), nn.dense(2))
    short, long = (network.init(KEY, (-1, 4))[0] for network in networks)
    np.testing.assert_array_equal(short["0_dense"]["kernel"], long["0_dense"]["kernel"])


def test_the_path_leads_through_every_combinator():
    network = nn.serial(body=nn.residual(nn.parallel(nn.serial(deep=nn.dense(4)))))
    params = drawn(network)
    with pytest.raises(nn.LayerError) as caught:
        network.apply(params, jnp.ones((3, 7)))
    assert str(caught.value) == (
        "serial/body/0_parallel/0_serial/deep: an input [3, 7] needs bias [4], kernel [7, 4], "
        "the parameters have bias [4], kernel [4, 4]"
    )
    assert caught.value.path == ("serial", "body", "0_parallel", "0_serial", "deep")


def test_errors_of_init_have_the_path_too():
    network = nn.serial(nn.serial(nn.conv(4, (3, 3))))
    with pytest.raises(nn.LayerError, match=r"^serial/0_serial/0_conv: .*got shape \[-1, 4\]$"):
        network.init(KEY, (-1, 4))


def test_equations_carry_the_path_in_their_name_stack():
    network = nn.serial(first=nn.serial(nn.dense(2)))
    jaxpr = jax.make_jaxpr(network.apply)(drawn(network), X)
    assert {str(eqn.source_info.name_stack) for eqn in jaxpr.eqns} == {"first/0_dense"}


@pytest.mark.parametrize("combine", [nn.serial, nn.parallel, nn.residual])
def test_parameters_of_other_layers_are_an_error(combine):
    layer = combine(nn.relu(), last=nn.dense(4))
    with pytest.raises(nn.LayerError, match="the layers are 0_relu, last, the parameters are of "):
        layer.apply(drawn(nn.dense(4)), X)


def test_parallel_outputs_must_differ_in_the_last_axis_only():
    layer = nn.parallel(nn.relu(), short=nn.flatten())
    with pytest.raises(nn.LayerError) as caught:
        layer.init(KEY, (-1, 3, 2))
    assert str(caught.value) == (
        "parallel: the outputs are 0_relu [-1, 3, 2], short [-1, 6]: "
        "all axes but the last must be the same"
    )
    with pytest.raises(nn.LayerError, match=r"short \[5, 6\]"):
        layer.apply({"0_relu": {}, "short": {}}, jnp.ones((5, 3, 2)))


def test_parallel_of_nothing_is_an_error():
    with pytest.raises(nn.LayerError, match="no layers"):
        nn.parallel()


def test_residual_layers_must_keep_the_shape():
    layer = nn.residual(nn.flatten())
    with pytest.raises(nn.LayerError, match=r"^residual: the layers make \[-1, 6\]"):
        layer.init(KEY, (-1, 3, 2))
    with pytest.raises(nn.LayerError, match=r"\[5, 6\] of an input \[5, 3, 2\]"):
        layer.apply({"0_flatten": {}}, jnp.ones((5, 3, 2)))
