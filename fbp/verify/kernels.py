"""Pallas kernels as the programs that their interpreter runs, which have derivatives and any
precision."""

from fbp.autodiff import avals, compat
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.verify.rewrite import rewritten

PALLAS_CALL = "pallas_call"


def is_kernel(eqn: JaxprEqn) -> bool:
    """Return whether an equation calls a Pallas kernel."""
    return eqn.primitive.name == PALLAS_CALL


def without_kernels(graph: Graph) -> Graph:
    """Return the same program with its kernels as programs; as it is where it has none, or where
    one cannot be interpreted, as one with primitives of a device of its own."""
    types = [avals.struct(v.aval) for v in graph.invars]
    try:
        return rewritten(graph, is_kernel, compat.interpret_kernel, types)
    except Exception:  # whatever the interpreter raises for a kernel that it does not know
        return graph
