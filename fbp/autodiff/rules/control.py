"""Branches: cond and switch. The branch that ran forward runs backward."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.activity import reached_outputs
from fbp.autodiff.avals import cotangent_type, struct, zeros
from fbp.autodiff.dce import live
from fbp.autodiff.graph import Graph, JaxprEqn, Var
from fbp.autodiff.interpret import evaluate
from fbp.autodiff.masks import merge, not_, select
from fbp.autodiff.partition import Halves, Joint, Residual, Signature, cut, joint
from fbp.autodiff.rule import Applied, Call, Rules, call
from fbp.autodiff.rules.calls import Masks, masks, unknown
from fbp.autodiff.store import Policy, everything, named_by
from fbp.autodiff.undefined import is_undefined

Place = tuple[str, int]


def cond(call: Call, ins: list[Any], policy: Policy | None = None) -> Applied:
    """One cond for the forward pass, one for the backward pass."""
    if is_undefined(ins[0]):
        return unknown(call, "the index of a cond or switch")
    first, *others = (g.from_jaxpr(b) for b in call.params["branches"])
    platforms = call.params.get("branches_platforms")
    index = struct(call.eqn.invars[0])
    return _cond(first, tuple(others), call.rules, masks(call, ins), index, platforms, policy).run(
        ins
    )


@g.remembered
def _cond(
    first: Graph,
    others: tuple[Graph, ...],
    rules: Rules,
    masks: Masks,
    index: Any,
    platforms: Any,
    policy: Policy | None,
) -> Halves:
    graphs = (first, *others)
    (_, *wanted), useful, (_, *linear) = masks
    joints = [joint(x, rules, tuple(wanted), useful, tuple(linear)) for x in graphs]
    whole = _union([j.signature for j in joints])
    in_types = tuple(v.aval for v in graphs[0].invars)
    branches = [_branch(j, whole, in_types, policy) for j in joints]
    shared = _room([b.stored_types for b in branches])

    cts = [cotangent_type(a) for a in select(whole.useful, whole.out_avals)]
    operands = [struct(v.aval) for v in branches[0].ins]
    read = {place: struct(v.aval) for b in branches for v, place in b.places(shared)}

    def run_forward(index, *operands):
        runs = [functools.partial(b.run_forward, shared) for b in branches]
        return lax.switch(index, runs, *operands)

    def run_backward(index, residuals, cts):
        values = dict(zip(read, residuals, strict=True))
        runs = [functools.partial(b.run_backward, shared, whole.given) for b in branches]
        return lax.switch(index, runs, values, cts)

    forward, _ = g.stage(run_forward, index, *operands)
    backward, _ = g.stage(run_backward, index, list(read.values()), cts)
    origins = (("input", 0), *read)
    return Halves(
        replace(whole, linear=(False, *whole.linear), given=(False, *whole.given)),
        _on_platforms(forward, platforms),
        _on_platforms(backward, platforms),
        tuple(Residual(*o, v) for o, v in zip(origins, backward.invars, strict=False)),
    )


def _on_platforms(graph: Graph, platforms: Any) -> Graph:
    """If the branches are for platforms, only that of the platform in use is compiled."""
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
    """One branch, cut in two, in the terms of the whole cond."""

    forward: Graph
    backward: Graph
    given: tuple[bool, ...]
    in_types: tuple[Any, ...]
    ins: tuple[Var, ...]
    outs: tuple[Any, ...]
    stored: tuple[Var, ...]
    read: tuple[Var, ...]

    @property
    def stored_types(self) -> list[Any]:
        """The types of what this branch stores."""
        return [struct(v.aval) for v in self.stored]

    def run_forward(self, room: Sequence[Any], *operands: Any) -> list[Any]:
        """The outputs, and what is stored, each in a place of its type; zeros elsewhere."""
        results = evaluate(self.forward, operands)
        outs, stored = results[: len(self.outs)], results[len(self.outs) :]
        filled = dict(zip(_places(room, self.stored_types), stored, strict=True))
        return [*outs, *(filled[i] if i in filled else zeros(t) for i, t in enumerate(room))]

    def places(self, room: Sequence[Any]) -> list[tuple[Var, Place]]:
        """What the backward pass reads, and where that lies."""
        stored = zip(self.stored, _places(room, self.stored_types), strict=True)
        where: dict[Any, Place] = {v: ("stored", i) for v, i in stored}
        where |= {v: ("output", i) for i, v in enumerate(self.outs) if isinstance(v, Var)}
        where |= {v: ("input", 1 + i) for i, v in enumerate(self.ins)}
        return [(v, where[v]) for v in self.read]

    def run_backward(
        self, room: Sequence[Any], given: Sequence[bool], values: dict[Place, Any], cts: Any
    ) -> list[Any]:
        """The cotangents of the inputs, zeros where only another branch gives one."""
        residuals = [values[place] for _, place in self.places(room)]
        in_cts = merge(self.given, evaluate(self.backward, (*residuals, *cts)))
        return [
            zeros(cotangent_type(t)) if ct is None else ct
            for ct, t in zip(select(given, in_cts), select(given, self.in_types), strict=True)
        ]


def _branch(
    program: Joint, whole: Signature, in_types: tuple[Any, ...], policy: Policy | None
) -> Branch:
    parts = cut(program, everything)
    forward, named = named_by(policy, parts.forward)
    num_ins, num_outs = program.signature.sizes
    mine = merge(not_(program.signature.linear_outs), parts.forward.outvars[:num_outs])
    outs = tuple(select(not_(whole.linear_outs), mine))
    stored = [
        r.var for r in parts.residuals if r.origin != "input" and r.var not in g.variables(outs)
    ]
    stored += [v for v in named if v not in stored and v not in g.variables(outs)]
    return Branch(
        live(replace(forward, outvars=(*outs, *stored))),
        parts.backward,
        program.signature.given,
        in_types,
        program.graph.invars[:num_ins],
        outs,
        tuple(stored),
        tuple(r.var for r in parts.residuals),
    )


def _union(signatures: Sequence[Signature]) -> Signature:
    """A value is linear, or a cotangent given, where it is in some branch."""

    def any_of(masks):
        return tuple(any(column) for column in zip(*masks, strict=True))

    return replace(
        signatures[0],
        linear_outs=any_of(s.linear_outs for s in signatures),
        given=any_of(s.given for s in signatures),
    )


def _room(types_by_branch: Sequence[Sequence[Any]]) -> list[Any]:
    """The fewest places in which each branch finds one for everything that it stores."""
    room: list[Any] = []
    for types in types_by_branch:
        for t in types:
            room.extend([t] * (types.count(t) - room.count(t)))
    return room


def _places(room: Sequence[Any], types: Sequence[Any]) -> list[int]:
    """The place in the room of each of a branch's values."""
    free = list(enumerate(room))
    places = []
    for t in types:
        place = next(entry for entry in free if entry[1] == t)
        free.remove(place)
        places.append(place[0])
    return places


def reach(eqn: JaxprEqn, rules: Rules, wanted: tuple[bool, ...]) -> list[bool]:
    """A cond reaches what one of its branches reaches."""
    branches = (g.from_jaxpr(b) for b in eqn.params["branches"])
    by_branch = [reached_outputs(b, rules, wanted[1:]) for b in branches]
    return [any(hits) for hits in zip(*by_branch, strict=True)]


RULES = Rules(call(p.cond_p, cond, reach, lambda policy: functools.partial(cond, policy=policy)))
