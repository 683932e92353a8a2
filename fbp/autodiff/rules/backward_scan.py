"""The backward half of a scan: from the last iteration to the first, in chunks if that pays.

The cotangent of a constant is a sum over the iterations. Where sums can be deferred
(`deferred_sums.py`), the loop runs in chunks: within a chunk the terms are stacked, after it they
are summed at once. So many small products become one large one, and no stack is longer than a
chunk.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
from jax import lax

from fbp.autodiff import avals
from fbp.autodiff import graph as g
from fbp.autodiff.avals import accumulate, cotangent_type, struct, zeros
from fbp.autodiff.dce import dce
from fbp.autodiff.dependence import dependent_variables
from fbp.autodiff.graph import Graph, Var
from fbp.autodiff.interpret import eval_graph
from fbp.autodiff.masks import merge_by_mask, not_, select
from fbp.autodiff.partition import Signature
from fbp.autodiff.rules.deferred_sums import ScanBody, Sum, worthwhile
from fbp.autodiff.rules.loops import LoopLayout
from fbp.autodiff.rules.reads_first import reads_first
from fbp.autodiff.rules.running_totals import into_totals


class Reads(NamedTuple):
    """The values that the backward pass reads of an iteration: those that are the same in all
    iterations; the last states, each with the first state that it becomes in the next iteration;
    and those that are stacked."""

    once: list[Var]
    last: dict[Var, Var]
    stacked: list[Var]


@dataclass(frozen=True, eq=False)
class Totals:
    """The cotangents of the constants: those that are deferred, with their terms, and the
    others."""

    terms: Sequence[Any]
    wait: list[bool]
    late: list[Sum]
    stacks: list[Var]

    def zeros(self, late: bool) -> list[Any]:
        """Return the initial values of the deferred sums, or of the others."""
        return [zeros(v.aval) for v in select(self.wait if late else not_(self.wait), self.terms)]


def backward_scan(
    loop: LoopLayout, step: Graph, signature: Signature, reads: Reads, budget: int
) -> Graph:
    """Run `step`, one iteration (residuals, cotangents) -> cotangents, from the last to the first:
    (once, last, stacked, cotangents) -> cotangents of (consts, init, xs). Deferred sums stack at
    most `budget` bytes per iteration."""
    carry_cts, ys_cts = _cts(step, signature, loop)
    chunk = _chunk(loop)
    num_terms = loop.ins(signature.has_in_ct)[0].count(True)
    totals = _totals(step, num_terms, reads, ys_cts, budget * loop.length // chunk)
    body = _body(loop, step, signature, reads, totals)

    sweep = _sweep(loop, body, (*reads.stacked, *ys_cts), totals)

    def run(once, last, stacked, carry_cts, ys_cts):
        state, slices = (carry_cts, last, totals.zeros(late=False)), (stacked, ys_cts)
        if chunk == loop.length or not totals.late:
            (carry_cts, _, added), xs_cts, late = sweep(once, state, slices, loop.length)
            return (*merge_by_mask(totals.wait, late, added), *carry_cts, *xs_cts)

        def sweep_chunk(carry, slices):
            state, late = carry
            state, xs_cts, terms = sweep(once, state, slices, chunk)
            return (state, list(map(accumulate, late, terms))), xs_cts

        (state, late), xs_cts = lax.scan(
            sweep_chunk,
            (state, totals.zeros(late=True)),
            jax.tree.map(lambda x: _regrouped(x, (loop.length // chunk, chunk), 1), slices),
            reverse=not loop.reverse,
        )
        carry_cts, _, added = state
        xs_cts = [_regrouped(x, (loop.length,), 2) for x in xs_cts]
        return (*merge_by_mask(totals.wait, late, added), *carry_cts, *xs_cts)

    types = {v: struct(v.aval) for v in step.invars}
    return g.stage(
        run,
        [types[v] for v in reads.once],
        [types[v] for v in reads.last],
        [avals.stacked(types[v], loop.length) for v in reads.stacked],
        [types[v] for v in carry_cts],
        [avals.stacked(types[v], loop.length) for v in ys_cts],
    )[0]


def _cts(step: Graph, signature: Signature, loop: LoopLayout) -> tuple[Sequence[Var], ...]:
    """Return the cotangents of the carry and of the ys, the last inputs of an iteration."""
    num_carry, num_ys = (mask.count(True) for mask in loop.outs(signature.has_out_ct))
    cts = step.invars[len(step.invars) - num_carry - num_ys :]
    return cts[:num_carry], cts[num_carry:]


def _next_of(graph: Graph, is_added: list[bool], carried: Sequence[Var]) -> dict[Var, Any]:
    """Return what becomes of the sums that are added to in place, the first inputs, and of the
    cotangents of the carry."""
    num_sums = len(is_added)
    sums = zip(graph.invars, select(is_added, graph.outvars[:num_sums]), strict=False)
    return dict(sums) | dict(zip(carried, graph.outvars[num_sums:], strict=False))


def _sweep(loop: LoopLayout, body: Callable, slice_vars: Sequence[Var], totals: Totals) -> Callable:
    """Return a scan of the body over part of the iterations, which ends with its deferred sums."""

    def sweep(once, state, slices, length):
        state, (xs_cts, stacks) = lax.scan(
            lambda state, slices: body(once, state, slices),
            state,
            slices,
            length=length,
            reverse=not loop.reverse,
            unroll=loop.unroll,
        )
        env = dict(zip(slice_vars, (*slices[0], *slices[1]), strict=True))
        env |= dict(zip(totals.stacks, stacks, strict=True))
        return state, xs_cts, [s.finish(env) for s in totals.late]

    return sweep


def _body(
    loop: LoopLayout, step: Graph, signature: Signature, reads: Reads, totals: Totals
) -> Callable[..., tuple[Any, Any]]:
    """Return one iteration: (once, (carry's cotangents, last, totals), slices) -> (the same,
    stacks)."""
    num_terms, added = len(totals.terms), select(not_(totals.wait), totals.terms)
    graph = dce(replace(step, outvars=(*added, *step.outvars[num_terms:], *totals.stacks)))
    has_out_ct, has_in_ct = loop.outs(signature.has_out_ct)[0], loop.ins(signature.has_in_ct)[1]
    arriving = select(has_out_ct, has_in_ct)
    types = select(has_out_ct, loop.outs(signature.out_avals)[0])
    graph, is_added = into_totals(graph, added)
    carried = select(arriving, _cts(step, signature, loop)[0])
    graph = reads_first(graph, _next_of(graph, is_added, carried))

    def body(once, state, slices):
        (carry_cts, last, sums), (stacked, ys_cts) = state, slices
        names = (*reads.once, *reads.last, *reads.stacked)
        values = dict(zip(names, (*once, *last, *stacked), strict=True))
        read = [values[v] for v in step.invars if v in values]
        start = select(is_added, sums)
        results = iter(eval_graph(graph, (*start, *read, *carry_cts, *ys_cts)))
        sums = [
            next(results) if starts else accumulate(total, next(results))
            for starts, total in zip(is_added, sums, strict=True)
        ]
        arrived = [next(results) if arrives else None for arrives in arriving]
        carry_cts = [
            zeros(cotangent_type(t)) if ct is None else ct
            for ct, t in zip(arrived, types, strict=True)
        ]
        last = [values[v] for v in reads.last.values()]
        rest = list(results)
        num_xs = len(rest) - len(totals.stacks)
        return (carry_cts, last, sums), (rest[:num_xs], rest[num_xs:])

    return body


def _totals(
    step: Graph, num_terms: int, reads: Reads, ys_cts: Sequence[Var], budget: int
) -> Totals:
    varying = [v for v in step.invars if v not in reads.once]
    producer = {v: eqn for eqn in step.eqns for v in eqn.outvars}
    iteration = ScanBody(producer, dependent_variables(step.eqns, varying))
    terms, available = step.outvars[:num_terms], {*reads.stacked, *ys_cts}
    sums = [iteration.sum(v) for v in terms]
    wait = worthwhile(sums, terms, available, budget)
    late = [s for s in select(wait, sums) if s is not None]
    stacks = dict.fromkeys(v for s in late for v in s.stacked if v not in available)
    return Totals(terms, wait, late, list(stacks))


def _chunk(loop: LoopLayout) -> int:
    """Choose how many iterations to run before their stacks are summed."""
    fitting = [n for n in range(8, 33) if loop.length % n == 0 and loop.length >= 4 * n]
    chunk = max(fitting, default=loop.length) if loop.unroll == 1 else loop.length
    return max(1, chunk)


def _regrouped(x: Any, shape: tuple[int, ...], axes: int) -> Any:
    """Reshape the leading axes."""
    return lax.reshape(x, (*shape, *x.shape[axes:]))
