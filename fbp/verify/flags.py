"""What a watched program says of its numbers: NaN, infinity, largest magnitude, share of zeros.

A value that is not finite is born in an equation whose operands do not have it: elementwise where
the equation works elementwise, in the whole array elsewhere. Everything about an output comes out
of one reduction, so that watching costs little beside the program itself.
"""

import math
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fbp.autodiff import RULES
from fbp.autodiff.avals import differentiable
from fbp.autodiff.graph import JaxprEqn
from fbp.verify.observe import CALLS, Key, Site, Watch


class Bad(IntEnum):
    """The two kinds of numbers that are not finite; their values are bits of a code."""

    NAN = 1
    INF = 2

    @property
    def born(self) -> int:
        """Return the bit of a code that says that it was made here."""
        return self << 2


PASSES_ON = RULES.tagged("same_finiteness")
"""What is finite after these was so before, and the other way round: they are not measured."""

ELEMENTWISE = RULES.tagged("elementwise")
"""What makes an entry of the entries of its operands that are in the same place."""


class Flags(NamedTuple):
    """One equation's record, an entry for each of its outputs.

    Attributes:
      code: the bits of `Bad` that its entries have, and that were born here.
      largest: the largest magnitude of the finite entries.
      zeros: the share of entries that are zero, at most, over the iterations.
      when: for NaN and for infinity, the counters of the loops around when it was first born.
    """

    code: Any
    largest: Any
    zeros: Any
    when: Any

    def has(self, bad: Bad, out: int) -> bool:
        """Return whether an output has such numbers."""
        return bool(int(self.code[out]) & bad)

    def first(self, bad: Bad) -> tuple[int, ...]:
        """Return the counters of the loops around when such numbers were first born."""
        return tuple(int(i) for i in self.when[bad.value - 1])

    def bears(self, bad: Bad, out: int) -> bool:
        """Return whether such numbers were born in an output."""
        return bool(int(self.code[out]) & bad.born)


def has_record(eqn: JaxprEqn) -> bool:
    """Return whether an equation gets a record: the others pass on what their operands have."""
    return (
        eqn.primitive not in CALLS
        and eqn.primitive not in PASSES_ON
        and any(differentiable(v.aval) for v in eqn.outvars)
    )


def flags_of(values: Sequence[Any]) -> Flags:
    """Return the flags of values that no equation made."""
    return _together([_flags(x, [], elementwise=False) for x in values], ())


def first(x: Any) -> tuple[Any, Any]:
    """Return the number, in the flattened array, of the first entry that is not finite; and the
    entry."""
    flat = jnp.reshape(x, -1)
    entry = jnp.argmax(~jnp.isfinite(flat))
    return entry, flat[entry]


def _measure(site: Site, ins: Sequence[Any], outs: Sequence[Any], iteration: tuple) -> Any:
    if not has_record(site.eqn):
        return None
    elementwise = site.eqn.primitive in ELEMENTWISE
    operands = [jnp.asarray(x) for x in ins if _inexact(x)]
    return _together([_flags(x, operands, elementwise) for x in outs], iteration)


def _earlier(before: Flags, now: Flags) -> Flags:
    """Return, of two iterations, all that was seen, and when it was first born."""
    bits = jnp.array([[bad.born] for bad in Bad], jnp.int32)
    known = jnp.any((before.code[None] & bits) > 0, axis=1)
    return Flags(
        before.code | now.code,
        jnp.maximum(before.largest, now.largest),
        jnp.maximum(before.zeros, now.zeros),
        jnp.where(known[:, None], before.when, now.when),
    )


FLAGS = Watch(_measure, _earlier)


class CloseUp(NamedTuple):
    """The first entry of one equation's output where such a number was born.

    Attributes:
      exists: whether there is one.
      entry: its number in the flattened output.
      value: what it is.
      operands: what each operand has there, or, where the equation does not work elementwise,
        the operand's largest finite magnitude.
    """

    exists: Any
    entry: Any
    value: Any
    operands: list[Any]


