"""Sorting and selection: each cotangent returns to the position that its value came from."""

from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.avals import zeros
from fbp.autodiff.rule import Applied, Call, Cotangents, Rules, call, vjp_jointly


def sort(use: Call, ins: list[Any]) -> Applied:
    """Sort the positions along with the values: each cotangent returns to its value's position."""
    dimension = use.params["dimension"]
    positions = lax.broadcasted_iota(np.int32, ins[0].shape, dimension)
    *outs, order = lax.sort(
        (*ins, positions),
        dimension=dimension,
        is_stable=use.params["is_stable"],
        num_keys=use.params["num_keys"],
    )

    def pull(cts: Cotangents) -> Cotangents:
        return [
            unsort(ct, order, x, dimension) if want and ct is not None else None
            for ct, x, want in zip(cts, ins, use.needs_ct, strict=True)
        ]

    return outs, pull


def unsort(ct: Any, positions: Any, x: Any, axis: int) -> Any:
    """Pull back a selection of the elements of x at `positions` along an axis."""
    others = tuple(i for i in range(x.ndim) if i != axis)
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(),
        inserted_window_dims=(axis,),
        scatter_dims_to_operand_dims=(axis,),
        operand_batching_dims=others,
        scatter_indices_batching_dims=others,
    )
    index = lax.expand_dims(positions, (x.ndim,))
    return lax.scatter_add(
        zeros(x), index, ct, numbers, unique_indices=True, mode="promise_in_bounds"
    )


def top_k_cotangent(
    cts: Cotangents, outs: Any, ins: Any, needs_ct: Any, **params: Any
) -> Cotangents:
    """Pull back the k largest values along an axis (the last, where JAX does not say)."""
    return [unsort(cts[0], outs[1], ins[0], params.get("axis", ins[0].ndim - 1))]


def approx_top_k(
    cts: Cotangents, outs: Any, ins: Any, needs_ct: Any, *, reduction_dimension: int
) -> Cotangents:
    """Pull back the approximately k largest values along a dimension."""
    return [unsort(cts[0], outs[1], ins[0], reduction_dimension % ins[0].ndim)]


RULES = Rules(
    call(p.sort_p, sort),
    vjp_jointly(p.top_k_p, top_k_cotangent),
    vjp_jointly(p.approx_top_k_p, approx_top_k),
).tag(analytic="sort")
