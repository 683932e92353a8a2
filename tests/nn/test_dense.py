import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn.initializers import constant

from fbp import nn
from tests.support.networks import KEY, draw, run


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
def test_dense_is_a_product_and_a_sum(shape):
    params, x = draw(nn.dense(4), shape)
    expected = x @ params["kernel"] + params["bias"]
    np.testing.assert_allclose(run(nn.dense(4), params, x), expected, rtol=1e-5, atol=1e-6)


def test_without_bias_no_parameter_is_one():
    params, x = draw(nn.dense(4, bias=False), (1, 5))
    assert list(params) == ["kernel"]
    np.testing.assert_array_equal(run(nn.dense(4, bias=False), params, 0 * x), 0)


def test_the_kernel_keeps_the_variance_of_its_input():
    params, _ = nn.dense(400).init(KEY, (-1, 900))
    assert abs(float(jnp.std(params["kernel"])) * 30 - 1) < 0.01
    assert not np.any(params["bias"])


def test_the_kernels_distribution_can_be_chosen():
    params, _ = nn.dense(2, kernel_init=constant(0.5)).init(KEY, (-1, 3))
    np.testing.assert_array_equal(params["kernel"], 0.5)


def test_one_product_and_one_sum_are_traced():
    jaxpr = jax.make_jaxpr(nn.dense(4).apply)(*draw(nn.dense(4), (3, 5)))
    assert [eqn.primitive.name for eqn in jaxpr.eqns] == ["dot_general", "broadcast_in_dim", "add"]


def test_an_input_without_axes_is_an_error():
    with pytest.raises(nn.LayerError, match=r"^dense: .* got shape \[\]"):
        nn.dense(4).init(KEY, ())
