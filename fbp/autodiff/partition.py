"""Cut a joint program in two: a forward half, whose values are saved, and a backward half.

A joint program computes a function's outputs and, from their cotangents, those of its inputs.
What does not depend on a cotangent is known in the forward pass; the rest is the backward
pass, which reads some of the known values. A `SavePolicy` (see `save_policy.py`) chooses which of
them to store; the others are computed again from those.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fbp.autodiff.avals import cotangent_type, struct, zeros
from fbp.autodiff.backprop import forward
from fbp.autodiff.dce import dce
from fbp.autodiff.dependence import effectful, parted, split_by_dependence
from fbp.autodiff.graph import Graph, JaxprEqn, Var, stage, variables, weakref_cache
from fbp.autodiff.interpret import eval_graph
from fbp.autodiff.masks import merge_by_mask, not_, select
from fbp.autodiff.recompute import rematerialized
from fbp.autodiff.rule import Cotangents, Rules
from fbp.autodiff.save_policy import SavePolicy, is_cheap
from fbp.autodiff.undefined import UndefinedPrimal, is_undefined, undefined


@dataclass(frozen=True)
class Signature:
    """The values that a function and its pullback exchange.

    `linear` and `linear_outs` mark the inputs and outputs without a value, `has_out_ct` the outputs
    whose cotangents go in, `has_in_ct` the inputs whose cotangents come out.
    """

    linear: tuple[bool, ...]
    linear_outs: tuple[bool, ...]
    has_out_ct: tuple[bool, ...]
    has_in_ct: tuple[bool, ...]
    out_avals: tuple[Any, ...]

    @property
    def sizes(self) -> tuple[int, int]:
        """Count the inputs and the outputs that have a value."""
        return self.linear.count(False), self.linear_outs.count(False)


class Joint(NamedTuple):
    """A function and its pullback as one program: (ins, cotangents) -> (outs, cotangents)."""

    graph: Graph
    signature: Signature
    rules: Rules


@weakref_cache
def joint(
    graph: Graph,
    rules: Rules,
    needs_ct: tuple[bool, ...],
    has_out_ct: tuple[bool, ...],
    linear: tuple[bool, ...],
    carried: tuple[bool, ...] = (),
) -> Joint:
    """Stage a graph together with its pullback to the inputs that need a cotangent.

    An output is linear if it depends on a linear input, or if it is `carried` to one.
    """
    in_avals = [v.aval for v in graph.invars]
    out_avals = tuple(v.aval for v in graph.outvars)
    linear_outs: tuple[bool, ...] = ()

    def run(ins, cts):
        nonlocal linear_outs
        args = merge_by_mask(linear, undefined(select(linear, graph.invars)), ins)
        outs, pullback = forward(rules, graph, args, needs_ct, has_out_ct)
        linear_outs = tuple(map(is_undefined, outs))
        if carried:
            linear_outs = tuple(map(operator.or_, linear_outs, carried))
        return select(not_(linear_outs), outs), pullback(merge_by_mask(has_out_ct, cts))

    ins = [struct(a) for a in select(not_(linear), in_avals)]
    cts = [cotangent_type(a) for a in select(has_out_ct, out_avals)]
    program, (_, in_cts) = stage(run, ins, cts)
    has_in_ct = tuple(ct is not None for ct in in_cts)
    signature = Signature(linear, linear_outs, has_out_ct, has_in_ct, out_avals)
    return Joint(program, signature, rules)


def linear_outputs(graph: Graph, rules: Rules, linear: tuple[bool, ...]) -> tuple[bool, ...]:
    """Say which outputs of a program depend on its linear inputs."""
    if not any(linear):
        return tuple(False for _ in graph.outvars)
    nothing = [tuple(False for _ in atoms) for atoms in (graph.invars, graph.outvars)]
    return joint(graph, rules, *nothing, linear).signature.linear_outs


class Residual(NamedTuple):
    """A value that the backward pass reads: input, output or stored value number `index`."""

    origin: str
    index: int
    var: Var


@dataclass(frozen=True, eq=False)
class Cut:
    """The two halves: `forward` ends with the stored values, `backward` starts with the
    residuals."""

    forward: Graph
    backward: Graph
    residuals: tuple[Residual, ...]


def cut(program: Joint, store: SavePolicy) -> Cut:
    """Cut a joint program in two, and store nothing that is computed from literals alone."""
    graph, (num_ins, num_outs) = program.graph, program.signature.sizes
    ins, cts = graph.invars[:num_ins], graph.invars[num_ins:]
    outs, in_cts = graph.outvars[:num_outs], graph.outvars[num_outs:]
    before, after = split_by_dependence(graph.eqns, cts)
    after = dce(replace(graph, eqns=tuple(after), outvars=in_cts)).eqns

    free = {*ins, *graph.constvars}
    defined_after = {*cts, *(v for eqn in after for v in eqn.outvars)}
    read = variables(*(eqn.invars for eqn in after), in_cts) - defined_after
    before, constant = _from_constants(before, set(ins), set(graph.constvars), program.rules)
    stored = store(before, read, free) - constant
    again, read = rematerialized(before, read, stored | free)

    known = [v for eqn in before for v in eqn.outvars if v in stored and v in read]
    saved = [v for v in known if v not in outs]
    where = {v: ("stored", i) for i, v in enumerate(saved)}
    where |= {v: ("output", i) for i, v in enumerate(outs) if isinstance(v, Var)}
    where |= {v: ("input", i) for i, v in enumerate(ins)}
    residuals = tuple(Residual(*where[v], v) for v in (*ins, *known) if v in read)
    return Cut(
        dce(replace(graph, invars=ins, outvars=(*outs, *saved), eqns=tuple(before))),
        replace(
            graph,
            invars=(*(r.var for r in residuals), *cts),
            outvars=in_cts,
            eqns=(*again, *after),
        ),
        residuals,
    )


def _from_constants(
    eqns: Sequence[JaxprEqn], ins: set[Var], constants: set[Var], rules: Rules
) -> tuple[list[JaxprEqn], set[Var]]:
    """Return the equations, and the values that need not be stored: those computed from literals
    alone, and those computed cheaply from the program's constants."""
    pairs = list(parted(eqns, ins | constants | effectful(eqns)))
    defined: set[Var] = set()
    for eqn, depends in pairs:
        read = variables(eqn.invars)
        if not (depends or eqn.effects) or (read <= defined | constants and is_cheap(eqn, rules)):
            defined.update(eqn.outvars)
    return [eqn for eqn, _ in pairs], defined


