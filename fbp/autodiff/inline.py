"""Inline jits: replace the equation of a jit by the equations of its body.

Within the body of a loop a jit has no effect: the body is compiled as one. Inlined, its equations
can be told apart: those that are the same in each iteration, those that are cheap to compute
again, those that are sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.graph import Atom, Graph, JaxprEqn, Var


@dataclass
class _Inlined:
    """The equations so far, the substitutes of the variables of the programs that they come from,
    and the constants of these."""

    eqns: list[JaxprEqn]
    atoms: dict[Var, Atom]
    constants: dict[Var, Any]

    def read(self, atoms: Sequence[Atom]) -> list[Atom]:
        """Substitute the variables among atoms."""
        return [self.atoms.get(a, a) if isinstance(a, Var) else a for a in atoms]

    def add(self, eqns: Sequence[JaxprEqn], within: JaxprEqn | None) -> None:
        """Add equations, those of a jit with fresh variables."""
        for eqn in eqns:
            eqn = eqn.replace(invars=self.read(eqn.invars))
            if within is not None and len(within.source_info.name_stack):
                around, here = within.source_info.name_stack, eqn.source_info
                eqn = eqn.replace(source_info=here.replace(name_stack=around + here.name_stack))
            if _is_plain_jit(eqn):
                body = g.body(eqn.params)
                self.atoms.update(zip(body.invars, eqn.invars, strict=True))
                for v, value in zip(body.constvars, body.consts, strict=True):
                    self.atoms[v] = constant = Var(v.aval)
                    self.constants[constant] = value
                self.add(body.eqns, eqn)
                self.atoms.update(zip(eqn.outvars, self.read(body.outvars), strict=True))
            elif within is None:
                self.eqns.append(eqn)
            else:
                outvars = [Var(v.aval) for v in eqn.outvars]
                self.atoms.update(zip(eqn.outvars, outvars, strict=True))
                self.eqns.append(eqn.replace(outvars=outvars))


def inlined(graph: Graph) -> Graph:
    """Return the same program without jits, except those that state where their operands lie or how
    they are compiled."""
    if not any(_is_plain_jit(eqn) for eqn in graph.eqns):
        return graph
    new_eqns = _Inlined([], {}, {})
    new_eqns.add(graph.eqns, None)
    return replace(
        graph,
        outvars=tuple(new_eqns.read(graph.outvars)),
        eqns=tuple(new_eqns.eqns),
        constvars=(*graph.constvars, *new_eqns.constants),
        consts=(*graph.consts, *new_eqns.constants.values()),
    )


def _is_plain_jit(eqn: JaxprEqn) -> bool:
    """Test whether an equation is a jit that asks for nothing but to be compiled."""
    if eqn.primitive is not p.jit_p or eqn.ctx.compute_type or eqn.ctx.xla_metadata:
        return False
    return all(
        value == PLAIN[key] or (isinstance(value, tuple) and {*value} <= {*PLAIN[key]})
        for key, value in eqn.params.items()
        if key not in ("jaxpr", "name", "ctx_mesh", "keep_unused", "inline")
    )


PLAIN = g.stage(jax.jit(lambda x: x), 0.0)[0].eqns[0].params
