"""What scan and while_loop share: constants, a carry, and the fixed points of its properties."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fbp.autodiff.activity import active_variables, perturbed_outputs
from fbp.autodiff.avals import differentiable
from fbp.autodiff.graph import Graph, Var
from fbp.autodiff.partition import Signature, linear_outputs
from fbp.autodiff.rule import Rules
from fbp.autodiff.rules.calls import Masks


@dataclass(frozen=True)
class LoopLayout:
    """The signature of a loop: body (constants, carry, xs) -> (carry, ys)."""

    num_consts: int
    num_carry: int
    length: int = 0
    reverse: bool = False
    unroll: int | bool = 1

    def ins(self, values: Sequence[Any]) -> tuple[tuple, tuple, tuple]:
        """Split inputs into constants, carry, and xs."""
        end = self.num_consts + self.num_carry
        return (
            tuple(values[: self.num_consts]),
            tuple(values[self.num_consts : end]),
            tuple(values[end:]),
        )

    def outs(self, values: Sequence[Any]) -> tuple[tuple, tuple]:
        """Split outputs into carry and ys."""
        return tuple(values[: self.num_carry]), tuple(values[self.num_carry :])

    def with_carry(self, values: Sequence[Any], carry: Iterable[Any]) -> tuple:
        """Return the same inputs with another carry."""
        consts, _, xs = self.ins(values)
        return (*consts, *carry, *xs)


def fixed_point(rules: Rules, body: Graph, masks: Masks, loop: LoopLayout) -> Masks:
    """Extend masks until they hold for the carry's inputs and outputs alike."""
    needs_ct, has_out_ct, linear = masks
    everywhere_in = tuple(differentiable(v.aval) for v in body.invars)
    everywhere_out = tuple(differentiable(v.aval) for v in body.outvars)
    while True:
        reached = active_variables(rules, body, needs_ct, everywhere_out)
        needed = active_variables(rules, body, everywhere_in, has_out_ct)
        linear_carry = loop.outs(linear_outputs(body, rules, linear))[0]
        before = needs_ct, has_out_ct, linear
        carry_in, carry_out = loop.ins(body.invars)[1], loop.outs(body.outvars)[0]
        needs_ct = loop.with_carry(needs_ct, _either(loop.ins(needs_ct)[1], carry_out, reached))
        linear = loop.with_carry(linear, map(operator.or_, loop.ins(linear)[1], linear_carry))
        carry_has_ct, ys_have_ct = loop.outs(has_out_ct)
        has_out_ct = (*_either(carry_has_ct, carry_in, needed), *ys_have_ct)
        if (needs_ct, has_out_ct, linear) == before:
            break
    carry = [w and u for w, u in zip(loop.ins(needs_ct)[1], loop.outs(has_out_ct)[0], strict=True)]
    ys = [
        u and isinstance(v, Var) and v in reached
        for u, v in zip(loop.outs(has_out_ct)[1], loop.outs(body.outvars)[1], strict=True)
    ]
    return loop.with_carry(needs_ct, carry), (*carry, *ys), linear


def linear_in_the_end(
    loop: LoopLayout, linear: tuple[bool, ...], num_outs: int
) -> tuple[bool, ...]:
    """Say which outputs of a body the next iteration takes as linear inputs."""
    carry = loop.ins(linear)[1]
    return (*carry, *(False for _ in range(num_outs - len(carry))))


def _either(mask: Sequence[bool], atoms: Sequence[Any], chosen: set[Var]) -> tuple[bool, ...]:
    return tuple(
        m or (isinstance(v, Var) and v in chosen) for m, v in zip(mask, atoms, strict=True)
    )


def perturbed_in_the_end(
    body: Graph, rules: Rules, needs_ct: tuple[bool, ...], loop: LoopLayout
) -> tuple[bool, ...]:
    """Say which outputs have a derivative with respect to the marked inputs after enough
    iterations."""
    while True:
        hits = perturbed_outputs(body, rules, needs_ct)
        pairs = zip(loop.ins(needs_ct)[1], loop.outs(hits)[0], strict=True)
        again = loop.with_carry(needs_ct, [a or b for a, b in pairs])
        if again == needs_ct:
            return (*loop.ins(needs_ct)[1], *loop.outs(hits)[1])
        needs_ct = again


def without_linear(loop: LoopLayout, signature: Signature) -> LoopLayout:
    """Return the loop over the inputs and outputs that have a value."""
    consts, carry, _ = loop.ins(signature.linear)
    return replace(loop, num_consts=consts.count(False), num_carry=carry.count(False))
