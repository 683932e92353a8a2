import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fbp
from fbp import nn
from tests.support.jaxprs import lowered
from tests.support.networks import KEY, draw, run

REDUCE = {nn.max_pool: np.nanmax, nn.average_pool: np.nanmean}
REDUCE_ALL = {nn.global_max_pool: np.max, nn.global_average_pool: np.mean}


def pooled(x, reduce, window, strides, padding):
    """By a loop over the places; what padding adds is NaN, which `reduce` passes over."""
    sizes = np.array(x.shape[1:-1])
    positions = -(-sizes // strides) if padding == "SAME" else (sizes - window) // strides + 1
    total = np.maximum((positions - 1) * strides + window - sizes, 0)
    before = total // 2
    around = [(0, 0), *zip(before, total - before, strict=True), (0, 0)]
    x = np.pad(x, around, constant_values=np.nan)
    y = np.empty((x.shape[0], *positions, x.shape[-1]))
    for position in np.ndindex(*positions):
        start = np.array(position) * strides
        part = tuple(slice(s, s + w) for s, w in zip(start, window, strict=True))
        axes = tuple(range(1, x.ndim - 1))
        y[(slice(None), *position)] = reduce(x[(slice(None), *part)], axis=axes)
    return y


@pytest.mark.parametrize("make", REDUCE)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("in_shape", "window", "strides"),
    [
        ((2, 7, 3), (2,), None),
        ((2, 7, 3), (3,), (2,)),
        ((2, 6, 6, 2), (2, 2), None),
        ((2, 5, 7, 2), (3, 2), (1, 3)),
    ],
)
def test_pooling_reduces_each_window(make, in_shape, window, strides, padding):
    layer = make(window, strides=strides, padding=padding)
    _, x = draw(layer, in_shape)
    expected = pooled(x, REDUCE[make], np.array(window), strides or window, padding)
    assert layer.init(KEY, in_shape) == ({}, expected.shape)
    np.testing.assert_allclose(run(layer, {}, x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("make", REDUCE_ALL)
@pytest.mark.parametrize("in_shape", [(2, 5, 3), (2, 4, 5, 3)])
def test_global_pooling_reduces_all_positions(make, in_shape):
    _, x = draw(make(), in_shape)
    expected = REDUCE_ALL[make](x, axis=tuple(range(1, x.ndim - 1)))
    np.testing.assert_allclose(run(make(), {}, x), expected, rtol=1e-6, atol=1e-6)


def test_flatten_keeps_the_order():
    x = jnp.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(nn.flatten().apply({}, x), x.reshape(2, 12))


def test_flatten_gives_scalars_an_axis_of_features():
    assert nn.flatten().init(KEY, (-1,)) == ({}, (-1, 1))


@pytest.mark.parametrize("make", REDUCE_ALL)
def test_global_pooling_needs_spatial_axes(make):
    with pytest.raises(nn.LayerError, match=r"spatial.*got shape \[4, 3\]"):
        make().apply({}, jnp.ones((4, 3)))


@pytest.mark.parametrize("make", REDUCE)
def test_inputs_smaller_than_the_window_are_an_error(make):
    with pytest.raises(nn.LayerError, match=r"window \[4\] does not fit into an input \[1, 3, 2\]"):
        make((4,)).apply({}, jnp.ones((1, 3, 2)))


def test_flatten_needs_a_batch():
    with pytest.raises(nn.LayerError, match="batch axis"):
        nn.flatten().init(KEY, ())


# Blocks that tile the input: compared one by one on a CPU, a window elsewhere


def largest(x, window, padding):
    window = (1, *window, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, window, padding)


@pytest.mark.parametrize(
    ("in_shape", "window", "padding"),
    [((2, 7, 5, 2), (2, 2), "VALID"), ((2, 6, 4, 2), (3, 2), "SAME"), ((3, 9, 1), (4,), "VALID")],
)
def test_the_first_of_the_largest_in_a_block_gets_the_cotangent(in_shape, window, padding):
    x = np.random.default_rng(0).integers(0, 3, in_shape).astype(np.float32)
    layer = nn.max_pool(window, padding=padding)

    @jax.jit
    def gradients(x):
        ways = (lambda x: layer.apply({}, x)), (lambda x: largest(x, window, padding))
        loss = lambda fun: lambda x: jnp.sum((fun(x) + 1) ** 2)
        once = [fbp.value_and_grad(loss(fun))(x) for fun in ways]
        twice = [fbp.grad(lambda x, f=fun: jnp.sum(fbp.grad(loss(f))(x) ** 2))(x) for fun in ways]
        return list(zip(*once, strict=True)), [twice]

    for pairs in gradients(x):
        for got, want in pairs:
            np.testing.assert_array_equal(got, want)


def test_a_block_that_holds_nan_is_nan():
    x = jnp.ones((4, 2, 2, 1)).at[jnp.arange(4), jnp.arange(4) // 2, jnp.arange(4) % 2].set(jnp.nan)
    assert np.isnan(run(nn.max_pool((2, 2)), {}, x)).all()


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_programs_for_other_platforms_pool_by_windows(platform):
    gradient = fbp.grad(lambda x: jnp.sum(nn.max_pool((2, 2)).apply({}, x) ** 2))
    operations = lowered(gradient, jnp.ones((2, 6, 4, 1)), platform=platform)
    windows = 0 if platform == "cpu" else 1
    assert operations["reduce_window"] == operations["select_and_scatter"] == windows
    assert bool(operations["select"]) == (platform == "cpu")
