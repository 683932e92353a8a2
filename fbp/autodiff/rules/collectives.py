"""Collectives: values exchanged by the devices of a named axis (or the members of a vmap).

Written for all members at once, each collective is a linear map of the values of all of them,
and the rule is its transpose. A type that says along which axes a value varies distinguishes one
value, the same everywhere, from one value per member: then a sum's transpose is a copy, and a
copy's a sum. Without such types there is one value per member, and a sum that all of them get is
its own transpose.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.extend.core import primitives as p
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from fbp.autodiff.graph import body, stage
from fbp.autodiff.rule import Cotangents, Rules, constant, transpose, vjp_jointly

AxisNames = Any


def within_axis(fun: Callable, check_vma: bool = True) -> Primitive:
    """Return the last primitive of a function that uses the axis "i"."""
    mesh = AbstractMesh((1,), ("i",), axis_types=(AxisType.Explicit,))
    rows = PartitionSpec("i")
    mapped = jax.shard_map(
        lambda x: (fun(x), ())[1], mesh=mesh, in_specs=rows, out_specs=rows, check_vma=check_vma
    )
    with jax.sharding.use_abstract_mesh(mesh):
        sharding = jax.NamedSharding(mesh, rows)
        program, _ = stage(mapped, jax.ShapeDtypeStruct((1,), "float32", sharding=sharding))
    return body(program.eqns[-1].params).eqns[-1].primitive


def invariant(x: Any) -> Any:
    """Sum over the axis: the result is the same everywhere."""
    return lax.psum(x, "i")


def reduced(x: Any) -> Any:
    """Cast to a value that is the same everywhere, with a cotangent that is still to be summed."""
    return lax.pcast(invariant(x), "i", to="reduced")


def unreduced(x: Any) -> Any:
    """Cast to a term of a sum that is still to be taken."""
    return lax.pcast(x, "i", to="unreduced")


psum_invariant_p = within_axis(invariant)
pvary_p = within_axis(lambda x: lax.pcast(invariant(x), "i", to="varying"))
preduced_p = within_axis(reduced)
reduced_vary_cast_p = within_axis(lambda x: lax.pcast(reduced(x), "i", to="varying"))
vary_unreduced_cast_p = within_axis(unreduced)
unreduced_psum_p = within_axis(lambda x: lax.psum(unreduced(x), "i"))
unreduced_reduce_scatter_p = within_axis(lambda x: lax.psum_scatter(unreduced(x), "i", tiled=True))
all_gather_invariant_p = within_axis(lambda x: lax.all_gather(x, "i", to="invarying"))
all_gather_reduced_p = within_axis(lambda x: lax.all_gather(x, "i", to="reduced"))
reduce_scatter_p = within_axis(lambda x: lax.psum_scatter(x, "i", tiled=True))
pbroadcast_p = within_axis(lambda x: lax.pbroadcast(x, "i", 0), check_vma=False)


def sum_again(ct: Any, x: Any, *, axes: Sequence[Any], axis_index_groups: Any) -> Any:
    """Pull back y_i = sum_j x_j for every i: x_j gets sum_i ct_i. Over array axes, copy."""
    positional = [axis for axis in axes if isinstance(axis, int)]
    names = tuple(axis for axis in axes if not isinstance(axis, int))
    total = p.psum_p.bind(ct, axes=names, axis_index_groups=axis_index_groups) if names else ct
    remaining = [i for i in range(x.ndim) if i not in positional]
    return lax.broadcast_in_dim(total, x.shape, remaining) if positional else total


def send_back(ct: Any, _: Any, *, perm: Sequence[tuple[int, int]], axis_name: AxisNames) -> Any:
    """Pull back a permutation: send from j to i what i sent to j."""
    return lax.ppermute(ct, axis_name, [(target, source) for source, target in perm])


def to_source(ct: Any, _: Any, *, axis_name: AxisNames, source: int) -> Any:
    """Pull back a broadcast: the source gets the sum of all cotangents, the others zero."""
    total = lax.psum(ct, axis_name)
    is_source = lax.eq(lax.axis_index(axis_name), source)
    return lax.select(lax.full(ct.shape, is_source), total, lax.full_like(total, 0))


def part_of_member(
    ct: Any, _: Any, *, axis_name: AxisNames, all_gather_dimension: int, axis_size: int, tiled: bool
) -> Any:
    """Pull back an all-gather of equal cotangents: take this member's part."""
    size = ct.shape[all_gather_dimension] // axis_size
    start = lax.mul(lax.axis_index(axis_name), lax.full((), size, "int32"))
    part = lax.dynamic_slice_in_dim(ct, start, size, all_gather_dimension)
    return part if tiled else lax.squeeze(part, [all_gather_dimension])


