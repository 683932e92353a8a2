"""Reading and writing parts of an array: slices, gathers, scatters.

The cotangent of what was read is written where it was read, that of what was written is read
there. An entry that was overwritten passes no cotangent to its former value. If a cotangent of the
array has arrived, that of a part is added to it in place, without an array of zeros.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p
from jax.lax import GatherDimensionNumbers, ScatterDimensionNumbers

from fbp.autodiff.avals import struct, zeros
from fbp.autodiff.rule import PART, Cotangents, Rules, adding, transpose, vjp, vjp_jointly
from fbp.autodiff.undefined import is_undefined

# Blocks


def unslice(ct: Any, x: Any, starts: Sequence[int], strides: Sequence[int] | None) -> Any:
    """Pull back a slice: pad with zeros before, between and after its elements."""
    steps = strides or (1,) * ct.ndim
    spans = [(n - 1) * step + 1 if n else 0 for n, step in zip(ct.shape, steps, strict=True)]
    config = [
        (start, size - start - span, step - 1)
        for start, size, span, step in zip(starts, x.shape, spans, steps, strict=True)
    ]
    return lax.pad(ct, np.zeros((), ct.dtype), config)


def write_block(x: Any, block: Any, starts: Sequence[Any]) -> Any:
    """Overwrite the block of x at `starts`."""
    return p.dynamic_update_slice_p.bind(x, block, *starts)


def read_block(x: Any, starts: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """Read the block of x at `starts`."""
    return p.dynamic_slice_p.bind(x, *starts, slice_sizes=shape)


def add_block(total: Any, block: Any, starts: Sequence[Any]) -> Any:
    """Add a block to what lies at `starts`."""
    before = read_block(total, starts, block.shape)
    return write_block(total, lax.add(before, block), starts)


def is_part(block: Any, x: Any) -> bool:
    """Test whether a block is so small a part of an array that it is added in place."""
    return PART * block.size <= x.size


# Scattered places


@dataclass(frozen=True)
class Windows:
    """The positions of an array that a scatter writes, one for each element of its updates."""

    indices: Any
    updates: Any
    params: dict[str, Any]

    @property
    def unique(self) -> bool:
        """Test whether no position is written twice."""
        return self.params["unique_indices"]

    @property
    def _how(self) -> dict[str, Any]:
        return {k: self.params[k] for k in ("indices_are_sorted", "unique_indices", "mode")}

    def read(self, x: Any, missing: int = 0) -> Any:
        """Read the elements of x at the positions, `missing` for those out of bounds."""
        written = self.params["dimension_numbers"]
        window = iter(self.updates.shape[i] for i in written.update_window_dims)
        single = {*written.inserted_window_dims, *written.operand_batching_dims}
        dims = GatherDimensionNumbers(
            offset_dims=written.update_window_dims,
            collapsed_slice_dims=written.inserted_window_dims,
            start_index_map=written.scatter_dims_to_operand_dims,
            operand_batching_dims=written.operand_batching_dims,
            start_indices_batching_dims=written.scatter_indices_batching_dims,
        )
        sizes = [1 if i in single else next(window) for i in range(x.ndim)]
        return lax.gather(x, self.indices, dims, sizes, fill_value=missing, **self._how)

    def write(self, scatter: Any, x: Any, updates: Any) -> Any:
        """Scatter updates to x: `scatter` says whether they replace, add, ..."""
        return scatter(x, self.indices, updates, self.params["dimension_numbers"], **self._how)


def unread(ct: Any, x: Any, indices: Any, params: dict[str, Any]) -> Any:
    """Pull back a gather: add the cotangents of all reads of a position of x, in their dtype, which
    the rule of a custom_vjp function may have chosen."""
    return add_reads(zeros(struct(x).update(dtype=ct.dtype)), ct, indices, params)


def add_reads(total: Any, ct: Any, indices: Any, params: dict[str, Any]) -> Any:
    """Add the cotangents of all reads of positions to what lies at these."""
    read = params["dimension_numbers"]
    dims = ScatterDimensionNumbers(
        update_window_dims=read.offset_dims,
        inserted_window_dims=read.collapsed_slice_dims,
        scatter_dims_to_operand_dims=read.start_index_map,
        operand_batching_dims=read.operand_batching_dims,
        scatter_indices_batching_dims=read.start_indices_batching_dims,
    )
    windows = Windows(indices, ct, params | {"dimension_numbers": dims})
    return windows.write(lax.scatter_add, total, ct)


def add_unread(total: Any, ct: Any, indices: Any, params: dict[str, Any]) -> Any | None:
    """Add the cotangent of a gather in place."""
    if not adds_precisely(ct.dtype, params):
        return None
    return add_reads(total, ct, indices, params)


def adds_precisely(dtype: Any, params: dict[str, Any]) -> bool:
    """Test whether the updates of a scatter may be added to a total one by one: many short numbers
    lose fewer digits if they are added to each other first."""
    return params["unique_indices"] or np.dtype(dtype).itemsize >= SINGLE


SINGLE = 4
"""The bytes of a number of single precision."""


def replaced(ct: Any, windows: Windows) -> Any:
    """Pull back to the overwritten array: zero where something was written."""
    if windows.params["update_jaxpr"] is not None:
        raise NotImplementedError(
            "reverse mode through x.at[i].apply(f), or lax.scatter_apply: write "
            "x.at[i].set(f(x[i])) instead."
        )
    return windows.write(lax.scatter, ct, zeros(windows.updates))


def replacing(ct: Any, y: Any, windows: Windows) -> Any:
    """Pull back to the updates: if a position was written twice, only the last write counts."""
    arrived, updates = windows.read(ct), windows.updates
    if windows.unique:
        return arrived
    number = lax.reshape(lax.iota(np.int32, updates.size), updates.shape)
    candidate = number
    if not is_undefined(updates):
        stands = same(updates, windows.read(y))
        candidate = lax.select(stands, number, lax.full(updates.shape, -1, np.int32))
    last = windows.write(lax.scatter_max, lax.full(y.shape, -1, np.int32), candidate)
    return lax.select(lax.eq(windows.read(last, missing=-1), number), arrived, zeros(updates))


def same(a: Any, b: Any) -> Any:
    """Test entries for equality, NaN included."""
    is_complex = np.issubdtype(a.dtype, np.complexfloating)
    return lax.eq(a, b) if is_complex else p.eq_to_p.bind(a, b)


def other_factors(ct: Any, x: Any, windows: Windows) -> Any:
    """Pull back a scatter_mul to its updates: ct times all other factors of that position."""
    if windows.unique:
        return lax.mul(windows.read(ct), windows.read(x))
    return repeated_factors(ct, x, windows)


def repeated_factors(ct: Any, x: Any, windows: Windows) -> Any:
    """Pull back a scatter_mul whose positions may have several factors: multiply one window after
    another, storing the product before each, then walk back with the cotangent of the product."""
    window = windows.params["dimension_numbers"].update_window_dims
    order = [*(i for i in range(windows.updates.ndim) if i not in window), *window]
    shape = [windows.updates.shape[i] for i in order]
    split = len(order) - len(window)
    num_windows, size = prod(shape[:split]), prod(shape[split:])

    def rows(a: Any) -> Any:
        return lax.reshape(lax.transpose(a, order), (num_windows, size))

    def get(values: Any, where: Any) -> Any:
        return values.at[where].get(mode="fill", fill_value=0, unique_indices=True)

    def put(values: Any, where: Any, new: Any) -> Any:
        return values.at[where].set(new, mode="drop", unique_indices=True)

    def multiply(products, row):
        where, factor = row
        before = get(products, where)
        return put(products, where, lax.mul(before, factor)), before

    def walk_back(cts, row):
        where, factor, before = row
        after = get(cts, where)
        return put(cts, where, lax.mul(after, factor)), lax.mul(after, before)

    number = lax.reshape(lax.iota(np.int32, x.size), x.shape)
    where, factor = rows(windows.read(number, missing=x.size)), rows(windows.updates)
    _, before = lax.scan(multiply, lax.reshape(x, (x.size,)), (where, factor))
    flat_ct = lax.reshape(ct, (ct.size,))
    _, out = lax.scan(walk_back, flat_ct, (where, factor, before), reverse=True)
    return lax.transpose(lax.reshape(out, shape), np.argsort(order))


def extremum(cts: Cotangents, outs: Any, ins: Any, needs_ct: Any, **params: Any) -> Cotangents:
    """Pull back a scatter_min or scatter_max: all that equal the extremum share its cotangent
    evenly."""
    (ct,), (y,), (x, indices, updates) = cts, outs, ins
    windows = Windows(indices, updates, params)
    stayed, written = lax.eq(x, y), lax.eq(updates, windows.read(y))
    ties = windows.write(
        lax.scatter_add,
        lax.convert_element_type(stayed, ct.dtype),
        lax.convert_element_type(written, ct.dtype),
    )
    share = lax.div(ct, ties)
    return [
        lax.select(stayed, share, zeros(x)) if needs_ct[0] else None,
        None,
        lax.select(written, windows.read(share), zeros(updates)) if needs_ct[2] else None,
    ]


RULES = Rules(
    transpose(
        p.slice_p,
        lambda ct, x, *, start_indices, strides: unslice(ct, x, start_indices, strides),
    ),
    adding(
        transpose(
            p.dynamic_slice_p,
            lambda ct, x, *starts: write_block(zeros(x), ct, starts),
            None,
        ),
        lambda total, ct, x, *starts: add_block(total, ct, starts) if is_part(ct, total) else None,
    ),
    transpose(
        p.dynamic_update_slice_p,
        lambda ct, x, block, *starts: write_block(ct, zeros(block), starts),
        lambda ct, x, block, *starts: read_block(ct, starts, block.shape),
        None,
    ),
    adding(
        transpose(
            p.gather_p, lambda ct, x, indices, **params: unread(ct, x, indices, params), None
        ),
        lambda total, ct, x, indices, **params: add_unread(total, ct, indices, params),
    ),
    vjp(
        p.scatter_p,
        lambda ct, y, x, i, updates, **params: replaced(ct, Windows(i, updates, params)),
        None,
        lambda ct, y, x, i, updates, **params: replacing(ct, y, Windows(i, updates, params)),
    ),
    transpose(
        p.scatter_add_p,
        lambda ct, *_: ct,
        None,
        lambda ct, x, i, updates, **params: Windows(i, updates, params).read(ct),
    ),
    transpose(
        lax.scatter_sub_p,
        lambda ct, *_: ct,
        None,
        lambda ct, x, i, updates, **params: lax.neg(Windows(i, updates, params).read(ct)),
    ),
    transpose(
        p.scatter_mul_p,
        lambda ct, x, i, updates, **params: Windows(i, updates, params).write(
            lax.scatter_mul, ct, updates
        ),
        None,
        lambda ct, x, i, updates, **params: other_factors(ct, x, Windows(i, updates, params)),
    ),
    vjp_jointly(p.scatter_min_p, extremum),
    vjp_jointly(p.scatter_max_p, extremum),
).tag(
    "forward_mode",
    differs_from_jax="scatter-mul scatter-min scatter-max",  # JAX has no forward rule
    analytic="slice dynamic_slice dynamic_update_slice gather scatter",
    recomputable="slice",
    combines="scatter scatter-add scatter-sub scatter-mul scatter-min scatter-max",
)