def close_up(
    key: Key, out: int, bad: Bad, counters: Mapping[Key, tuple[int, ...]] | None = None
) -> Watch:
    """Return a watch of one equation, and of the first operands of others, each in one
    iteration."""

    def measure(site: Site, ins: Sequence[Any], outs: Sequence[Any], iteration: tuple) -> Any:
        if site.key in (counters or {}):
            at = jnp.array((counters or {})[site.key], jnp.int32)
            now = jnp.array([jnp.asarray(i, jnp.int32) for i in iteration], jnp.int32)
            return CloseUp(jnp.all(at == now), jnp.int32(0), ins[0], [])
        if site.key != key:
            return None
        elementwise = site.eqn.primitive in ELEMENTWISE
        operands = [jnp.asarray(x) for x in ins if _inexact(x)]
        mask = _born(outs[out], operands, bad, elementwise).reshape(-1)
        entry = jnp.argmax(mask)
        seen = [_entry(x, entry) for x in ins] if elementwise else [_largest(x) for x in operands]
        return CloseUp(jnp.any(mask), entry, _entry(outs[out], entry), seen)

    def merge(before: CloseUp, now: CloseUp) -> CloseUp:
        return jax.tree.map(lambda a, b: jnp.where(before.exists, a, b), before, now)

    return Watch(measure, merge)


def _entry(x: Any, entry: Any) -> Any:
    if jnp.ndim(x) == 0:
        return jnp.asarray(x)
    return jnp.sum(jnp.reshape(x, -1), where=jnp.arange(x.size) == entry, dtype=x.dtype)


def _largest(x: Any) -> Any:
    return _summary(x, {})[1] if x.size else jnp.zeros((), float)


def _flags(x: Any, operands: Sequence[Any], elementwise: bool) -> tuple[Any, Any, Any]:
    """Code, largest magnitude and share of zeros of one output."""
    if not _inexact(x) or not x.size:
        return jnp.int32(0), jnp.zeros((), float), jnp.float32(0)
    births = {bad: _born(x, operands, bad, elementwise) for bad in Bad} if elementwise else {}
    code, largest, zeros = _summary(x, births)
    if not elementwise:
        had = jnp.int32(0)
        for y in operands:
            had |= _summary(y, {})[0] if y.size else 0
        code |= (code & ~had) << 2
    return code, largest, zeros / math.prod(x.shape)


def _summary(x: Any, births: Mapping[Bad, Any]) -> tuple[Any, Any, Any]:
    """Code, largest magnitude and number of zeros, in one pass over an array.

    The code is the largest one of either kind, which is that of a birth where there is one.
    """
    nothing = jnp.int32(0)
    codes = [
        jnp.where(_is(bad, x), bad | jnp.where(births.get(bad, False), bad.born, nothing), nothing)
        for bad in Bad
    ]
    magnitude = jnp.abs(x).astype(_wide(x))
    magnitude = jnp.where(jnp.isfinite(magnitude), magnitude, 0)
    nan, inf, largest, zeros = lax.reduce(
        (*codes, magnitude, (x == 0).astype(jnp.int32)),
        (nothing, nothing, jnp.zeros((), magnitude.dtype), nothing),
        lambda a, b: (*map(lax.max, a[:3], b[:3]), a[3] + b[3]),
        tuple(range(jnp.ndim(x))),
    )
    return nan | inf, largest.astype(float), zeros.astype(jnp.float32)


def _born(x: Any, operands: Sequence[Any], bad: Bad, elementwise: bool) -> Any:
    here = _is(bad, x)
    if elementwise:
        for y in operands:
            here &= ~jnp.broadcast_to(_is(bad, y), x.shape)
    return here


def _together(outputs: Sequence[tuple], iteration: tuple) -> Flags:
    code, largest, zeros = (jnp.stack(column) for column in zip(*outputs, strict=True))
    now = jnp.array([jnp.asarray(i, jnp.int32) for i in iteration], jnp.int32)
    return Flags(code, largest, zeros, jnp.stack([now] * len(Bad)))


def _is(bad: Bad, x: Any) -> Any:
    x = jnp.asarray(x)
    x = x if jnp.issubdtype(x.dtype, jnp.complexfloating) else x.astype(_wide(x))
    return jnp.isnan(x) if bad is Bad.NAN else jnp.isinf(x)


def _wide(x: Any) -> Any:
    """Return a dtype for magnitudes: float64 of what has 64-bit parts, else float32."""
    return jnp.float64 if jnp.finfo(jax.typeof(x).dtype).bits == 64 else jnp.float32


def _inexact(x: Any) -> bool:
    return differentiable(jax.typeof(x))
