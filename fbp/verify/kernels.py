"""Pallas kernels as the programs that their interpreter runs, which have derivatives and any
precision."""

from collections.abc import Sequence
from typing import Any

from fbp.autodiff import avals, compat, interpret
from fbp.autodiff import graph as g
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.verify.observe import CALLS, sites

PALLAS_CALL = "pallas_call"


def is_kernel(eqn: JaxprEqn) -> bool:
    """Return whether an equation calls a Pallas kernel."""
    return eqn.primitive.name == PALLAS_CALL


def without_kernels(graph: Graph) -> Graph:
    """Return the same program with its kernels as programs; as it is where it has none, or where
    one cannot be interpreted, as one with primitives of a device of its own."""
    if not any(is_kernel(site.eqn) for site in sites(graph)):
        return graph
    types = [avals.struct(v.aval) for v in graph.invars]
    try:
        return g.stage(lambda *xs: _run(graph, xs), *types)[0]
    except Exception:  # whatever the interpreter raises for a kernel that it does not know
        return graph


def _run(graph: Graph, args: Sequence[Any]) -> list[Any]:
    env = interpret.Environment(graph, args)
    for eqn in graph.eqns:
        ins = env.read(eqn.invars)
        if is_kernel(eqn):
            with interpret.scope(eqn):
                outs = compat.interpret_kernel(eqn, ins)
        elif eqn.primitive in CALLS and any(
            is_kernel(site.eqn) for site in sites(g.body(eqn.params))
        ):
            outs = _run(g.body(eqn.params), ins)
        else:
            outs = interpret.bind(eqn, ins)
        env.write(eqn.outvars, outs)
    return env.results(graph)
