"""Residuals of a site: stored in another precision, in host memory, or computed again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fbp.autodiff.avals import is_complex, is_inexact
from fbp.autodiff.edits.kinds import AtSite, by_operand, required_body
from fbp.autodiff.edits.site_primitive import Operands, SiteEdit, read_operands
from fbp.autodiff.masks import select
from fbp.autodiff.partition import ForwardBackward, joint, partition
from fbp.autodiff.rule import Applied, Call
from fbp.autodiff.rules.remat import barrier, checkpointed
from fbp.autodiff.save_policy import save_everything
from fbp.autodiff.undefined import is_undefined
from fbp.errors import InputError

SHORT = {"e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2"}
STORAGES = ("host", "recompute")

Packed = tuple[list[Any], Callable[[list[Any]], Any]]
"""Arrays to store, and the function that makes the value from them."""


@dataclass(frozen=True)
class ResidualEdit(AtSite):
    """Another storage of what the backward pass reads of a site."""

    storage: str

    wraps: ClassVar[bool] = True
    exclusive: ClassVar[bool] = True
    states_pullback: ClassVar[bool] = False

    def __repr__(self) -> str:
        return f"residuals({self.site}, {self.storage!r})"

    def check(self, edited: SiteEdit) -> None:
        """Raise if the storage depends on the iteration."""
        if not edited.group.always:
            raise InputError(f"{edited}: residuals are stored alike in all iterations.")

    def apply(self, call: Call, _: SiteEdit, args: list[Any]) -> Applied:
        """Run the site, store its residuals so, and pull back from what is stored."""
        operands, body = read_operands(call.params, args), required_body(call)
        ins = operands.ins
        needs_ct = tuple(read_operands(call.params, call.needs_ct).ins)
        masks = needs_ct, call.has_out_ct, tuple(map(is_undefined, ins))
        if self.storage == "recompute":
            outs, pullback = checkpointed(body, call.rules, masks, None, True).run(ins)
            return outs, lambda cts: by_operand(call, Operands(pullback(cts)))
        parts = partition(joint(body, call.rules, *masks), save_everything)
        outs, residuals = parts.run_forward(ins)
        pairs = zip(residuals, self.of(parts, call), strict=True)
        packed = [self.packed(x, is_stored) for x, is_stored in pairs]

        def pull(cts: list[Any]) -> list[Any]:
            stored = [x for xs, _ in packed for x in xs]
            arrived = [ct for ct in cts if ct is not None]
            # what depends on the cotangents is made in the backward pass
            through = iter(barrier([*stored, *arrived]))
            values = [unpack([next(through) for _ in xs]) for xs, unpack in packed]
            cts = [None if ct is None else next(through) for ct in cts]
            return by_operand(call, Operands(parts.run_backward(values, cts)))

        return outs, pull

    def of(self, parts: ForwardBackward, call: Call) -> list[bool]:
        """Say which residuals are stored for the backward pass alone: not the parameters."""
        num_consts = call.params["layout"].num_consts
        group = call.params["edited"].group
        known = select([not x for x in parts.signature.linear], range(len(parts.signature.linear)))
        free = {
            i
            for i, number in enumerate(known)
            if number < num_consts or group.inputs[number - num_consts] in group.parameters
        }
        return [not (r.origin == "input" and r.index in free) for r in parts.residuals]

    def packed(self, x: Any, is_stored: bool) -> Packed:
        """Return what is stored of a residual."""
        dtype = jax.typeof(x).dtype
        if not is_stored or not is_inexact(dtype):
            return [x], lambda xs: xs[0]
        if self.storage == "host":
            return in_host_memory(x)
        return in_narrow_dtype(x, jnp.dtype(SHORT.get(self.storage, self.storage)))


def in_host_memory(x: Any) -> Packed:
    """Return a copy in host memory, and how it comes back."""
    space: Any = jax.typeof(x).memory_space
    return [jax.device_put(x, jax.memory.Space.Host)], lambda xs: jax.device_put(xs[0], space)


def in_narrow_dtype(x: Any, dtype: np.dtype) -> Packed:
    """Return a value rounded to another precision; divided by what brings its largest entry to the
    largest number of that precision, if its range is smaller than that of the value's."""
    was = jax.typeof(x).dtype
    if is_complex(was) or jnp.finfo(dtype).bits >= jnp.finfo(was).bits or x.size == 0:
        return [x], lambda xs: xs[0]
    largest = float(jnp.finfo(dtype).max)
    if largest >= float(jnp.finfo(was).max) / 2:
        return [x.astype(dtype)], lambda xs: xs[0].astype(was)
    most = jnp.max(jnp.abs(x))
    usual = (most > 0) & (most < jnp.inf)
    factor = jnp.where(usual, most / jnp.asarray(largest, was), jnp.ones_like(most))
    shrunk = lax.div(x, jnp.broadcast_to(factor, x.shape)).astype(dtype)
    return [shrunk, factor], lambda xs: lax.mul(
        xs[0].astype(was), jnp.broadcast_to(xs[1], xs[0].shape)
    )


def storage_name(storage: Any) -> str:
    """Return the name of a storage, or raise."""
    name = storage if isinstance(storage, str) else jnp.dtype(storage).name
    if name in STORAGES:
        return name
    try:
        is_float = is_inexact(jnp.dtype(SHORT.get(name, name)))
    except TypeError:
        is_float = False
    if not is_float:
        raise InputError(
            f"residuals cannot be stored as {storage!r}: give a floating dtype, such as "
            f"'bfloat16', {', '.join(map(repr, SHORT))}, or one of {', '.join(STORAGES)}."
        )
    return name
