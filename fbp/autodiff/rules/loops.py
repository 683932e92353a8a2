"""Loops: scan stays a scan, forward and backward.

The body's joint program is cut once. Per iteration the forward scan stacks the values of least
total size from which the backward one can make the rest; values that depend only on the
constants are made once, outside; what is stacked already (scanned inputs, outputs) is read again.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.backprop import accumulate, active_variables, reached_outputs, zeros
from fbp.autodiff.graph import (
    Graph,
    JaxprEqn,
    Var,
    cotangent_type,
    differentiable,
    evaluate,
    struct,
)
from fbp.autodiff.partition import (
    Halves,
    Joint,
    Residual,
    Signature,
    cut,
    joint,
    merge,
    not_,
    recomputed,
    select,
    split_by_dependence,
)
from fbp.autodiff.rule import Applied, Call, Rules, call
from fbp.autodiff.rules.calls import Masks, masks
from fbp.autodiff.rules.sums import Iteration, worthwhile
from fbp.autodiff.store import Policy, minimum_cut, named_by


@dataclass(frozen=True)
class Loop:
    """The shape of a loop: body (constants, carry, xs) -> (carry, ys)."""

    num_consts: int
    num_carry: int
    length: int = 0
    reverse: bool = False
    unroll: int | bool = 1

    def ins(self, values: Sequence[Any]) -> tuple[tuple, tuple, tuple]:
        """Constants, carry, and what is scanned over."""
        end = self.num_consts + self.num_carry
        return (
            tuple(values[: self.num_consts]),
            tuple(values[self.num_consts : end]),
            tuple(values[end:]),
        )

    def outs(self, values: Sequence[Any]) -> tuple[tuple, tuple]:
        """Carry, and what is stacked."""
        return tuple(values[: self.num_carry]), tuple(values[self.num_carry :])

    def with_carry(self, values: Sequence[Any], carry: Sequence[Any]) -> tuple:
        """The same inputs with another carry."""
        consts, _, xs = self.ins(values)
        return (*consts, *carry, *xs)


def scan(call: Call, ins: list[Any], policy: Policy | None = None) -> Applied:
    """Run the loop, stacking what its pullback reads; the pullback runs from the other end."""
    params = call.params
    loop = Loop(*g.scan_counts(params), params["length"], params["reverse"], params["unroll"])
    return _scan(g.body(params), call.rules, masks(call, ins), loop, policy).run(ins)


@g.remembered
def _scan(body: Graph, rules: Rules, masks: Masks, loop: Loop, policy: Policy | None) -> Halves:
    wanted, useful, linear = fixed_point(rules, body, masks, loop)
    return _halves(joint(body, rules, wanted, useful, linear), loop, policy)


def reach(eqn: JaxprEqn, rules: Rules, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
    """A loop reaches what its body reaches in the end."""
    body, (num_consts, num_carry) = g.body(eqn.params), g.scan_counts(eqn.params)
    carry = slice(num_consts, num_consts + num_carry)
    while True:
        hits = reached_outputs(body, rules, wanted)
        more = tuple(a or b for a, b in zip(wanted[carry], hits[:num_carry], strict=True))
        if more == wanted[carry]:
            return (*more, *hits[num_carry:])
        wanted = (*wanted[: carry.start], *more, *wanted[carry.stop :])


def fixed_point(rules: Rules, body: Graph, masks: Masks, loop: Loop) -> Masks:
    """What holds for a carry's input holds for its output, and the other way round."""
    wanted, useful, linear = masks
    everywhere_in = tuple(differentiable(v.aval) for v in body.invars)
    everywhere_out = tuple(differentiable(v.aval) for v in body.outvars)
    while True:
        reached = active_variables(rules, body, wanted, everywhere_out)
        needed = active_variables(rules, body, everywhere_in, useful)
        _, dependent = split_by_dependence(body.eqns, select(linear, body.invars))
        made = {*select(linear, body.invars), *(v for e in dependent for v in e.outvars)}
        before = wanted, useful, linear
        carry_in, carry_out = loop.ins(body.invars)[1], loop.outs(body.outvars)[0]
        wanted = loop.with_carry(wanted, _either(loop.ins(wanted)[1], carry_out, reached))
        linear = loop.with_carry(linear, _either(loop.ins(linear)[1], carry_out, made))
        carry_useful, ys_useful = loop.outs(useful)
        useful = (*_either(carry_useful, carry_in, needed), *ys_useful)
        if (wanted, useful, linear) == before:
            break
    carry = [w and u for w, u in zip(loop.ins(wanted)[1], loop.outs(useful)[0], strict=True)]
    ys = [
        u and isinstance(v, Var) and v in reached
        for u, v in zip(loop.outs(useful)[1], loop.outs(body.outvars)[1], strict=True)
    ]
    return loop.with_carry(wanted, carry), (*carry, *ys), linear


def _either(mask: Sequence[bool], atoms: Sequence[Any], chosen: set[Var]) -> tuple[bool, ...]:
    return tuple(
        m or (isinstance(v, Var) and v in chosen) for m, v in zip(mask, atoms, strict=True)
    )


