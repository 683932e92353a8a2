"""Wrong rules: a table in which one cotangent of one equation comes out wrong."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jax import lax

import fbp
from fbp.autodiff import graph as g
from fbp.autodiff.avals import struct
from fbp.autodiff.rule import Call, Rule, Rules


@dataclass(frozen=True)
class Operand:
    """One operand of one equation of a program, in whatever precision that is traced."""

    primitive: str
    source: str
    shapes: tuple[tuple[int, ...], ...]
    operand: int


def _doubled_entry(ct: Any) -> Any:
    flat = jnp.ravel(ct)
    return flat.at[jnp.argmax(abs(flat))].multiply(2).reshape(ct.shape)


def _transposed(ct: Any) -> Any:
    square = ct.ndim > 1 and ct.shape[-1] == ct.shape[-2]
    return jnp.swapaxes(ct, -1, -2) if square else jnp.flip(ct)


def _dropped_half(ct: Any) -> Any:
    flat = jnp.ravel(ct)
    return jnp.where(jnp.arange(flat.size) < (flat.size + 1) // 2, 0, flat).reshape(ct.shape)


FAULTS: dict[str, Callable[[Any], Any]] = {
    "x2": lambda ct: 2 * ct,
    "zero": jnp.zeros_like,
    "sign": lambda ct: -ct,
    "x1.1": lambda ct: ct * jnp.asarray(1.1, ct.dtype),
    "x1.01": lambda ct: ct * jnp.asarray(1.01, ct.dtype),
    "one entry x2": _doubled_entry,
    "rolled": lambda ct: jnp.roll(ct, 1),
    "transposed": _transposed,
    "wrong axis": lambda ct: jnp.flip(ct, 0) if ct.ndim else 3 * ct,
    "dropped term": _dropped_half,
}


def operands(fun: Callable, *args: Any) -> list[Operand]:
    """List the cotangents that the rules make in the gradient of a function."""
    seen: dict[Operand, None] = {}

    def see(operand: Operand, ct: Any) -> Any:
        seen[operand] = None
        return ct

    g.stage(fbp.grad(fun, rules=_with(see)), *args)
    return list(seen)


def faulty(numbers: dict[Operand, int], target: Any, fault: Any) -> Rules:
    """Return the table with fault number `fault` in the cotangent of operand number `target`."""

    def spoil(operand: Operand, ct: Any) -> Any:
        if operand not in numbers:
            return ct
        wrong = lax.switch(fault, list(FAULTS.values()), ct)
        return jnp.where(target == numbers[operand], wrong, ct)

    return _with(spoil)


def _with(change: Callable[[Operand, Any], Any]) -> Rules:
    def changed(rule: Rule) -> Rule:
        if rule.kind == "call" and rule.primitive.name != "custom_vjp_call":
            return rule

        def apply(call: Call, ins: list[Any]) -> tuple:
            outs, pullback = rule.apply(call, ins)
            shapes = tuple(struct(v).shape for v in call.eqn.outvars)

            def spoilt(cts: list[Any]) -> list[Any]:
                return [
                    None
                    if ct is None
                    else change(Operand(str(call.eqn.primitive), g.source(call.eqn), shapes, i), ct)
                    for i, ct in enumerate(pullback(cts))
                ]

            return outs, spoilt

        return replace(rule, apply=apply)

    return Rules([changed(rule) for rule in fbp.RULES.values()])
