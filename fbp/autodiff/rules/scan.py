"""scan stays a scan, forward and backward.

The body's joint program is cut once. Per iteration the forward scan stacks the values of least
total size from which the backward one can compute the rest; values that depend only on the
constants are computed once, outside; what is stacked already (xs, ys) is read again.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import jax
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff import avals
from fbp.autodiff import graph as g
from fbp.autodiff.avals import num_bytes, struct
from fbp.autodiff.compat import scan_counts, scopes
from fbp.autodiff.dce import dce, read_by
from fbp.autodiff.dependence import effectful, parted
from fbp.autodiff.graph import Graph, JaxprEqn, Var
from fbp.autodiff.inline import inlined
from fbp.autodiff.interpret import eval_graph
from fbp.autodiff.masks import not_, select
from fbp.autodiff.partition import ForwardBackward, Joint, Residual, Signature, cut, joint
from fbp.autodiff.rule import Applied, Call, Rules, call
from fbp.autodiff.rules.backward_scan import Reads, backward_scan
from fbp.autodiff.rules.calls import Masks, masks
from fbp.autodiff.rules.loops import (
    LoopLayout,
    fixed_point,
    linear_in_the_end,
    perturbed_in_the_end,
    without_linear,
)
from fbp.autodiff.rules.reads_first import reads_first
from fbp.autodiff.save_policy import (
    AGAIN,
    ONCE_MORE,
    Policy,
    is_cheap,
    minimum_cut,
    with_named_values,
)


def scan(call: Call, ins: list[Any], policy: Policy | None = None) -> Applied:
    """Pull back through a scan by two scans: the forward one stacks the residuals of the backward
    one."""
    params = call.params
    loop = LoopLayout(*scan_counts(params), params["length"], params["reverse"], params["unroll"])
    again = AGAIN if HALVES.isdisjoint(scopes(call.eqn)) else ONCE_MORE
    return _scan(g.body(params), call.rules, masks(call, ins), loop, policy, again).run(ins)


HALVES = frozenset({"forward", "backward"})
"""The scopes of the loops that a derivative makes."""


@g.weakref_cache
def _scan(
    body: Graph, rules: Rules, masks: Masks, loop: LoopLayout, policy: Policy | None, again: float
) -> ForwardBackward:
    needs_ct, has_out_ct, linear = fixed_point(rules, body, masks, loop)
    carried = linear_in_the_end(loop, linear, len(body.outvars))
    program = joint(body, rules, needs_ct, has_out_ct, linear, carried)
    return _partition(program, rules, loop, policy, again)


def scan_activity(eqn: JaxprEqn, rules: Rules, needs_ct: tuple[bool, ...]) -> tuple[bool, ...]:
    """Say which outputs of a scan are perturbed after enough iterations of its body."""
    return perturbed_in_the_end(
        g.body(eqn.params), rules, needs_ct, LoopLayout(*scan_counts(eqn.params))
    )


def _partition(
    program: Joint, rules: Rules, loop: LoopLayout, policy: Policy | None, again: float
) -> ForwardBackward:
    """Cut the body's joint program, and put a scan around each half."""
    signature, (num_ins, num_outs) = program.signature, program.signature.sizes
    known = without_linear(loop, signature)
    consts, carry, xs = known.ins(program.graph.invars[:num_ins])
    graph, once = _with_invariants(inlined(program.graph), consts)
    outs = graph.outvars[:num_outs]
    carry_out, ys = known.outs(outs)
    available = {*xs, *g.variables(ys)}
    next_of = {a: b for a, b in zip(carry, carry_out, strict=True) if isinstance(b, Var)}
    read_by_rules: set[Var] = set()

    def store(eqns, read, free):
        read_by_rules.update(read)
        seen_before = {b for a, b in next_of.items() if a in read}
        cost = _cost(graph, once, consts, available | seen_before, loop)
        return minimum_cut(cost, rules, policy, again)(eqns, read, free)

    parts = cut(program._replace(graph=graph), store)
    read = [r.var for r in parts.residuals]
    invariants = [v for v in read if v in once]
    handed_down = _handed_down(next_of, [v for v in read if v not in once], available)
    stacked_already = _stacked_already(known, xs, ys)
    scanned = [v for v in read if v not in once and v not in handed_down]
    stacks = [v for v in scanned if v not in stacked_already]
    hoisted = [v for v in invariants if v not in consts]
    forward_graph, named = with_named_values(policy, parts.forward)
    named = [v for v in named if v not in (*stacks, *ys) and v not in once]

    where = stacked_already | {v: ("input", i) for i, v in enumerate(consts)}
    where |= {v: ("stored", i) for i, v in enumerate((*stacks, *named, *hoisted))}
    where |= {v: ("output", carry_out.index(v)) for v in handed_down}
    step, ahead = _step(replace(forward_graph, outvars=(*outs, *stacks, *named)), once, rules)
    before = _before(parts.forward, once, consts, (*hoisted, *ahead))
    reads = Reads(invariants, handed_down, scanned)
    budget = _budget(read_by_rules - once - {*xs}, stacks)
    return ForwardBackward(
        _loop_signature(signature, loop),
        _forward_loop(known, step, before, len(hoisted)),
        backward_scan(loop, parts.backward, signature, reads, budget),
        tuple(Residual(*where[v], v) for v in (*invariants, *handed_down, *scanned)),
    )


