"""Recomputation of what was not stored: of whole equations, or of the remaining part of an equation
that holds programs if some of its outputs, or some values of its programs, were stored.

Prints, checks and other equations with an effect and no output are not run again.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.avals import struct
from fbp.autodiff.compat import scan_counts
from fbp.autodiff.graph import Graph, JaxprEqn, Var, variables
from fbp.autodiff.interpret import eval_graph
from fbp.autodiff.restage import Body, Site, bodies, carried, restage


def rematerialized(
    eqns: Sequence[JaxprEqn], read: set[Var], available: set[Var]
) -> tuple[list[JaxprEqn], set[Var]]:
    """Return the equations to run again to compute `read` from what is available, and all variables
    that are read."""
    read, again = set(read), []
    copies = {eqn.invars[0]: eqn for eqn in eqns if is_copy(eqn) and eqn.outvars[0] in available}
    for eqn in reversed(eqns):
        if any(v in read and v not in available for v in eqn.outvars):
            eqn = rest(eqn, read, available, copies)
            read |= variables(eqn.invars)
            again.append(eqn)
    return again[::-1], read


def rest(
    eqn: JaxprEqn, read: set[Var], available: set[Var], copies: dict[Any, JaxprEqn]
) -> JaxprEqn:
    """Return an equation for those outputs of an equation that are read and not available."""
    if len(eqn.outvars) == 1 and eqn.outvars[0] in copies:
        return copied_back(copies[eqn.outvars[0]])
    known = {v for v in eqn.outvars if v in available}
    if eqn.primitive not in PARTIAL or not (known or eqn.effects):
        return eqn
    return PARTIAL[eqn.primitive](eqn, known, read)


def is_copy(eqn: JaxprEqn) -> bool:
    """Test whether an equation moves a value to another memory."""
    return eqn.primitive is p.device_put_p and len(eqn.invars) == 1


def copied_back(eqn: JaxprEqn) -> JaxprEqn:
    """Return an equation that moves a value back to the memory that it came from."""
    (value,), (copy,) = eqn.invars, eqn.outvars
    memory: Any = struct(value.aval).memory_space
    return g.one_equation(NAME, lambda x: jax.device_put(x, memory), [copy], [value])


def repeatable(eqn: JaxprEqn) -> bool:
    """Test whether an equation can run again without its effects."""
    return not eqn.effects or (
        eqn.primitive in PARTIAL
        and all(not e.outvars or repeatable(e) for body in body_graphs(eqn) for e in body.eqns)
    )


def body_graphs(eqn: JaxprEqn) -> list[Graph]:
    """Return the programs that a jit, scan or cond holds."""
    return [body.graph for body in bodies(Site((0,), eqn))]


def body_outputs(eqn: JaxprEqn) -> Iterator[tuple[Var, tuple[Any, ...]]]:
    """Yield the outputs that hold what a body computed unchanged, with its names in each body."""
    first = scan_counts(eqn.params)[1] if eqn.primitive is p.scan_p else 0
    by_body = [body.outvars[first:] for body in body_graphs(eqn)]
    yield from zip(eqn.outvars[first:], zip(*by_body, strict=True), strict=True)


def _remaining(body: Graph, known_values: Sequence[Any], results: Sequence[Any]) -> Graph:
    """Return the program that computes `results` from its inputs and the known values."""
    inputs = {*body.invars, *body.constvars}
    defined = {v for eqn in body.eqns for v in eqn.outvars}
    eqns, _ = rematerialized(
        body.eqns, variables(results), inputs | (defined & variables(known_values))
    )
    names: list[Any] = [
        v if isinstance(v, Var) and v in defined else Unread() for v in known_values
    ]
    return Graph((*body.invars, *names), tuple(results), tuple(eqns), body.constvars, body.consts)


class Unread:
    """A name for a value that nothing reads."""


def _rest(eqn: JaxprEqn, known: set[Var], read: set[Var]) -> JaxprEqn:
    """Return the same jit, scan or cond with bodies that read what is known, and return the states
    of a scan and what else is read."""
    if eqn.params.get("branches_platforms") is not None:
        return eqn
    known_values, needs_ct, names, results = _parted(eqn, known, read)
    site, num_ins = Site((0,), eqn), len(eqn.invars)
    programs = bodies(site)
    num_carry = len(carried(programs[0]))
    remaining = {
        body.around.key: _remaining(
            body.graph,
            [v[i] for v in names],
            (*body.graph.outvars[:num_carry], *(v[i] for v in results)),
        )
        for i, body in enumerate(programs)
    }

    def body_of(body: Body, ins: Sequence[Any], _: Any, parts: Any) -> tuple[list[Any], tuple]:
        return eval_graph(remaining[body.around.key], (*ins, *parts)), ()

    def run(*args: Any) -> list[Any]:
        ins, parts = args[:num_ins], list(args[num_ins:])
        if eqn.primitive is p.jit_p:  # in the jit that holds what is run again
            return body_of(programs[0], ins, (), parts)[0]
        return restage(site, ins, body_of, parts=parts)[0]

    outvars = (*eqn.outvars[:num_carry], *needs_ct)
    return g.one_equation(NAME, run, (*eqn.invars, *known_values), outvars)


def _parted(eqn: JaxprEqn, known: set[Var], read: set[Var]) -> tuple[list, list, list, list]:
    """Return the known outputs, those to compute, and the names of both in the bodies."""
    entries = list(body_outputs(eqn))
    known_values = {out: names for out, names in entries if out in known}
    needs_ct = {out: names for out, names in entries if out in read and out not in known}
    return list(known_values), list(needs_ct), list(known_values.values()), list(needs_ct.values())


NAME = "rematerialized"
"""How a jit of what is computed again is called."""

PARTIAL = {p.jit_p: _rest, p.scan_p: _rest, p.cond_p: _rest}