@dataclass(frozen=True, eq=False)
class ForwardBackward:
    """Two programs to run: forward (ins) -> (outs, stored), backward (residuals, cts) -> in_cts."""

    signature: Signature
    forward: Graph
    backward: Graph
    residuals: tuple[Residual, ...]

    def run(self, ins: Sequence[Any]) -> tuple[list[Any], Callable[[Cotangents], Cotangents]]:
        """Run forward, and return the outputs and the pullback, which runs backward."""
        outs, residuals = self.run_forward(ins)
        return outs, lambda cts: self.run_backward(residuals, cts)

    def run_forward(self, ins: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Return the outputs and the residuals."""
        linear, linear_outs = self.signature.linear, self.signature.linear_outs
        ins = select(not_(linear), ins)
        results = eval_graph(self.forward, ins)
        num_outs = linear_outs.count(False)
        values = {"input": ins, "output": results[:num_outs], "stored": results[num_outs:]}
        shapes = [UndefinedPrimal(a) for a in select(linear_outs, self.signature.out_avals)]
        outs = merge_by_mask(linear_outs, shapes, values["output"])
        return outs, [values[r.origin][r.index] for r in self.residuals]

    def run_backward(self, residuals: Sequence[Any], cts: Cotangents) -> Cotangents:
        """Return the cotangents of the inputs."""
        has_out_ct, avals = self.signature.has_out_ct, self.signature.out_avals
        arrived = [
            zeros(cotangent_type(a)) if ct is None else ct
            for ct, a in zip(select(has_out_ct, cts), select(has_out_ct, avals), strict=True)
        ]
        return merge_by_mask(
            self.signature.has_in_ct, eval_graph(self.backward, (*residuals, *arrived))
        )


def partition(
    program: Joint, store: SavePolicy, wrap: Callable[[Graph, str], Graph] = lambda half, _: half
) -> ForwardBackward:
    """Cut a joint program, and wrap each half as the whole was wrapped."""
    parts = cut(program, store)
    return ForwardBackward(
        program.signature,
        wrap(parts.forward, "forward"),
        wrap(parts.backward, "backward"),
        parts.residuals,
    )


# Lists and masks
