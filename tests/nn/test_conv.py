import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate

from fbp import nn
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
