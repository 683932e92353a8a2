"""scan stays a scan, forward and backward.

The body's joint program is cut once. Per iteration the forward scan stacks the values of least
total size from which the backward one can make the rest; values that depend only on the
constants are made once, outside; what is stacked already (scanned inputs, outputs) is read again.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.graph import Graph, JaxprEqn, Var, evaluate, struct
from fbp.autodiff.partition import (
    Halves,
    Joint,
    Residual,
    Signature,
    cut,
    joint,
    recomputed,
    split_by_dependence,
)
from fbp.autodiff.rule import Applied, Call, Rules, call
from fbp.autodiff.rules.backward_scan import Reads, backward_scan
from fbp.autodiff.rules.calls import Masks, masks
from fbp.autodiff.rules.loops import (
    Loop,
    fixed_point,
    linear_in_the_end,
    reached_in_the_end,
    without_linear,
)
from fbp.autodiff.store import Policy, minimum_cut, named_by


def scan(call: Call, ins: list[Any], policy: Policy | None = None) -> Applied:
    """Run the loop, stacking what its pullback reads; the pullback runs from the other end."""
    params = call.params
    loop = Loop(*g.scan_counts(params), params["length"], params["reverse"], params["unroll"])
    return _scan(g.body(params), call.rules, masks(call, ins), loop, policy).run(ins)


@g.remembered
def _scan(body: Graph, rules: Rules, masks: Masks, loop: Loop, policy: Policy | None) -> Halves:
    wanted, useful, linear = fixed_point(rules, body, masks, loop)
    carried = linear_in_the_end(loop, linear, len(body.outvars))
    return _halves(joint(body, rules, wanted, useful, linear, carried), loop, policy)


def reach(eqn: JaxprEqn, rules: Rules, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
    """A scan reaches what its body reaches in the end."""
    return reached_in_the_end(g.body(eqn.params), rules, wanted, Loop(*g.scan_counts(eqn.params)))


def _halves(program: Joint, loop: Loop, policy: Policy | None) -> Halves:
    """Cut the body's joint program, and put a scan around each half."""
    graph, signature = program
    num_ins, num_outs = signature.sizes
    known = without_linear(loop, signature)
    consts, carry, xs = known.ins(graph.invars[:num_ins])
    outs = graph.outvars[:num_outs]
    carry_out, ys = known.outs(outs)

    once = _invariant(graph, consts)
    there = {*xs, *g.variables(ys)}
    next_of = {a: b for a, b in zip(carry, carry_out, strict=True) if isinstance(b, Var)}

    def store(eqns, read, free):
        seen_before = {b for a, b in next_of.items() if a in read}
        cost = _cost(graph, once, consts, there | seen_before, loop)
        return minimum_cut(cost, policy)(eqns, read, free)

    parts = cut(program, store)
    read = [r.var for r in parts.residuals]
    invariants = [v for v in read if v in once]
    handed_down = _handed_down(next_of, [v for v in read if v not in once], there)
    stacked_already = {
        v: ("input", known.num_consts + known.num_carry + i) for i, v in enumerate(xs)
    }
    stacked_already |= {
        v: ("output", known.num_carry + i) for i, v in enumerate(ys) if isinstance(v, Var)
    }
    scanned = [v for v in read if v not in once and v not in handed_down]
    stacks = [v for v in scanned if v not in stacked_already]
    made_once = [v for v in invariants if v not in consts]
    whole, named = named_by(policy, parts.forward)
    kept = [v for v in named if v not in (*stacks, *ys) and v not in once]

    where = stacked_already | {v: ("input", i) for i, v in enumerate(consts)}
    where |= {v: ("stored", i) for i, v in enumerate((*stacks, *kept, *made_once))}
    where |= {v: ("output", carry_out.index(v)) for v in handed_down}
    step = g.live(replace(whole, outvars=(*outs, *stacks, *kept)))
    once_eqns, _ = recomputed(parts.forward.eqns, set(made_once), set(consts))
    before = replace(parts.forward, invars=consts, outvars=tuple(made_once), eqns=tuple(once_eqns))
    forward = _forward_loop(known, step, before)
    reads = Reads(invariants, handed_down, scanned)
    backward = backward_scan(loop, parts.backward, signature, reads)
    return Halves(
        _loop_signature(signature, loop),
        forward,
        backward,
        tuple(Residual(*where[v], v) for v in (*invariants, *handed_down, *scanned)),
    )


def _handed_down(next_of: dict[Var, Var], read: Sequence[Var], there: set[Var]) -> dict[Var, Var]:
    """The last states that are read beside the first states of the same iterations: they are
    what the backward loop has read as the first states of the iteration before."""
    return {b: a for a, b in next_of.items() if a in read and b in read and b not in there}


def _loop_signature(body: Signature, loop: Loop) -> Signature:
    """The body's signature, with outputs stacked and a cotangent for every wanted carry."""
    carry, ys = loop.outs(body.out_avals)
    return replace(
        body,
        given=loop.with_carry(body.given, loop.outs(body.useful)[0]),
        out_avals=(*carry, *(g.stacked(a, loop.length) for a in ys)),
    )


def _invariant(graph: Graph, consts: Sequence[Var]) -> set[Var]:
    """The values that are the same in every iteration."""
    varying = [v for v in graph.invars if v not in consts]
    eqns, _ = split_by_dependence(graph.eqns, varying)
    return {*consts, *graph.constvars, *(v for eqn in eqns for v in eqn.outvars)}


def _cost(graph, once, consts, stacked_already, loop):
    """Bytes per iteration: none for what is there anyway, a share for what is made once."""
    free = {*consts, *graph.constvars, *stacked_already}

    def cost(v: Var) -> int:
        if v in free:
            return 0
        size = g.num_bytes(v.aval)
        return -(-size // max(1, loop.length)) if v in once else size

    return cost


def _forward_loop(loop: Loop, step: Graph, before: Graph) -> Graph:
    """(consts, init, xs) -> (carry, ys, stacks, what is made once)."""

    def run(*ins):
        consts, init, xs = loop.ins(ins)

        def body(carry, x):
            return loop.outs(evaluate(step, (*consts, *carry, *x)))

        carry, stacked = lax.scan(
            body, init, xs, length=loop.length, reverse=loop.reverse, unroll=loop.unroll
        )
        return (*carry, *stacked, *evaluate(before, consts))

    consts, init, xs = loop.ins([struct(v.aval) for v in step.invars])
    return g.stage(run, *consts, *init, *(g.stacked(x, loop.length) for x in xs))[0]


RULES = Rules(call(p.scan_p, scan, reach, lambda policy: functools.partial(scan, policy=policy)))