def scatter_sum(
    ct: Any, _: Any, *, axis_name: AxisNames, all_gather_dimension: int, tiled: bool, **more: Any
) -> Any:
    """Pull back an all-gather: the owner of a part gets the sum of the cotangents of that part."""
    return lax.psum_scatter(
        ct,
        axis_name,
        scatter_dimension=all_gather_dimension,
        axis_index_groups=more.get("axis_index_groups"),
        tiled=tiled,
    )


def gather(to: str) -> Callable:
    """Pull back a reduce-scatter: send the cotangents of all parts to all members."""

    def rule(ct, _, *, axis_name, scatter_dimension, tiled, **more):
        return lax.all_gather(
            ct,
            axis_name,
            axis_index_groups=more.get("axis_index_groups"),
            axis=scatter_dimension,
            tiled=tiled,
            to=to,
        )

    return rule


def exchange_back(
    ct: Any,
    _: Any,
    *,
    axis_name: AxisNames,
    split_axis: int,
    concat_axis: int,
    axis_index_groups: Any,
) -> Any:
    """Pull back an all-to-all: split the dimension that was concatenated, and vice versa."""
    return lax.all_to_all(
        ct, axis_name, concat_axis, split_axis, axis_index_groups=axis_index_groups, tiled=True
    )


def exchange_ragged_back(
    cts: Cotangents, _outs: Any, ins: Any, needs_ct: Sequence[bool], *, axis_name, axis_index_groups
) -> Cotangents:
    """Pull back a ragged all-to-all: send rows that member i wrote at an offset of j's output back
    to where i read them; overwritten rows of the output have no cotangent."""
    (ct,), (operand, _, input_offsets, send_sizes, output_offsets, recv_sizes) = cts, ins

    def as_others_see(x):
        return lax.all_to_all(x, axis_name, 0, 0, axis_index_groups=axis_index_groups, tiled=True)

    written_at, read_at = as_others_see(output_offsets), as_others_see(input_offsets)
    sent_back = None
    if needs_ct[0]:
        blank = lax.full(operand.shape, 0, ct.dtype)
        sent_back = lax.ragged_all_to_all(
            ct,
            blank,
            written_at,
            recv_sizes,
            read_at,
            send_sizes,
            axis_name=axis_name,
            axis_index_groups=axis_index_groups,
        )
    remaining = lax.select(_covered(ct.shape, written_at, recv_sizes), lax.full_like(ct, 0), ct)
    return [sent_back, remaining if needs_ct[1] else None, None, None, None, None]


def _covered(shape: Sequence[int], starts: Any, sizes: Any) -> Any:
    """Say which rows lie within one of the intervals [start, start + size)."""
    row = lax.broadcasted_iota(starts.dtype, (shape[0], starts.shape[0]), 0)
    spread = lambda x: lax.broadcast_in_dim(x, row.shape, [1])
    inside = lax.bitwise_and(
        lax.ge(row, spread(starts)), lax.lt(row, spread(lax.add(starts, sizes)))
    )
    return lax.broadcast_in_dim(lax.reduce_or(inside, axes=[1]), shape, [0])


def cast_back(to: str) -> Callable:
    """Pull back a change of type alone: cast the cotangent the other way."""
    return lambda ct, x, *, axes: lax.pcast(ct, tuple(axes), to=to)


CASTS = Rules(  # of types alone: nothing is exchanged
    transpose(pvary_p, lambda ct, x, *, axes: psum_invariant_p.bind(ct, axes=axes)),
    transpose(preduced_p, lambda ct, x, *, axes: lax.psum(ct, tuple(axes))),
    transpose(reduced_vary_cast_p, cast_back(to="unreduced")),
)

RULES = Rules(
    CASTS.tag("moves"),
    Rules(
        transpose(p.psum_p, sum_again),
        transpose(p.ppermute_p, send_back),
        transpose(pbroadcast_p, to_source),
        transpose(p.all_gather_p, scatter_sum),
        transpose(reduce_scatter_p, gather(to="varying")),
        transpose(p.all_to_all_p, exchange_back),
        vjp_jointly(p.ragged_all_to_all_p, exchange_ragged_back),
        constant(p.axis_index_p),
        transpose(psum_invariant_p, lambda ct, x, *, axes: pvary_p.bind(ct, axes=axes)),
        transpose(all_gather_invariant_p, part_of_member),
        transpose(all_gather_reduced_p, scatter_sum),
        transpose(unreduced_reduce_scatter_p, gather(to="reduced")),
        transpose(unreduced_psum_p, cast_back(to="reduced")),
        transpose(vary_unreduced_cast_p, cast_back(to="varying")),
    ).tag("collective"),
)
