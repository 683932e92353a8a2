"""Rearranging arrays: each output element is one input element, to which its cotangent returns.

An element that was copied to several positions gets the sum of their cotangents; one that was
dropped gets zero.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.avals import (
    accumulate,
    cotangent_type,
    full,
    is_extended,
    partitioned,
    sharding_like,
    struct,
    zeros,
)
from fbp.autodiff.rule import Cotangents, Rules, transpose, vjp_jointly


def in_shape_of(x: Any, ct: Any) -> Any:
    """Reshape the cotangent as x, and shard it as x."""
    sharding = sharding_like(x)
    if sharding is not None and sharding.spec.unreduced != struct(ct).sharding.spec.unreduced:
        sharding = None  # what is still to be summed, and what is not, stays so
    return lax.reshape(ct, x.shape, out_sharding=sharding)


def restore(ct: Any, x: Any, dimensions: Sequence[int] | None) -> Any:
    """Pull back a reshape that read the elements of x in the order of `dimensions`."""
    if dimensions is None:
        return in_shape_of(x, ct)
    read = lax.reshape(ct, [x.shape[i] for i in dimensions])
    return lax.transpose(read, np.argsort(dimensions))


def sum_copies(ct: Any, x: Any, broadcast_dimensions: Sequence[int]) -> Any:
    """Pull back a broadcast of x: sum over the dimensions that are new or were stretched."""
    if ct.size == x.size:
        return in_shape_of(x, ct)
    copied = {
        out for out, n in zip(broadcast_dimensions, x.shape, strict=True) if n == ct.shape[out]
    }
    total = sum_along([i for i in range(ct.ndim) if i not in copied], ct)
    return in_shape_of(x, total)


def sum_along(axes: Sequence[int], ct: Any) -> Any:
    """Sum a cotangent over axes, by its own addition for an extended dtype."""
    if not is_extended(ct.dtype):
        return lax.reduce_sum(ct, axes=axes)
    rest = [i for i in range(ct.ndim) if i not in axes]
    shape = [ct.shape[i] for i in rest]
    count = math.prod(ct.shape[i] for i in axes)
    rows = lax.reshape(lax.transpose(ct, [*axes, *rest]), [count, *shape])
    none = full(struct(ct).update(shape=tuple(shape)), 0)
    return lax.scan(lambda total, row: (accumulate(total, row), None), none, rows)[0]


def sum_tiles(ct: Any, x: Any, reps: Sequence[int]) -> Any:
    """Pull back tiling: sum over the repetitions of each dimension."""
    split = [n for pair in zip(reps, x.shape, strict=True) for n in pair]
    sharding = sharding_like(x)
    sharding = sharding and partitioned(
        sharding, [s for name in sharding.spec.partitions for s in (None, name)]
    )
    copies = lax.reshape(ct, split, out_sharding=sharding)
    return lax.reduce_sum(copies, axes=range(0, len(split), 2))


def unpad(ct: Any, padding_config: Sequence[tuple[int, int, int]]) -> Any:
    """Pull back padding to the operand: remove the padding, fill with zeros what was cut off."""
    if any(low < 0 or high < 0 for low, high, _ in padding_config):
        undo = [(max(-low, 0), max(-high, 0), 0) for low, high, _ in padding_config]
        ct = lax.pad(ct, np.zeros((), ct.dtype), undo)
    starts = [max(low, 0) for low, _, _ in padding_config]
    limits = [n - max(high, 0) for n, (_, high, _) in zip(ct.shape, padding_config, strict=True)]
    strides = [interior + 1 for _, _, interior in padding_config]
    if all(n == 0 for n in starts) and limits == list(ct.shape) and set(strides) <= {1}:
        return ct
    return lax.slice(ct, starts, limits, strides)


def sum_padding(ct: Any, x: Any, padding_config: Sequence[tuple[int, int, int]]) -> Any:
    """Pull back padding to the padding value: sum over all its positions."""
    padded = lax.pad(lax.full(x.shape, False), True, padding_config)
    return lax.reduce_sum(lax.select(padded, ct, zeros(ct)), axes=range(ct.ndim))


def pieces(cts: Cotangents, outs: Any) -> list[Any]:
    """Return the cotangents of an array's parts, with zeros where none arrived."""
    types = [cotangent_type(struct(y)) for y in outs]
    return [zeros(t) if ct is None else ct for ct, t in zip(cts, types, strict=True)]


RULES = Rules(
    transpose(p.reshape_p, lambda ct, x, *, dimensions: restore(ct, x, dimensions)),
    transpose(p.squeeze_p, lambda ct, x, *, dimensions: lax.expand_dims(ct, dimensions)),
    transpose(
        p.transpose_p, lambda ct, x, *, permutation: lax.transpose(ct, np.argsort(permutation))
    ),
    transpose(p.rev_p, lambda ct, x, *, dimensions: lax.rev(ct, dimensions)),
    transpose(
        p.broadcast_in_dim_p,
        lambda ct, x, *, broadcast_dimensions: sum_copies(ct, x, broadcast_dimensions),
    ),
    transpose(lax.tile_p, lambda ct, x, *, reps: sum_tiles(ct, x, reps)),
    transpose(
        p.pad_p,
        lambda ct, x, value, *, padding_config: unpad(ct, padding_config),
        lambda ct, x, value, *, padding_config: sum_padding(ct, x, padding_config),
    ),
    vjp_jointly(
        p.concatenate_p,
        lambda cts, ys, xs, needs_ct, *, dimension: lax.split(
            cts[0], [x.shape[dimension] for x in xs], dimension
        ),
    ),
    vjp_jointly(
        lax.split_p,
        lambda cts, ys, xs, needs_ct, *, axis: [lax.concatenate(pieces(cts, ys), axis)],
    ),
    vjp_jointly(lax.stack_p, lambda cts, ys, xs, needs_ct, *, axis: lax.unstack(cts[0], axis)),
    vjp_jointly(
        lax.unstack_p, lambda cts, ys, xs, needs_ct, *, axis: [lax.stack(pieces(cts, ys), axis)]
    ),
).tag(
    "forward_mode",
    analytic="reshape squeeze transpose rev broadcast_in_dim concatenate pad",
    recomputable="reshape squeeze transpose rev broadcast_in_dim",
    moves="reshape squeeze transpose rev broadcast_in_dim",
    permutes="reshape squeeze transpose rev",
    same_finiteness="reshape squeeze transpose rev broadcast_in_dim",
)
