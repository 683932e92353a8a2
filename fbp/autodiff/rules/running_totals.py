"""Sums into which parts are written: added to a total in place, without an array of zeros.

A program that returns the cotangent of an array of which it read a part writes into zeros. Where
a sum waits for that cotangent, the program gets the sum and writes into it: the sum over a loop's
iterations of a constant's cotangent, and what has arrived when a jit runs backward.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from jax.extend.core import primitives as p

from fbp.autodiff.dce import dce
from fbp.autodiff.graph import Atom, Graph, JaxprEqn, Literal, Var, one_equation
from fbp.autodiff.rules.indexing import add_block, adds_precisely

STARTS = frozenset({p.scatter_add_p, p.dynamic_update_slice_p})


def into_totals(graph: Graph, terms: Sequence[Atom]) -> tuple[Graph, list[bool]]:
    """Return the program with a further input, its first, for each of its results that is written
    into zeros, to which it adds that result instead, and say which these are."""
    added: list[Var | None] = [None for _ in terms]
    if not any(eqn.primitive in STARTS for eqn in graph.eqns):
        return graph, [False for _ in terms]
    for i, term in enumerate(terms):
        if (start := _start(graph, term)) is not None:
            added[i] = total = Var(term.aval)
            eqns = [_into(e, total) if e is start else e for e in graph.eqns]
            graph = replace(graph, eqns=tuple(eqns))
    totals = tuple(v for v in added if v is not None)
    return dce(replace(graph, invars=(*totals, *graph.invars))), [v is not None for v in added]


def _start(graph: Graph, term: Any) -> JaxprEqn | None:
    """Return the equation that writes the first part of a result into zeros, if all that follows
    adds further parts to it, and nothing else reads it."""
    producer = {v: eqn for eqn in graph.eqns for v in eqn.outvars}
    uses = Counter(v for eqn in graph.eqns for v in eqn.invars if isinstance(v, Var))
    uses.update(v for v in graph.outvars if isinstance(v, Var))
    num_uses = 1
    while isinstance(term, Var) and term in producer and uses[term] == num_uses:
        eqn = producer[term]
        base, array = eqn.invars[0] if eqn.invars else None, cast(Any, term.aval)
        if eqn.primitive is p.scatter_add_p and adds_precisely(array.dtype, eqn.params):
            num_uses = 1
        elif eqn.primitive is p.dynamic_update_slice_p:
            num_uses = 2
        else:
            return None
        if isinstance(base, Var) and _is_zeros(producer.get(base)):
            return eqn
        if num_uses == 2 and not _adds(eqn, producer):
            return None
        term = base
    return None


def _is_zeros(eqn: JaxprEqn | None) -> bool:
    if eqn is None or eqn.primitive is not p.broadcast_in_dim_p:
        return False
    (x,) = eqn.invars
    return isinstance(x, Literal) and bool(np.all(np.asarray(x.val) == 0))


def _adds(eqn: JaxprEqn, producer: Mapping[Any, JaxprEqn]) -> bool:
    """Test whether a block is written that is a sum of what lies there and something else."""
    base, block, *starts = eqn.invars
    total = producer.get(block) if isinstance(block, Var) else None
    if total is None or total.primitive is not p.add_p:
        return False
    before = total.invars[0]
    read = producer.get(before) if isinstance(before, Var) else None
    if read is None or read.primitive is not p.dynamic_slice_p:
        return False
    return read.invars[0] is base and all(map(_is_same, read.invars[1:], starts))


def _is_same(a: Atom, b: Atom) -> bool:
    if isinstance(a, Literal) and isinstance(b, Literal):
        return bool(a.val == b.val)
    return a is b


def _into(start: JaxprEqn, total: Var) -> JaxprEqn:
    """Return the equation that adds its part to a total instead of to zeros."""
    _, *operands = start.invars
    if start.primitive is p.scatter_add_p:
        return start.replace(invars=[total, *operands])

    def run(total: Any, block: Any, *starts: Any) -> Any:
        return add_block(total, block, starts)

    eqn = one_equation("add_in_place", run, [total, *operands], start.outvars)
    return eqn.replace(source_info=start.source_info)
