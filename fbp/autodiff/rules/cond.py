"""cond and switch: the branch that ran forward runs backward."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.activity import perturbed_outputs
from fbp.autodiff.avals import cotangent_type, struct, zeros
from fbp.autodiff.dce import dce
from fbp.autodiff.graph import Graph, JaxprEqn, Var
from fbp.autodiff.interpret import eval_graph
from fbp.autodiff.masks import merge_by_mask, not_, select
from fbp.autodiff.partition import ForwardBackward, Joint, Residual, Signature, cut, joint
from fbp.autodiff.rule import Applied, Call, Rules, call
from fbp.autodiff.rules.calls import Masks, masks, unknown
from fbp.autodiff.save_policy import Policy, save_everything, with_named_values
from fbp.autodiff.undefined import is_undefined

Location = tuple[str, int]


def cond(call: Call, ins: list[Any], policy: Policy | None = None) -> Applied:
    """Pull back through a cond by two conds: one for the forward pass, one for the backward
    pass."""
    if is_undefined(ins[0]):
        return unknown(call, "the index of a cond or switch")
    first, *others = (g.from_jaxpr(b) for b in call.params["branches"])
    platforms = call.params.get("branches_platforms")
    index = struct(call.eqn.invars[0])
    return _cond(first, tuple(others), call.rules, masks(call, ins), index, platforms, policy).run(
        ins
    )


@g.weakref_cache
def _cond(
    first: Graph,
    others: tuple[Graph, ...],
    rules: Rules,
    masks: Masks,
    index: Any,
    platforms: Any,
    policy: Policy | None,
) -> ForwardBackward:
    graphs = (first, *others)
    (_, *needs_ct), has_out_ct, (_, *linear) = masks
    joints = [joint(x, rules, tuple(needs_ct), has_out_ct, tuple(linear)) for x in graphs]
    union = _union([j.signature for j in joints])
    in_types = tuple(v.aval for v in graphs[0].invars)
    branches = [_branch(j, union, in_types, policy) for j in joints]
    shared = _slots([b.stored_types for b in branches])

    cts = [cotangent_type(a) for a in select(union.has_out_ct, union.out_avals)]
    operands = [struct(v.aval) for v in branches[0].ins]
    read = {slot: struct(v.aval) for b in branches for v, slot in b.slots_of(shared)}

    def run_forward(index, *operands):
        runs = [functools.partial(b.run_forward, shared) for b in branches]
        return lax.switch(index, runs, *operands)

    def run_backward(index, residuals, cts):
        values = dict(zip(read, residuals, strict=True))
        runs = [functools.partial(b.run_backward, shared, union.has_in_ct) for b in branches]
        return lax.switch(index, runs, values, cts)

    forward, _ = g.stage(run_forward, index, *operands)
    backward, _ = g.stage(run_backward, index, list(read.values()), cts)
    origins = (("input", 0), *read)
    return ForwardBackward(
        replace(union, linear=(False, *union.linear), has_in_ct=(False, *union.has_in_ct)),
        _on_platforms(forward, platforms),
        _on_platforms(backward, platforms),
        tuple(Residual(*o, v) for o, v in zip(origins, backward.invars, strict=False)),
    )


def _on_platforms(graph: Graph, platforms: Any) -> Graph:
    """Compile only the branch of the platform in use, if branches are per platform."""
    if platforms is None:
        return graph
    chosen = {"branches_platforms": platforms}
    eqns = (
        eqn.replace(params=eqn.params | chosen) if eqn.primitive is p.cond_p else eqn
        for eqn in graph.eqns
    )
    return replace(graph, eqns=tuple(eqns))


@dataclass(frozen=True, eq=False)
class Branch:
    """One branch, cut in two, in terms of the whole cond."""

    forward: Graph
    backward: Graph
    has_in_ct: tuple[bool, ...]
    in_types: tuple[Any, ...]
    ins: tuple[Var, ...]
    outs: tuple[Any, ...]
    stored: tuple[Var, ...]
    read: tuple[Var, ...]

    @property
    def stored_types(self) -> list[Any]:
        """Return the types of the values that this branch stores."""
        return [struct(v.aval) for v in self.stored]

    def run_forward(self, slots: Sequence[Any], *operands: Any) -> list[Any]:
        """Return the outputs, and the stored values, each in a slot of its type; zeros in the
        others."""
        results = eval_graph(self.forward, operands)
        outs, stored = results[: len(self.outs)], results[len(self.outs) :]
        filled = dict(zip(_slot_numbers(slots, self.stored_types), stored, strict=True))
        return [*outs, *(filled[i] if i in filled else zeros(t) for i, t in enumerate(slots))]

    def slots_of(self, slots: Sequence[Any]) -> list[tuple[Var, Location]]:
        """Return where the residuals of the backward pass lie, and their values."""
        stored = zip(self.stored, _slot_numbers(slots, self.stored_types), strict=True)
        where: dict[Any, Location] = {v: ("stored", i) for v, i in stored}
        where |= {v: ("output", i) for i, v in enumerate(self.outs) if isinstance(v, Var)}
        where |= {v: ("input", 1 + i) for i, v in enumerate(self.ins)}
        return [(v, where[v]) for v in self.read]

    def run_backward(
        self, slots: Sequence[Any], has_in_ct: Sequence[bool], values: dict[Location, Any], cts: Any
    ) -> list[Any]:
        """Return the cotangents of the inputs, zeros where only another branch returns one."""
        residuals = [values[slot] for _, slot in self.slots_of(slots)]
        in_cts = merge_by_mask(self.has_in_ct, eval_graph(self.backward, (*residuals, *cts)))
        return [
            zeros(cotangent_type(t)) if ct is None else ct
            for ct, t in zip(
                select(has_in_ct, in_cts), select(has_in_ct, self.in_types), strict=True
            )
        ]


def _branch(
    program: Joint, union: Signature, in_types: tuple[Any, ...], policy: Policy | None
) -> Branch:
    parts = cut(program, save_everything)
    forward, named = with_named_values(policy, parts.forward)
    num_ins, num_outs = program.signature.sizes
    mine = merge_by_mask(not_(program.signature.linear_outs), parts.forward.outvars[:num_outs])
    outs = tuple(select(not_(union.linear_outs), mine))
    stored = [
        r.var for r in parts.residuals if r.origin != "input" and r.var not in g.variables(outs)
    ]
    stored += [v for v in named if v not in stored and v not in g.variables(outs)]
    return Branch(
        dce(replace(forward, outvars=(*outs, *stored))),
        parts.backward,
        program.signature.has_in_ct,
        in_types,
        program.graph.invars[:num_ins],
        outs,
        tuple(stored),
        tuple(r.var for r in parts.residuals),
    )


def _union(signatures: Sequence[Signature]) -> Signature:
    """Mark a value as linear, or a cotangent as returned, if some branch does."""

    def any_of(masks):
        return tuple(any(column) for column in zip(*masks, strict=True))

    return replace(
        signatures[0],
        linear_outs=any_of(s.linear_outs for s in signatures),
        has_in_ct=any_of(s.has_in_ct for s in signatures),
    )


def _slots(types_by_branch: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the types of the fewest slots in which each branch can store all of its residuals."""
    slots: list[Any] = []
    for types in types_by_branch:
        for t in types:
            slots.extend([t] * (types.count(t) - slots.count(t)))
    return slots


def _slot_numbers(slots: Sequence[Any], types: Sequence[Any]) -> list[int]:
    """Assign each value of a branch a slot of its type."""
    free = list(enumerate(slots))
    slots_of = []
    for t in types:
        slot = next(entry for entry in free if entry[1] == t)
        free.remove(slot)
        slots_of.append(slot[0])
    return slots_of


def cond_activity(eqn: JaxprEqn, rules: Rules, needs_ct: tuple[bool, ...]) -> list[bool]:
    """Say which outputs of a cond are perturbed: those of any of its branches."""
    branches = (g.from_jaxpr(b) for b in eqn.params["branches"])
    by_branch = [perturbed_outputs(b, rules, needs_ct[1:]) for b in branches]
    return [any(hits) for hits in zip(*by_branch, strict=True)]


RULES = Rules(
    call(p.cond_p, cond, cond_activity, lambda policy: functools.partial(cond, policy=policy))
).tag("forward_mode")
