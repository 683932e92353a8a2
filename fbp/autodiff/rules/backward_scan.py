"""The backward half of a scan: from the last iteration to the first, in chunks if that pays.

The cotangent of a constant is a sum over the iterations. Where sums can be computed at once
(`deferred_sums.py`), the loop runs in chunks: within one, what is summed is stacked; after it, its
sums are added. So many small products are one large one, and no stack is longer than a chunk.
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
from fbp.autodiff.interpret import evaluate
from fbp.autodiff.masks import merge, not_, select
from fbp.autodiff.partition import Signature
from fbp.autodiff.rules.deferred_sums import Iteration, Sum, worthwhile
from fbp.autodiff.rules.loops import Loop


class Reads(NamedTuple):
    """What the backward pass reads of an iteration: what is the same in all of them; the last
    states, each with the first state that it is in the next iteration; and what is stacked."""

    once: list[Var]
    last: dict[Var, Var]
    stacked: list[Var]


@dataclass(frozen=True, eq=False)
class Totals:
    """The cotangents of the constants: which are computed at once, from what, and the others."""

    terms: Sequence[Any]
    wait: list[bool]
    late: list[Sum]
    stacks: list[Var]

    def zeros(self, late: bool) -> list[Any]:
        """Where the sums begin: those that wait, or the others."""
        return [zeros(v.aval) for v in select(self.wait if late else not_(self.wait), self.terms)]


def backward_scan(
    loop: Loop, step: Graph, signature: Signature, reads: Reads, budget: int
) -> Graph:
    """(once, last, stacked, cotangents) -> cotangents of (consts, init, xs), from `step`, which
    is one iteration: (what it reads, cotangents) -> cotangents. What it stacks for its sums has
    `room` bytes for each iteration of the loop."""
    num_carry, num_ys = (mask.count(True) for mask in loop.outs(signature.has_out_ct))
    cts = step.invars[len(step.invars) - num_carry - num_ys :]
    carry_cts, ys_cts = cts[:num_carry], cts[num_carry:]
    chunk = _chunk(loop)
    num_terms = loop.ins(signature.has_in_ct)[0].count(True)
    totals = _totals(step, num_terms, reads, ys_cts, budget * loop.length // chunk)
    body = _body(loop, step, signature, reads, totals)

    def sweep(once, state, slices, length):
        state, (xs_cts, stacks) = lax.scan(
            lambda state, slices: body(once, state, slices),
            state,
            slices,
            length=length,
            reverse=not loop.reverse,
            unroll=loop.unroll,
        )
        env = dict(zip((*reads.stacked, *ys_cts), (*slices[0], *slices[1]), strict=True))
        env |= dict(zip(totals.stacks, stacks, strict=True))
        return state, xs_cts, [s.finish(env) for s in totals.late]

    def run(once, last, stacked, carry_cts, ys_cts):
        state, slices = (carry_cts, last, totals.zeros(late=False)), (stacked, ys_cts)
        if chunk == loop.length or not totals.late:
            (carry_cts, _, added), xs_cts, late = sweep(once, state, slices, loop.length)
            return (*merge(totals.wait, late, added), *carry_cts, *xs_cts)

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
        return (*merge(totals.wait, late, added), *carry_cts, *xs_cts)

    types = {v: struct(v.aval) for v in step.invars}
    return g.stage(
        run,
        [types[v] for v in reads.once],
        [types[v] for v in reads.last],
        [avals.stacked(types[v], loop.length) for v in reads.stacked],
        [types[v] for v in carry_cts],
        [avals.stacked(types[v], loop.length) for v in ys_cts],
    )[0]


def _body(
    loop: Loop, step: Graph, signature: Signature, reads: Reads, totals: Totals
) -> Callable[..., tuple[Any, Any]]:
    """One iteration: (once, (carry's cotangents, last, totals), slices) -> (the same, stacks)."""
    num_terms, added = len(totals.terms), select(not_(totals.wait), totals.terms)
    graph = dce(replace(step, outvars=(*added, *step.outvars[num_terms:], *totals.stacks)))
    has_out_ct, has_in_ct = loop.outs(signature.has_out_ct)[0], loop.ins(signature.has_in_ct)[1]
    arriving = select(has_out_ct, has_in_ct)
    types = select(has_out_ct, loop.outs(signature.out_avals)[0])

    def body(once, state, slices):
        (carry_cts, last, sums), (stacked, ys_cts) = state, slices
        names = (*reads.once, *reads.last, *reads.stacked)
        values = dict(zip(names, (*once, *last, *stacked), strict=True))
        read = [values[v] for v in step.invars if v in values]
        results = iter(evaluate(graph, (*read, *carry_cts, *ys_cts)))
        sums = [accumulate(total, next(results)) for total in sums]
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
    iteration = Iteration(producer, dependent_variables(step.eqns, varying))
    terms, available = step.outvars[:num_terms], {*reads.stacked, *ys_cts}
    sums = [iteration.sum(v) for v in terms]
    wait = worthwhile(sums, terms, available, budget)
    late = [s for s in select(wait, sums) if s is not None]
    stacks = dict.fromkeys(v for s in late for v in s.stacked if v not in available)
    return Totals(terms, wait, late, list(stacks))


def _chunk(loop: Loop) -> int:
    """How many iterations to run before what was stacked is summed."""
    fitting = [n for n in range(8, 33) if loop.length % n == 0 and loop.length >= 4 * n]
    chunk = max(fitting, default=loop.length) if loop.unroll == 1 else loop.length
    return max(1, chunk)


def _regrouped(x: Any, shape: tuple[int, ...], axes: int) -> Any:
    """The leading axes in another shape."""
    return lax.reshape(x, (*shape, *x.shape[axes:]))
