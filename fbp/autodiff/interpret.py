"""The interpreter: run a program equation by equation, under whatever transformation is in
force."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
from jax.extend import source_info_util
from jax.extend.core import (
    JaxprEqn,
    Literal,
    Var,
    find_top_trace,
)
from jax.interpreters.partial_eval import DynamicJaxprTracer

from fbp.autodiff.avals import as_array
from fbp.autodiff.graph import USER_FUNCTIONS, Atom, Graph, is_high
from fbp.autodiff.undefined import is_undefined, undefined


def eval_graph(graph: Graph, args: Iterable[Any]) -> list[Any]:
    """Run the program forward."""
    return evaluated(graph, args).results(graph)


def evaluated(graph: Graph, args: Iterable[Any]) -> "Environment":
    """Run the program forward, and return the values of its variables."""
    env = Environment(graph, args)
    for eqn in graph.eqns:
        env.write(eqn.outvars, bind(eqn, env.read(eqn.invars)))
    return env


class Environment:
    """The values of a program's variables during one evaluation."""

    def __init__(self, graph: Graph, args: Iterable[Any]):
        self.values = dict(zip(graph.constvars, graph.consts, strict=True))
        self.write(graph.invars, args)

    def read(self, atoms: Iterable[Atom]) -> list[Any]:
        """Return the values of variables and literals."""
        values = self.values
        return [a.val if isinstance(a, Literal) else values[a] for a in atoms]

    def results(self, graph: Graph) -> list[Any]:
        """Return the values of the outputs as arrays: Python's numbers have no shape or dtype."""
        return [as_array(x) for x in self.read(graph.outvars)]

    def write(self, variables: Iterable[Var], values: Iterable[Any]) -> None:
        """Record the values of variables."""
        self.values.update(zip(variables, values, strict=True))


def bind(eqn: JaxprEqn, args: Sequence[Any]) -> list[Any]:
    """Apply one equation's primitive to values, within the equation's scope."""
    emitted = emit(eqn, args, _source_within(eqn))
    if emitted is not None:
        return emitted
    with eqn_scope(eqn):
        return apply_primitive(eqn, args)


def apply_primitive(eqn: JaxprEqn, args: Sequence[Any]) -> list[Any]:
    """Apply one equation's primitive to values; outputs of linear inputs are linear."""
    if any(map(is_undefined, args)):
        return undefined(eqn.outvars)
    emitted = emit(eqn, args, source_info_util.current())
    if emitted is not None:
        return emitted
    if eqn.primitive in USER_FUNCTIONS:  # whose functions may hand on what they get
        args = [as_array(x) for x in args]
    out = eqn.primitive.bind(*args, **eqn.primitive.get_bind_params(eqn.params))
    return list(out) if eqn.primitive.multiple_results else [out]


def emit(eqn: JaxprEqn, args: Sequence[Any], source_info: Any) -> list[Any] | None:
    """Append the equation unchanged to the jaxpr that is being traced, if its types fit.

    `Primitive.bind` would derive the output's types again, and trace user rules again.
    """
    trace: Any = find_top_trace(args)
    if eqn.effects or not any(_traced_by(trace, x) for x in args):
        return None
    tracers = []
    for atom, x in zip(eqn.invars, args, strict=True):
        if isinstance(atom, Literal):
            tracers.append(DynamicJaxprTracer(trace, atom.aval, atom, source_info))
        elif _traced_by(trace, x) and (x.aval is atom.aval or x.aval == atom.aval):
            tracers.append(x)
        elif isinstance(x, jax.Array) and jax.typeof(x) == atom.aval:
            tracers.append(trace.to_jaxpr_tracer(x, source_info))
        else:
            return None
    if is_high(eqn):
        return None
    out_avals = [v.aval for v in eqn.outvars]
    return trace.emit_eqn(
        tracers, out_avals, eqn.primitive, eqn.params, eqn.effects, source_info, eqn.ctx
    )


def _traced_by(trace: Any, x: Any) -> bool:
    return isinstance(x, DynamicJaxprTracer) and x._trace is trace


def _source_within(eqn: JaxprEqn) -> Any:
    """Return the equation's source line, and its named scopes within those in force."""
    around, here = source_info_util.current_name_stack(), eqn.source_info
    return here.replace(name_stack=around + here.name_stack) if len(around) else here


class eqn_scope:
    """Give everything bound inside the equation's source line, named scopes and context."""

    __slots__ = ("context", "line")

    def __init__(self, eqn: JaxprEqn, within: str = ""):
        source = _source_within(eqn)
        stack = source.name_stack.extend(within) if within else source.name_stack
        self.line = source_info_util.user_context(source.traceback, name_stack=stack)
        self.context = eqn.ctx.manager

    def __enter__(self):
        self.line.__enter__()
        self.context.__enter__()

    def __exit__(self, *exception: Any):
        self.context.__exit__(*exception)
        return self.line.__exit__(*exception)
