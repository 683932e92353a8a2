"""Sorting and selection: each cotangent returns to the place that its value came from."""

from typing import Any

from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.backprop import zeros
from fbp.autodiff.rule import Applied, Call, Cotangents, Rules, call, vjp_jointly


def sort(use: Call, ins: list[Any]) -> Applied:
    """Sort the places along; sorting cotangents by their places undoes the sort."""
    params = use.params
    dimension = params["dimension"]
    places = lax.broadcasted_iota("int32", ins[0].shape, dimension)
    *outs, order = lax.sort(
        (*ins, places),
        dimension=dimension,
        is_stable=params["is_stable"],
        num_keys=params["num_keys"],
    )

    def pull(cts: Cotangents) -> Cotangents:
        there = [
            i
            for i, (ct, want) in enumerate(zip(cts, use.wanted, strict=True))
            if want and ct is not None
        ]
        _, *back = lax.sort((order, *(cts[i] for i in there)), dimension=dimension, num_keys=1)
        made = dict(zip(there, back, strict=True))
        return [made.get(i) for i in range(len(ins))]

    return outs, pull


def selected(cts: Cotangents, outs: Any, ins: Any, wanted: Any, axis: int) -> Cotangents:
    """Put the cotangents of the selected values where they stood; zero elsewhere."""
    (x,), (_, places) = ins, outs
    others = tuple(i for i in range(x.ndim) if i != axis)
    numbers = lax.ScatterDimensionNumbers(
        update_window_dims=(),
        inserted_window_dims=(axis,),
        scatter_dims_to_operand_dims=(axis,),
        operand_batching_dims=others,
        scatter_indices_batching_dims=others,
    )
    index = lax.expand_dims(places, (x.ndim,))
    return [lax.scatter_add(zeros(x), index, cts[0], numbers, unique_indices=True)]


def top_k(cts: Cotangents, outs: Any, ins: Any, wanted: Any, **params: Any) -> Cotangents:
    """The k largest values along an axis (the last, where JAX does not say)."""
    return selected(cts, outs, ins, wanted, params.get("axis", ins[0].ndim - 1))


def approx_top_k(
    cts: Cotangents, outs: Any, ins: Any, wanted: Any, *, reduction_dimension: int
) -> Cotangents:
    """About the k largest values along a dimension."""
    return selected(cts, outs, ins, wanted, reduction_dimension % ins[0].ndim)


RULES = Rules(
    call(p.sort_p, sort),
    vjp_jointly(p.top_k_p, top_k),
    vjp_jointly(p.approx_top_k_p, approx_top_k),
)
