"""Deferred sums of a backward loop: computed at once after the loop, not iteration by iteration.

The cotangent of a loop's constant is a sum over the iterations. If each term is a product
of two values of the iteration (or a sum over one), the values are stacked instead, and one
product over all iterations computes the sum:  sum_t a_t b_t = [a_1 ... a_T] [b_1 ... b_T]'.
One large product is faster than many small ones and their additions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.avals import accumulate, num_bytes
from fbp.autodiff.graph import Atom, JaxprEqn, Primitive, Var
from fbp.autodiff.interpret import apply_primitive

Finish = Callable[[dict[Var, Any]], Any]


@dataclass(frozen=True)
class Sum:
    """A sum over iterations: the values to stack, and the sum as a function of the stacks."""

    stacked: tuple[Var, ...]
    finish: Finish


@dataclass(frozen=True)
class ScanBody:
    """One iteration: the equation that computes each value, and the values that differ by
    iteration."""

    producer: dict[Var, JaxprEqn]
    varying: set[Var]

    def sum(self, v: Atom) -> Sum | None:
        """Return the sum of a value over the iterations, or None if it cannot be deferred."""
        eqn = self.producer.get(v) if isinstance(v, Var) else None
        if eqn is None or eqn.primitive not in FORMS:
            return None
        return FORMS[eqn.primitive](self, eqn)

    def operands(self, eqn: JaxprEqn) -> tuple[Var, ...] | None:
        """Return an equation's operands, or None unless all of them differ by iteration."""
        operands = tuple(v for v in eqn.invars if isinstance(v, Var) and v in self.varying)
        return operands if len(operands) == len(eqn.invars) else None


def _sum_of_sums(iteration: ScanBody, eqn: JaxprEqn) -> Sum | None:
    """Defer sum (a + b) = sum a + sum b."""
    a, b = (iteration.sum(v) for v in eqn.invars)
    if a is None or b is None:
        return None
    stacked = tuple(dict.fromkeys((*a.stacked, *b.stacked)))
    return Sum(stacked, lambda env: accumulate(a.finish(env), b.finish(env)))


def _moved(iteration: ScanBody, eqn: JaxprEqn) -> Sum | None:
    """Defer sum T a = T sum a, where T moves elements."""
    a = iteration.sum(eqn.invars[0])
    return a and Sum(a.stacked, lambda env: apply_primitive(eqn, [a.finish(env)])[0])


def _product(iteration: ScanBody, eqn: JaxprEqn) -> Sum | None:
    """Defer sum a b: the iterations are one more contracted dimension."""
    operands = iteration.operands(eqn)
    if operands is None:
        return None
    (contract_a, contract_b), (batch_a, batch_b) = eqn.params["dimension_numbers"]
    leading = tuple(range(len(contract_a)))
    if contract_a == contract_b == leading and not batch_a and not _is_sharded(operands):
        dimensions, merged = (((0,), (0,)), ((), ())), len(leading)
    else:
        contract = (0, *_later(contract_a)), (0, *_later(contract_b))
        dimensions, merged = (contract, (_later(batch_a), _later(batch_b))), 0
    params = eqn.params | {"dimension_numbers": dimensions}

    def finish(env: dict[Var, Any]) -> Any:
        return p.dot_general_p.bind(*(_merged(env[v], merged) for v in operands), **params)

    return Sum(operands, finish)


def _merged(x: Any, axes: int) -> Any:
    """Merge the iterations and the axes after them, so that a product need not transpose them."""
    first, rest = x.shape[: axes + 1], x.shape[axes + 1 :]
    return lax.reshape(x, (prod(first), *rest)) if axes else x


def _is_sharded(operands: Sequence[Var]) -> bool:
    avals: list[Any] = [v.aval for v in operands]
    return not all(a.sharding.mesh.empty for a in avals)


def _reduced(iteration: ScanBody, eqn: JaxprEqn) -> Sum | None:
    """Defer a sum of sums over axes: the iterations are one more axis."""
    operands = iteration.operands(eqn)
    if operands is None:
        return None
    axes = (0, *_later(eqn.params["axes"]))
    return Sum(operands, lambda env: lax.reduce_sum(env[operands[0]], axes=axes))


def _later(axes: Sequence[int]) -> tuple[int, ...]:
    """Shift the axes of one iteration to make room for axis 0, the iterations."""
    return tuple(i + 1 for i in axes)


FORMS: dict[Primitive, Callable[[ScanBody, JaxprEqn], Sum | None]] = {
    p.add_jaxvals_p: _sum_of_sums,
    p.transpose_p: _moved,
    p.reshape_p: _moved,
    p.dot_general_p: _product,
    p.reduce_sum_p: _reduced,
}


def worthwhile(
    sums: Sequence[Sum | None], terms: Sequence[Any], stacked: set[Var], budget: int
) -> list[bool]:
    """Choose the sums to defer: those that stack no more bytes per iteration than they would add.

    Together they stack at most `budget` bytes. What is stacked already, or for another sum, costs
    nothing; the largest sums choose first.
    """
    stacked, chosen = set(stacked), [False] * len(sums)
    for i in sorted(range(len(sums)), key=lambda i: -num_bytes(terms[i].aval)):
        waits = sums[i]
        if waits is not None:
            more = set(waits.stacked) - stacked
            size = sum(num_bytes(v.aval) for v in more)
            chosen[i] = size <= min(num_bytes(terms[i].aval), budget)
            if chosen[i]:
                stacked |= more
                budget -= size
    return chosen