def _stacked_already(
    loop: LoopLayout, xs: Sequence[Any], ys: Sequence[Any]
) -> dict[Var, tuple[str, int]]:
    """Return the values that are stacked in any case: where xs and ys lie."""
    first = loop.num_consts + loop.num_carry
    inputs = {v: ("input", first + i) for i, v in enumerate(xs)}
    return inputs | {
        v: ("output", loop.num_carry + i) for i, v in enumerate(ys) if isinstance(v, Var)
    }


def _handed_down(
    next_of: dict[Var, Var], read: Sequence[Var], available: set[Var]
) -> dict[Var, Var]:
    """Return the last states that are read as well as the first states of the same iterations: the
    backward loop has read them as the first states of the iteration that it ran before."""
    return {b: a for a, b in next_of.items() if a in read and b in read and b not in available}


def _budget(read: set[Var], stacks: Sequence[Var]) -> int:
    """Return the bytes per iteration that the backward loop may stack: those saved by not storing
    all that its rules read."""
    return _bytes(read) - _bytes(stacks)


def _bytes(values: Iterable[Var]) -> int:
    return sum(num_bytes(v.aval) for v in values)


def _loop_signature(body: Signature, loop: LoopLayout) -> Signature:
    """Return the body's signature, with ys stacked and a cotangent for every active carry."""
    carry, ys = loop.outs(body.out_avals)
    return replace(
        body,
        has_in_ct=loop.with_carry(body.has_in_ct, loop.outs(body.has_out_ct)[0]),
        out_avals=(*carry, *(avals.stacked(a, loop.length) for a in ys)),
    )


def _with_invariants(graph: Graph, consts: Sequence[Var]) -> tuple[Graph, set[Var]]:
    """Return the program and its loop invariants, computed by equations of their own."""
    varying = {v for v in graph.invars if v not in consts} | effectful(graph.eqns)
    pairs = list(parted(graph.eqns, varying))
    hoisted_results = {v for eqn, varies in pairs if not varies for v in eqn.outvars} - varying
    once = {*consts, *graph.constvars, *hoisted_results}
    return replace(graph, eqns=tuple(eqn for eqn, _ in pairs)), once


def _before(
    graph: Graph, once: set[Var], consts: Sequence[Var], hoisted_results: Sequence[Var]
) -> Graph:
    """Return the program that computes loop invariants from the constants."""
    eqns = tuple(eqn for eqn in graph.eqns if not once.isdisjoint(eqn.outvars))
    return dce(replace(graph, invars=tuple(consts), outvars=tuple(hoisted_results), eqns=eqns))


def _step(graph: Graph, once: set[Var], rules: Rules) -> tuple[Graph, list[Var]]:
    """Return one iteration, and those of its first inputs that are computed before the loop: loop
    invariants that are not cheap to compute again."""
    is_ahead = [not once.isdisjoint(eqn.outvars) and not is_cheap(eqn, rules) for eqn in graph.eqns]
    ahead = [v for eqn in select(is_ahead, graph.eqns) for v in eqn.outvars]
    eqns = tuple(select(not_(is_ahead), graph.eqns))
    step = dce(replace(graph, eqns=eqns))
    read = read_by(step)
    ahead = [v for v in ahead if v in read]
    return replace(step, invars=(*ahead, *step.invars)), ahead


def _cost(graph, once, consts, stacked_already, loop):
    """Return bytes per iteration: none for values stored anyway, a share for loop invariants."""
    free = {*consts, *graph.constvars, *stacked_already}

    def cost(v: Var) -> int:
        if v in free:
            return 0
        size = num_bytes(v.aval)
        return -(-size // max(1, loop.length)) if v in once else size

    return cost


def _forward_loop(loop: LoopLayout, step: Graph, before: Graph, num_hoisted: int) -> Graph:
    """Return the program (consts, init, xs) -> (carry, ys, stacks, loop invariants)."""
    num_ahead = len(before.outvars) - num_hoisted
    carried = loop.ins(step.invars[num_ahead:])[1]
    step = reads_first(step, dict(zip(carried, step.outvars, strict=False)))

    def run(*ins):
        consts, init, xs = loop.ins(ins)
        hoisted_results = eval_graph(before, consts)

        def body(carry, x):
            return loop.outs(
                eval_graph(step, (*hoisted_results[num_hoisted:], *consts, *carry, *x))
            )

        with jax.named_scope("forward"):
            carry, stacked = lax.scan(
                body, init, xs, length=loop.length, reverse=loop.reverse, unroll=loop.unroll
            )
        return (*carry, *stacked, *hoisted_results[:num_hoisted])

    consts, init, xs = loop.ins([struct(v.aval) for v in step.invars[num_ahead:]])
    return g.stage(run, *consts, *init, *(avals.stacked(x, loop.length) for x in xs))[0]


RULES = Rules(
    call(p.scan_p, scan, scan_activity, lambda policy: functools.partial(scan, policy=policy))
).tag("forward_mode")
