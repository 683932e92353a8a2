"""Convolution, written for one spatial dimension:

    y[b,o,s] = sum_{i,t} x[b,i,q] w[o,i,t]    where    stride s + dilation_w t - low = dilation_x q

The cotangents are convolutions again. In them, ct is dilated by what y was strided by, and the
strides are what x (for ct_w: w) was dilated by:

    ct_x[b,i,q] = sum_{o,t} ct[b,o,s] w[o,i,t]    as s falls when t grows, w is reversed
    ct_w[o,i,t] = sum_{b,s} ct[b,o,s] x[b,i,q]    batch and features of x exchange their places

With feature groups g, features (g,i) of x meet only features (g,o) of y. With batch groups,
batch (g,b) of x meets only features (g,o) of y. For ct_w the two kinds exchange their places.

The cotangents' convolutions are written with operands transposed to (batch, space, features) and
(space, features in, features out). XLA brings convolutions into this form for its fast kernels on
the CPU, but not those inside loops: there a training step took 15 to 40 times as long without.
"""

from typing import Any, NamedTuple

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.avals import as_dtype, partitioned, sharding_like, zeros
from fbp.autodiff.rule import Rules, transpose


class Extent(NamedTuple):
    """The sizes of input, kernel and output in one spatial dimension, holes included, and how far
    before the input the kernel starts."""

    x: int
    w: int
    y: int
    low: int


def reaches(ct: Any, x: Any, w: Any, params: dict[str, Any]) -> list[Extent]:
    """Return the extents in each spatial dimension."""

    def extent(n: int, dilation: int) -> int:
        return (n - 1) * dilation + 1 if n else 0

    spatial = zip(*(spec[2:] for spec in params["dimension_numbers"]), strict=True)
    holes = zip(
        params["lhs_dilation"], params["rhs_dilation"], params["window_strides"], strict=True
    )
    return [
        Extent(extent(x.shape[i], dx), extent(w.shape[j], dw), extent(ct.shape[k], dy), low)
        for (i, j, k), (dx, dw, dy), (low, _) in zip(spatial, holes, params["padding"], strict=True)
    ]


def input_cotangent(ct: Any, x: Any, w: Any, **params: Any) -> Any:
    """Pull back to x: ct_x is the dilated cotangent convolved with the reversed kernel."""
    if ct.size == 0 or x.size == 0:
        return zeros(x)
    (batch, feature, *_), (out, into, *window), y_spec = params["dimension_numbers"]
    batch_groups = params["batch_group_count"]
    groups = max(params["feature_group_count"], batch_groups)
    changed = {
        "window_strides": params["lhs_dilation"],
        "lhs_dilation": params["window_strides"],
        "padding": [(r.w - 1 - r.low, r.x + r.low - r.y) for r in reaches(ct, x, w, params)],
        "dimension_numbers": lax.ConvDimensionNumbers(
            y_spec, (into, out, *window), params["dimension_numbers"].lhs_spec
        ),
        "feature_group_count": groups,
        "batch_group_count": 1,
    }
    kernel = move_groups(w, groups, out, into)
    x_ct = convolve(ct, kernel, params | changed, x if groups == 1 else None, reverse=True)
    return as_dtype(move_groups(x_ct, batch_groups, feature, batch), x.dtype)


def kernel_cotangent(ct: Any, x: Any, w: Any, **params: Any) -> Any:
    """Pull back to w: ct_w is the input convolved with the dilated cotangent."""
    if ct.size == 0 or w.size == 0:
        return zeros(w)
    (batch, feature, *space), (out, into, *window), y_spec = params["dimension_numbers"]
    changed = {
        "window_strides": params["rhs_dilation"],
        "rhs_dilation": params["window_strides"],
        "padding": [(r.low, r.w - 1 + r.y - r.low - r.x) for r in reaches(ct, x, w, params)],
        "dimension_numbers": lax.ConvDimensionNumbers(
            (feature, batch, *space), (y_spec[1], y_spec[0], *y_spec[2:]), (into, out, *window)
        ),
        "feature_group_count": params["batch_group_count"],
        "batch_group_count": params["feature_group_count"],
    }
    groups = params["feature_group_count"] * params["batch_group_count"]
    return as_dtype(convolve(x, ct, params | changed, w if groups == 1 else None), w.dtype)


def convolve(lhs: Any, rhs: Any, params: dict[str, Any], like: Any, reverse: bool = False) -> Any:
    """Convolve with the kernel or its reversal, in the wider of the two dtypes, sharded as the
    operand whose cotangent it is."""
    dtype = params["preferred_element_type"]
    if lhs.dtype != rhs.dtype:
        lhs, rhs = as_dtype(lhs, dtype), as_dtype(rhs, dtype)
    (batch, feature, *space), (out, into, *window), (y_batch, y_feature, *y_space) = params[
        "dimension_numbers"
    ]
    lhs = lax.transpose(lhs, (batch, *space, feature))
    rhs = lax.transpose(rhs, (*window, into, out))
    last = lhs.ndim - 1
    if reverse:
        rhs = lax.rev(rhs, [i for i in range(last - 1) if rhs.shape[i] > 1])
    spatial = range(1, last)
    numbers = lax.ConvDimensionNumbers(
        (0, last, *spatial), (last, last - 1, *range(last - 1)), (0, last, *spatial)
    )
    params = params | {"dimension_numbers": numbers}
    order = (y_batch, *y_space, y_feature)
    sharding = None if like is None else sharding_like(like)
    if sharding is not None:
        partitions = [sharding.spec.partitions[i] for i in order]
        params |= {"out_sharding": partitioned(sharding, partitions)}
    out = lax.conv_general_dilated(lhs, rhs, **params)
    return lax.transpose(out, np.argsort(order))


def move_groups(a: Any, groups: int, source: int, target: int) -> Any:
    """Reshape dimension `source`, (g, n), and dimension `target`, m, to n and (g, m)."""
    if groups == 1:
        return a
    shape = list(a.shape)
    shape[source] //= groups
    split = [*a.shape[:source], groups, *shape[source:]]
    order = [i + (i >= source) for i in range(a.ndim)]
    order.insert(target, source)
    shape[target] *= groups
    return lax.reshape(lax.transpose(lax.reshape(a, split), order), shape)


RULES = Rules(transpose(p.conv_general_dilated_p, input_cotangent, kernel_cotangent)).tag(
    "forward_mode", "sums"
)
