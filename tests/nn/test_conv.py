import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy.signal import correlate

import fbp
from fbp import nn
from tests.support.agreement import assert_same, total
from tests.support.jaxprs import lowered
from tests.support.networks import KEY, draw, out_shape_of, run


def padded(x, window, strides):
    """Zeros around x so that ceil(size / stride) windows fit, the odd one at the end."""
    widths = [(0, 0)]
    for size, extent, stride in zip(x.shape[1:-1], window, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        widths.append((total // 2, total - total // 2))
    return np.pad(x, [*widths, (0, 0)])


def convolution(x, kernel, bias, strides, padding):
    """By scipy, one pair of channels after another."""
    window = kernel.shape[:-2]
    x = padded(x, window, strides) if padding == "SAME" else x
    steps = tuple(slice(None, None, stride) for stride in strides)
    planes = [
        sum(correlate(example[..., c], kernel[..., c, f], mode="valid") for c in range(x.shape[-1]))
        for example, f in itertools.product(x, range(kernel.shape[-1]))
    ]
    y = np.reshape([plane[steps] for plane in planes], (len(x), kernel.shape[-1], -1))
    spatial = planes[0][steps].shape
    return np.moveaxis(y, 1, -1).reshape(len(x), *spatial, -1) + bias


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("in_shape", "window", "strides"),
    [
        ((2, 7, 3), (3,), (1,)),
        ((2, 8, 3), (4,), (2,)),
        ((1, 5, 1), (5,), (3,)),
        ((2, 6, 5, 2), (3, 3), (1, 1)),
        ((2, 7, 6, 2), (2, 3), (2, 1)),
        ((1, 4, 4, 3), (1, 1), (2, 2)),
        ((1, 5, 4, 7), (3, 3), (2, 1)),
    ],
)
def test_conv_is_a_correlation(in_shape, window, strides, padding):
    layer = nn.conv(4, window, strides=strides, padding=padding)
    params, x = draw(layer, in_shape)
    expected = convolution(x, params["kernel"], params["bias"], strides, padding)
    assert out_shape_of(layer, in_shape) == expected.shape
    np.testing.assert_allclose(run(layer, params, x), expected, rtol=1e-5, atol=1e-5)


def test_the_kernel_keeps_the_variance_of_its_input():
    params, _ = nn.conv(256, (3, 3)).init(KEY, (-1, 8, 8, 64))
    assert abs(float(jnp.std(params["kernel"])) * 24 - 1) < 0.01


def test_without_bias_no_parameter_is_one():
    params, x = draw(nn.conv(2, (3,), bias=False), (1, 8, 1))
    assert list(params) == ["kernel"]
    np.testing.assert_array_equal(run(nn.conv(2, (3,), bias=False), params, 0 * x), 0)


@pytest.mark.parametrize(
    ("window", "shape", "message"),
    [
        ((3,), (4, 5), r"must be \[batch, width, channels\], got shape \[4, 5\]"),
        ((3, 3), (4, 5, 1), r"must be \[batch, height, width, channels\], got shape \[4, 5, 1\]"),
        ((3, 3), (4, 5, 2, 1), r"window \[3, 3\] does not fit into an input \[4, 5, 2, 1\]"),
    ],
)
def test_inputs_that_do_not_fit_are_an_error(window, shape, message):
    layer = nn.conv(2, window, padding="VALID")
    with pytest.raises(nn.LayerError, match=message):
        layer.init(KEY, shape)
    with pytest.raises(nn.LayerError, match=message):
        layer.apply({}, jnp.ones(shape))


def test_other_channels_are_an_error_that_shows_both_shapes():
    layer = nn.conv(2, (3,))
    params, _ = draw(layer, (1, 8, 3))
    with pytest.raises(nn.LayerError, match=r"input \[1, 8, 4\] needs .*\[3, 4, 2\].*\[3, 3, 2\]"):
        layer.apply(params, jnp.ones((1, 8, 4)))


# Small patches: a product on a CPU, a convolution elsewhere


def convolved(params, x, strides, padding):
    return lax.conv_general_dilated(
        x, params["kernel"], strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
@pytest.mark.parametrize(("strides", "padding"), [((1, 1), "SAME"), ((2, 3), "VALID")])
def test_a_product_of_patches_is_the_convolution(dtype, strides, padding):
    layer = nn.conv(4, (3, 2), strides=strides, padding=padding, bias=False, dtype=dtype)
    params, x = draw(layer, (2, 7, 6, 2), dtype)
    ct = convolved(params, x, strides, padding) / 2

    def values_and_cotangents(fun):
        y, pullback = fbp.vjp(fun, params, x)
        return y, *pullback(ct)

    got, want = jax.jit(
        lambda: (
            values_and_cotangents(layer.apply),
            values_and_cotangents(lambda params, x: convolved(params, x, strides, padding)),
        )
    )()
    assert_same(got, want, tolerance=4)


def test_second_derivatives_of_a_product_of_patches_for_each_trial_are_those_of_the_convolution():
    layer = nn.conv(2, (2, 2), bias=False)
    params, x = draw(layer, (2, 3, 3, 2))

    def curved(fun):
        gradient = fbp.grad(lambda params: total(jnp.tanh(fun(params))))
        along = lambda params: fbp.grad(lambda p: total(gradient(p)))(params)
        return jax.vmap(along)(jax.tree.map(lambda w: jnp.stack([w, w / 2]), params))

    got, want = jax.jit(
        lambda: (
            curved(lambda params: layer.apply(params, x)),
            curved(lambda params: convolved(params, x, (1, 1), "SAME")),
        )
    )()
    assert_same(got, want, tolerance=16)


@pytest.mark.parametrize(("platform", "used"), [("cpu", (0, 3)), ("cuda", (3, 0)), ("tpu", (3, 0))])
def test_programs_for_other_platforms_convolve(platform, used):
    layer = nn.conv(4, (3, 3), bias=False)
    gradient = fbp.grad(lambda *args: jnp.sum(layer.apply(*args) ** 2), argnums=(0, 1))
    operations = lowered(gradient, *draw(layer, (2, 6, 5, 1)), platform=platform)
    assert (operations["convolution"], operations["dot_general"]) == used
    assert bool(operations["concatenate"]) == (platform == "cpu")
