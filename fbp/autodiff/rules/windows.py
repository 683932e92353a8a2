"""Reductions over sliding windows: sums (average pooling), largest and smallest (max pooling).

A window sum's cotangent is a window sum again: over the outputs whose windows hold the element.
A largest element's cotangent goes to the first element of the window that attains it.
"""

from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.avals import zeros
from fbp.autodiff.rule import Rules, transpose, vjp


def sum_over_windows(ct: Any, x: Any, **params: Any) -> Any:
    """Pull back a window sum: x_q went into y_s where stride s + dilation_w t - low = dilation_x
    q."""
    window, strides = params["window_dimensions"], params["window_strides"]
    holes, dilation = params["window_dilation"], params["base_dilation"]
    if ct.size == 0 or x.size == 0:
        return zeros(x)
    edges = []
    for n_x, n_y, n_w, stride, hole, dil, (low, _) in zip(
        x.shape, ct.shape, window, strides, holes, dilation, params["padding"], strict=True
    ):
        before = (n_w - 1) * hole - low
        after = (n_x - 1) * dil + low - (n_y - 1) * stride
        edges.append((before, after, stride - 1))
    return p.reduce_window_sum_p.bind(
        lax.pad(ct, np.zeros((), ct.dtype), edges),
        window_dimensions=window,
        window_strides=dilation,
        padding=((0, 0),) * ct.ndim,
        base_dilation=(1,) * ct.ndim,
        window_dilation=holes,
    )


def to_selected(ct: Any, x: Any, select: Any, params: dict[str, Any]) -> Any:
    """Add each window's cotangent to the element that it selected."""
    window = {k: params[k] for k in ("window_dimensions", "window_strides", "padding")}
    plain = not {*params["base_dilation"], *params["window_dilation"]} - {1}
    if plain and all(low >= 0 and high >= 0 for low, high in window["padding"]):
        return p.select_and_scatter_add_p.bind(ct, x, select_prim=select, **window)
    where = selected(x, select, params)
    flat = lax.full((x.size,), 0, ct.dtype).at[where].add(ct, mode="drop")
    return lax.reshape(flat, x.shape)


def selected(x: Any, select: Any, params: dict[str, Any]) -> Any:
    """Return the flat index of the element that each window selected: the first of the best."""
    better, worst = (lax.gt, -np.inf) if select is p.ge_p else (lax.lt, np.inf)

    def best(a, b):
        (x_a, i_a), (x_b, i_b) = a, b
        first = lax.bitwise_and(lax.eq(x_a, x_b), lax.lt(i_a, i_b))
        a_wins = lax.bitwise_or(better(x_a, x_b), first)
        return lax.select(a_wins, x_a, x_b), lax.select(a_wins, i_a, i_b)

    index = lax.reshape(lax.iota(np.int32, x.size), x.shape)
    nothing = np.array(worst, x.dtype), np.array(x.size, np.int32)
    return lax.reduce_window((lax.stop_gradient(x), index), nothing, best, **params)[1]


RULES = Rules(
    transpose(p.reduce_window_sum_p, sum_over_windows),
    vjp(p.reduce_window_max_p, lambda ct, y, x, **params: to_selected(ct, x, p.ge_p, params)),
    vjp(p.reduce_window_min_p, lambda ct, y, x, **params: to_selected(ct, x, p.le_p, params)),
    transpose(
        p.select_and_gather_add_p,
        lambda ct, tangent, x, *, select_prim, **params: to_selected(ct, x, select_prim, params),
        None,
    ),
    transpose(
        p.select_and_scatter_add_p,
        lambda ct, source, x, *, select_prim, **params: p.select_and_gather_add_p.bind(
            ct,
            x,
            select_prim=select_prim,
            base_dilation=(1,) * x.ndim,
            window_dilation=(1,) * x.ndim,
            **params,
        ),
        None,
    ),
).tag(
    analytic="reduce_window_sum reduce_window_max reduce_window_min",
    sums="reduce_window_sum",
)
