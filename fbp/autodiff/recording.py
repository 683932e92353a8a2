"""The tape of one gradient, as a value: which values and cotangents passed each equation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
from jax.core import Tracer

from fbp.autodiff.graph import location
from fbp.autodiff.rule import Applied, Call, Rule, Rules
from fbp.autodiff.table import RULES
from fbp.autodiff.transforms import value_and_grad
from fbp.autodiff.undefined import is_undefined


@dataclass(frozen=True, eq=False)
class TapeEntry:
    """One equation of the forward pass, and what the backward pass carried through it.

    Attributes:
      primitive: the name of the equation's primitive.
      scope: the named scopes around it, outermost first, as `block_3/attn`.
      source: file, line and function of the user's code.
      ins: the values of its operands.
      outs: the values of its outputs.
      out_cts: the cotangents that arrived at its outputs, None for zero.
      in_cts: the cotangents that its rule returned for its operands, None where none is needed.

    >>> import fbp
    >>> (entry,) = fbp.tape(jax.lax.sin)(0.0)[2]
    >>> entry
    <sin: 1.0 -> 1.0>
    """

    primitive: str
    scope: str
    source: str
    ins: tuple[Any, ...]
    outs: tuple[Any, ...]
    out_cts: tuple[Any, ...]
    in_cts: tuple[Any, ...]

    def __repr__(self) -> str:
        sides = (", ".join(map(_brief, cts)) for cts in (self.out_cts, self.in_cts))
        return f"<{self.primitive}: {' -> '.join(sides)}>"


def tape(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    rules: Rules = RULES,
) -> Callable:
    """Return a scalar function's value, gradient and tape: x -> (f(x), df/dx, entries).

    The entries stand in the order of the forward pass; the backward pass made their cotangents
    from the last to the first. An equation that holds a program (a jit, a scan) is one entry;
    one that stands for its program (a product of sparse arrays) has the program's entries. Only
    equations on the way of the gradient have an entry.

    Args:
      fun: a function of arrays and pytrees that returns a real scalar; with `has_aux`, a pair
        (scalar, aux).
      argnums: the positional arguments to differentiate; with a tuple, one gradient per argument.
      has_aux: whether `fun` returns auxiliary output as well.
      rules: the table of rules to differentiate by.

    Returns:
      A function of the arguments of `fun` that returns the value, or (value, aux), the gradient,
      and a list of `TapeEntry`.

    Raises:
      TypeError: as by `value_and_grad`; and within a jit or another transformation, where there
        are no values to record.
      fbp.MissingRule: when called, for a primitive without a rule.

    >>> import fbp
    >>> value, gradient, entries = fbp.tape(lambda x: 3.0 * jax.lax.sin(x))(0.0)
    >>> entries
    [<sin: 3.0 -> 3.0>, <mul: 1.0 -> -, 3.0>]
    """

    def recorded(*args, **kwargs):
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((args, kwargs))):
            raise TypeError(
                "fbp.tape records values, and within a jit, a vmap or a scan there are none: call "
                "it outside."
            )
        entries: list[TapeEntry | None] = []
        recording = _recording(rules, entries)
        value, grads = value_and_grad(fun, argnums, has_aux, rules=recording)(*args, **kwargs)
        return value, grads, [entry for entry in entries if entry is not None]

    return recorded


def _recording(rules: Rules, entries: list[TapeEntry | None]) -> Rules:
    """Return the same table with rules that also append to `entries`."""
    return rules | [_recorded(rule, entries) for rule in rules.values()]


def _recorded(rule: Rule, entries: list[TapeEntry | None]) -> Rule:
    def apply(call: Call, ins: list[Any]) -> Applied:
        number = len(entries)
        outs, pullback = rule.apply(call, ins)
        if not all(map(_is_value, (*ins, *outs))) or len(entries) > number:
            return outs, pullback  # within a program that is one entry, or recorded equation-wise
        entries.append(None)

        def recording(cts):
            in_cts = pullback(cts)
            entries[number] = _entry(call, ins, outs, cts, in_cts)
            return in_cts

        return outs, recording

    return replace(rule, apply=apply)


def _is_value(x: Any) -> bool:
    return not (isinstance(x, Tracer) or is_undefined(x))


def _entry(call: Call, ins: Sequence, outs: Sequence, cts: Sequence, in_cts: Sequence) -> TapeEntry:
    eqn = call.eqn
    needed = (ct if needs else None for ct, needs in zip(in_cts, call.needs_ct, strict=True))
    scope = str(eqn.source_info.name_stack)
    return TapeEntry(
        str(eqn.primitive), scope, location(eqn), tuple(ins), tuple(outs), tuple(cts), tuple(needed)
    )


def _brief(ct: Any) -> str:
    if ct is None:
        return "-"
    return f"{ct}" if jax.numpy.ndim(ct) == 0 else jax.typeof(ct).str_short()
