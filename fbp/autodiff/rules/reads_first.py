"""Arrays that a loop carries and changes in part: read before they are written, so that no
iteration copies them.

XLA writes to a carried array in place if whatever reads it before is done by then. Its fusions
compute a read again wherever its value is used, in parts of an iteration that nothing orders
before the write, and then each iteration copies the array (XLA for the CPU drops the barriers
that would forbid it). Such reads are hidden in a branch that is always taken; an operand of the
write passes through it where none depends on the read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.avals import num_bytes
from fbp.autodiff.graph import Atom, Graph, JaxprEqn, Var, one_equation, variables
from fbp.autodiff.interpret import eval_graph
from fbp.autodiff.rules.indexing import is_part
from fbp.autodiff.rules.remat import barrier, hidden

SCATTERS = (
    *(p.scatter_p, p.scatter_add_p, lax.scatter_sub_p),
    *(p.scatter_mul_p, p.scatter_min_p, p.scatter_max_p),
)
WRITES = {p.dynamic_update_slice_p: 1} | dict.fromkeys(SCATTERS, 2)
"""By the primitive that changes a part of its first operand: which operand it writes."""
READS = frozenset({p.slice_p, p.dynamic_slice_p, p.gather_p})
SMALLEST = 4096
"""The bytes of an array from which on a copy takes longer than a branch."""


def reads_first(graph: Graph, next_of: Mapping[Var, Atom]) -> Graph:
    """Return an iteration that reads the carried arrays which it changes in part before it changes
    them: `next_of` says what becomes of each."""
    if not any(eqn.primitive in WRITES for eqn in graph.eqns):
        return graph
    for carried, final in next_of.items():
        chain = _writes(graph, carried, final)
        if chain and num_bytes(carried.aval) >= SMALLEST:
            graph = _ordered(graph, chain)
    return graph


def _writes(graph: Graph, carried: Var, final: Atom) -> list[JaxprEqn]:
    """Return the equations that make the last version of an array of the first one, each of which
    changes a part of it; none if others do."""
    producer = {v: eqn for eqn in graph.eqns for v in eqn.outvars}
    chain: list[JaxprEqn] = []
    version = final
    while version is not carried:
        eqn = producer.get(version) if isinstance(version, Var) else None
        if eqn is None or eqn.primitive not in WRITES:
            return []
        block: Any = eqn.invars[WRITES[eqn.primitive]].aval
        if not is_part(block, carried.aval):
            return []
        chain.append(eqn)
        version = eqn.invars[0]
    return chain[::-1]


def _ordered(graph: Graph, chain: Sequence[JaxprEqn]) -> Graph:
    """Return the program in which each write waits for the reads of what it changes."""
    for write in chain:
        version = write.invars[0]
        users = [e for e in graph.eqns if e is not write and version in variables(e.invars)]
        if version in graph.outvars or not all(_is_read(e, version) for e in users):
            return graph
        before = _ancestors(graph, write)
        escaping = [eqn for eqn in users if _escapes(graph, eqn, write, before)]
        graph = _hidden(graph, [eqn for eqn in escaping if id(eqn) in before])
        for read in escaping:
            if id(read) not in before:
                graph, write = _passing(graph, write, read)
    return graph


def _is_read(eqn: JaxprEqn, x: Atom) -> bool:
    return eqn.primitive in READS and eqn.invars[0] is x and x not in eqn.invars[1:]


def _ancestors(graph: Graph, eqn: JaxprEqn) -> set[int]:
    """Return the identities of the equations that compute what an equation reads."""
    read, before = variables(eqn.invars), set()
    for other in reversed(graph.eqns):
        if not read.isdisjoint(other.outvars):
            before.add(id(other))
            read |= variables(other.invars)
    return before


def _escapes(graph: Graph, read: JaxprEqn, write: JaxprEqn, before: set[int]) -> bool:
    """Test whether what is read goes where the write does not wait for it."""
    reached = {*read.outvars}
    for eqn in graph.eqns:
        if eqn is not write and not reached.isdisjoint(variables(eqn.invars)):
            if id(eqn) not in before:
                return True
            reached.update(eqn.outvars)
    return not reached.isdisjoint(variables(graph.outvars))


def _hidden(graph: Graph, reads: Sequence[JaxprEqn]) -> Graph:
    """Hide reads that the write waits for."""
    hides = {id(eqn) for eqn in reads}
    eqns = (_in_branch(e) if id(e) in hides else e for e in graph.eqns)
    return replace(graph, eqns=tuple(eqns)) if reads else graph


def _passing(graph: Graph, write: JaxprEqn, read: JaxprEqn) -> tuple[Graph, JaxprEqn]:
    """Hide a read together with an operand of the write, so that the write waits for it."""
    chosen = [v for v in write.invars[:0:-1] if isinstance(v, Var) and v is not write.invars[0]]
    if not chosen or any(eqn.effects for eqn in graph.eqns):
        return graph, write
    operand = chosen[0]
    passed = Var(operand.aval)
    operands: list[Any] = [passed if v is operand else v for v in write.invars]
    after = write.replace(invars=operands)
    changed = {id(write): after, id(read): _in_branch(read, {operand: passed})}
    eqns = tuple(changed.get(id(eqn), eqn) for eqn in graph.eqns)
    return _sorted(replace(graph, eqns=eqns)), after


def _sorted(graph: Graph) -> Graph:
    """Return the program with each equation after those that compute what it reads."""
    later = {v for eqn in graph.eqns for v in eqn.outvars}
    waiting, eqns = list(graph.eqns), []
    while waiting:
        again = []
        for eqn in waiting:
            if later.isdisjoint(variables(eqn.invars)):
                eqns.append(eqn)
                later.difference_update(eqn.outvars)
            else:
                again.append(eqn)
        waiting = again
    return replace(graph, eqns=tuple(eqns))


def _in_branch(read: JaxprEqn, passed: Mapping[Var, Var] = MappingProxyType({})) -> JaxprEqn:
    """Return an equation for a read, within a branch on a CPU and before a barrier elsewhere; what
    is `passed` gets another name."""
    operands = (v for v in read.invars if isinstance(v, Var))
    invars = tuple(dict.fromkeys((*operands, *passed)))
    half = Graph(invars, (*read.outvars, *passed), (read,))

    def run(*args: Any) -> list[Any]:
        return lax.platform_dependent(
            *args,
            cpu=lambda *xs: hidden(half, xs),
            default=lambda *xs: barrier(eval_graph(half, xs)),
        )

    eqn = one_equation("reads_first", run, invars, [*read.outvars, *passed.values()])
    return eqn.replace(source_info=read.source_info)
