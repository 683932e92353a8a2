"""Dead code elimination: drop the equations that nothing reads."""

from collections.abc import Sequence
from dataclasses import replace

import jax
from jax.extend.core import (
    JaxprEqn,
    Var,
)
from jax.interpreters.partial_eval import dce_jaxpr

from fbp.autodiff.avals import struct
from fbp.autodiff.graph import Graph, from_jaxpr_and_consts, holding, stage, variables
from fbp.autodiff.interpret import eval_graph


def without_dead_code(eqn: JaxprEqn, used: Sequence[bool]) -> JaxprEqn:
    """Return the equation without its unused outputs and without what only they need, also in the
    programs that it holds; the equation itself where JAX cannot take it apart."""
    empty = jax.make_jaxpr(tuple)().jaxpr
    invars = tuple(dict.fromkeys(v for v in eqn.invars if isinstance(v, Var)))
    program = holding(Graph(invars, tuple(eqn.outvars), (eqn,)), empty)
    eqns = dce_jaxpr(program, list(used))[0].eqns
    return eqns[0] if eqns else eqn.replace(invars=[], outvars=[])


def read_by(graph: Graph) -> set[Var]:
    """Return the variables that a program's equations or results read."""
    return variables(*(eqn.invars for eqn in graph.eqns), graph.outvars)


def dce(graph: Graph) -> Graph:
    """Drop the equations whose outputs nothing reads and that have no effect."""
    needed = variables(graph.outvars)
    eqns = []
    for eqn in reversed(graph.eqns):
        if eqn.effects or not needed.isdisjoint(eqn.outvars):
            eqn = _as_read(eqn, needed)
            needed |= variables(eqn.invars)
            eqns.append(eqn)
    return replace(graph, eqns=tuple(reversed(eqns)))


def _as_read(eqn: JaxprEqn, read: set[Var]) -> JaxprEqn:
    """Replace the fwd of a custom_vjp function by the function itself if nothing reads its
    residuals and the user allows it (`optimize_remat`)."""
    params = eqn.params
    if "fun_jaxpr_thunk" not in params or not read.isdisjoint(eqn.outvars[: params["num_res"]]):
        return eqn
    primal = from_jaxpr_and_consts(*params["fun_jaxpr_thunk"]())
    invars, outvars = eqn.invars[params["num_consts"] :], eqn.outvars[params["num_res"] :]
    avals = [struct(v.aval) for v in invars]
    (call,) = stage(jax.jit(lambda *args: eval_graph(primal, args)), *avals)[0].eqns
    return call.replace(invars=invars, outvars=outvars, source_info=eqn.source_info)
