"""Reductions and cumulative reductions: the cotangent spreads to what was reduced."""

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.avals import sharding_like, struct
from fbp.autodiff.backprop import forward
from fbp.autodiff.graph import stage
from fbp.autodiff.rule import Applied, Call, Rule, Rules, call, transpose, vjp


def broadcast_along(ct: Any, x: Any, axes: Sequence[int]) -> Any:
    """Copy a reduced array along the axes that the reduction of x removed."""
    remaining = [i for i in range(x.ndim) if i not in axes]
    return lax.broadcast_in_dim(ct, x.shape, remaining, out_sharding=sharding_like(x))


def shared(ct: Any, y: Any, x: Any, axes: Sequence[int]) -> Any:
    """Pull back a maximum or minimum: split the cotangent evenly between the entries that attain
    it."""
    here = lax.convert_element_type(lax.eq(x, broadcast_along(y, x, axes)), ct.dtype)
    share = lax.div(ct, lax.reduce_sum(here, axes=tuple(axes)))
    return lax.mul(here, broadcast_along(share, x, axes))


def times_the_others(ct: Any, x: Any, axes: Sequence[int]) -> Any:
    """Pull back a product: d prod(x) / dx_i = the product before i times the product after i.

    It divides by nothing, so that zeros among the factors do no harm.
    """
    remaining = [i for i in range(x.ndim) if i not in axes]
    order = (*axes, *remaining)
    count = prod(x.shape[i] for i in axes)
    if count == 1:
        return broadcast_along(ct, x, axes)
    factors = lax.reshape(lax.transpose(x, order), (count, *(x.shape[i] for i in remaining)))
    others = lax.mul(exclusive_product(factors), exclusive_product(factors, reverse=True))
    unpacked = lax.reshape(others, [x.shape[i] for i in order])
    return lax.mul(broadcast_along(ct, x, axes), lax.transpose(unpacked, np.argsort(order)))


def exclusive_product(x: Any, reverse: bool = False) -> Any:
    """Multiply all entries before each one along the first axis; all after it, if reversed."""
    one = np.ones((), x.dtype)
    shift = (-1, 1, 0) if reverse else (1, -1, 0)
    shifted = lax.pad(x, one, [shift, *[(0, 0, 0)] * (x.ndim - 1)]) if x.shape[0] else x
    return lax.cumprod(shifted, axis=0, reverse=reverse)


def scanned(primitive: Any, combine: Any) -> Rule:
    """Differentiate a cumulative reduction as the associative scan that defines it."""

    def apply(use: Call, ins: list[Any]) -> Applied:
        axis, reverse = use.params["axis"], use.params["reverse"]
        scan = partial(lax.associative_scan, combine, axis=axis, reverse=reverse)
        program, _ = stage(scan, *(struct(v.aval) for v in use.eqn.invars))
        return forward(use.rules, program, ins, use.needs_ct, use.has_out_ct)

    return call(primitive, apply)


RULES = Rules(
    transpose(p.reduce_sum_p, lambda ct, x, *, axes: broadcast_along(ct, x, axes)),
    vjp(p.reduce_max_p, lambda ct, y, x, *, axes: shared(ct, y, x, axes)),
    vjp(p.reduce_min_p, lambda ct, y, x, *, axes: shared(ct, y, x, axes)),
    vjp(p.reduce_prod_p, lambda ct, y, x, *, axes: times_the_others(ct, x, axes)),
    transpose(
        p.cumsum_p,
        lambda ct, x, *, axis, reverse: lax.cumsum(ct, axis, reverse=not reverse),
    ),
    scanned(p.cumprod_p, lax.mul),
    scanned(p.cummax_p, lax.max),
    scanned(p.cummin_p, lax.min),
    scanned(p.cumlogsumexp_p, jnp.logaddexp),
).tag(
    "forward_mode",
    sums="reduce_sum cumsum",
    differs_from_jax="reduce_prod",  # NaN at the zeros of a product
    analytic="""
        reduce_sum reduce_prod reduce_max reduce_min cumsum cumprod cummax cummin
    """,
)