def _halves(program: Joint, loop: Loop, policy: Policy | None) -> Halves:
    """Cut the body's joint program, and put a scan around each half."""
    graph, signature = program
    num_ins, num_outs = signature.sizes
    known = without_linear(loop, signature)
    consts, _, xs = known.ins(graph.invars[:num_ins])
    outs = graph.outvars[:num_outs]
    ys = known.outs(outs)[1]

    once = _invariant(graph, consts)
    there = {*xs, *g.variables(ys)}
    parts = cut(program, minimum_cut(_cost(graph, once, consts, there, loop), policy))
    read = [r.var for r in parts.residuals]
    invariants = [v for v in read if v in once]
    stacked_already = {
        v: ("input", known.num_consts + known.num_carry + i) for i, v in enumerate(xs)
    }
    stacked_already |= {
        v: ("output", known.num_carry + i) for i, v in enumerate(ys) if isinstance(v, Var)
    }
    scanned = [v for v in read if v not in once]
    stacks = [v for v in scanned if v not in stacked_already]
    made_once = [v for v in invariants if v not in consts]
    whole, named = named_by(policy, parts.forward)
    kept = [v for v in named if v not in (*stacks, *ys) and v not in once]

    where = stacked_already | {v: ("input", i) for i, v in enumerate(consts)}
    where |= {v: ("stored", i) for i, v in enumerate((*stacks, *kept, *made_once))}
    step = g.live(replace(whole, outvars=(*outs, *stacks, *kept)))
    once_eqns, _ = recomputed(parts.forward.eqns, set(made_once), set(consts))
    before = replace(parts.forward, invars=consts, outvars=tuple(made_once), eqns=tuple(once_eqns))
    forward = _forward_loop(known, step, before)
    backward = _backward_loop(loop, parts.backward, signature, read, invariants, scanned)
    return Halves(
        _loop_signature(signature, loop),
        forward,
        backward,
        tuple(Residual(*where[v], v) for v in (*invariants, *scanned)),
    )


def without_linear(loop: Loop, signature: Signature) -> Loop:
    """The loop over what has a value."""
    consts, carry, _ = loop.ins(signature.linear)
    return replace(loop, num_consts=consts.count(False), num_carry=carry.count(False))


def _loop_signature(body: Signature, loop: Loop) -> Signature:
    """The body's signature, with outputs stacked and a cotangent for every wanted carry."""
    carry, ys = loop.outs(body.out_avals)
    return replace(
        body,
        given=loop.with_carry(body.given, loop.outs(body.useful)[0]),
        out_avals=(*carry, *(_stacked(a, loop) for a in ys)),
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
    return g.stage(run, *consts, *init, *(_stacked(x, loop) for x in xs))[0]


def _backward_loop(
    loop: Loop,
    step: Graph,
    signature: Signature,
    read: Sequence[Var],
    invariants: Sequence[Var],
    scanned: Sequence[Var],
) -> Graph:
    """(invariants, scanned residuals, cotangents) -> cotangents of (consts, init, xs)."""
    consts_given, carry_given, _ = loop.ins(signature.given)
    carry_useful, ys_useful = loop.outs(signature.useful)
    carry_avals, ys_avals = loop.outs(signature.out_avals)
    carry_types = [cotangent_type(a) for a in select(carry_useful, carry_avals)]
    ys_types = [cotangent_type(a) for a in select(ys_useful, ys_avals)]

    num_consts, num_carry = consts_given.count(True), carry_given.count(True)
    terms, rest = step.outvars[:num_consts], step.outvars[num_consts:]
    ys_cts_vars = step.invars[len(read) + len(carry_types) :]
    there = {*scanned, *ys_cts_vars}
    iteration = _iteration(step, invariants)
    sums = [iteration.sum(v) for v in terms]
    waits = worthwhile(sums, terms, there)
    late = [s for s in select(waits, sums) if s is not None]
    stacks = list(dict.fromkeys(v for s in late for v in s.stacked if v not in there))
    added = select(not_(waits), terms)
    body_graph = g.live(replace(step, outvars=(*added, *rest, *stacks)))

    def run(fixed, stacked, carry_cts, ys_cts):
        fixed_values = dict(zip(invariants, fixed, strict=True))

        def body(state, slices):
            carry_cts, totals = state
            residuals, ys_cts = slices
            values = fixed_values | dict(zip(scanned, residuals, strict=True))
            made = evaluate(body_graph, (*(values[v] for v in read), *carry_cts, *ys_cts))
            terms, made = made[: len(added)], made[len(added) :]
            arrived = merge(select(carry_useful, carry_given), made[:num_carry])
            carry_cts = [
                zeros(t) if ct is None else ct for ct, t in zip(arrived, carry_types, strict=True)
            ]
            return (carry_cts, list(map(accumulate, totals, terms))), made[num_carry:]

        totals = [zeros(v.aval) for v in added]
        (carry_cts, totals), made = lax.scan(
            body,
            (carry_cts, totals),
            (stacked, ys_cts),
            length=loop.length,
            reverse=not loop.reverse,
            unroll=loop.unroll,
        )
        xs_cts = made[: len(made) - len(stacks)]
        env = dict(zip(scanned, stacked, strict=True)) | dict(zip(ys_cts_vars, ys_cts, strict=True))
        env |= dict(zip(stacks, made[len(xs_cts) :], strict=True))
        return (*merge(waits, [s.finish(env) for s in late], totals), *carry_cts, *xs_cts)

    types = {r: struct(r.aval) for r in read}
    return g.stage(
        run,
        [types[v] for v in invariants],
        [_stacked(types[v], loop) for v in scanned],
        carry_types,
        [_stacked(t, loop) for t in ys_types],
    )[0]


def _iteration(step: Graph, invariants: Sequence[Var]) -> Iteration:
    sources = [v for v in step.invars if v not in invariants]
    _, eqns = split_by_dependence(step.eqns, sources)
    made_by = {v: eqn for eqn in step.eqns for v in eqn.outvars}
    return Iteration(made_by, {*sources, *(v for eqn in eqns for v in eqn.outvars)})


def _stacked(t: Any, loop: Loop) -> Any:
    return g.stacked(t, loop.length)


RULES = Rules(call(p.scan_p, scan, reach, lambda policy: functools.partial(scan, policy=policy)))
