"""Programs as lists of equations: a `Graph`, staged from a function or read from a jaxpr.

The reverse mode reads a Graph, `partition` cuts it in two, and `interpret` evaluates it, equation
by equation, under whatever transformation is in force (jit, vmap, jvp, or none).
"""

import functools
import inspect
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.api_util import debug_info, shaped_abstractify
from jax.extend import source_info_util
from jax.extend.core import (
    ClosedJaxpr,
    JaxprEqn,
    Literal,
    Primitive,
    Var,
    primitives,
)
from jax.extend.linear_util import wrap_init
from jax.interpreters.partial_eval import (
    trace_to_jaxpr_dynamic,
)

from fbp.autodiff.compat import MAKES, TraceRecorder, discharge_state, trace_to_jaxpr

Atom = Var | Literal
USER_FUNCTIONS = frozenset({primitives.custom_jvp_call_p, primitives.custom_vjp_call_p})

source_info_util.register_exclusion(str(Path(__file__).parent))


@dataclass(frozen=True, eq=False)
class Graph:
    """A program: equations from `invars` (and constants) to `outvars`."""

    invars: tuple[Var, ...]
    outvars: tuple[Atom, ...]
    eqns: tuple[JaxprEqn, ...]
    constvars: tuple[Var, ...] = ()
    consts: tuple[Any, ...] = ()


def stage(fun: Callable, *args: Any, recording: TraceRecorder | None = None) -> tuple[Graph, Any]:
    """Trace `fun` to a Graph over the leaves of `args`, and return it with its output tree's types.

    Does what `jax.make_jaxpr` does, which prepares a jit first and so takes ten times as long. A
    `recording` answers when Python asks for a value.
    """
    leaves, in_tree = jax.tree.flatten(args)
    out_tree = None

    def flat(*leaves):
        nonlocal out_tree
        outs, out_tree = jax.tree.flatten(fun(*jax.tree.unflatten(in_tree, leaves)))
        return outs

    names = tuple(f"leaf {i}" for i in range(len(leaves)))
    named = debug_info("fbp", fun, (), {}, signature=inspect.Signature())
    traced = wrap_init(flat, debug_info=named._replace(arg_names=names))
    avals = [*map(shaped_abstractify, leaves)]
    if recording is None:
        jaxpr, _, consts = trace_to_jaxpr_dynamic(traced, avals)
    else:
        jaxpr, consts = trace_to_jaxpr(traced, avals, recording)
    out_avals = [v.aval for v in jaxpr.outvars]
    return from_jaxpr_and_consts(jaxpr, consts), jax.tree.unflatten(out_tree, out_avals)


def weakref_cache(function: Callable) -> Callable:
    """Cache the results of `function(program, *options)` while the program lives."""
    by_program: Any = weakref.WeakKeyDictionary()

    @functools.wraps(function)
    def call(program: Any, *options: Any) -> Any:
        if program not in by_program:
            alive = weakref.ref(program)
            by_program[program] = functools.lru_cache(maxsize=64)(
                lambda *options: function(alive(), *options)
            )
        return by_program[program](*options)

    return call


@weakref_cache
def from_jaxpr(jaxpr: Any) -> Graph:
    """Read a jaxpr, closed or open; the same jaxpr gives the same Graph."""
    return from_jaxpr_and_consts(jaxpr, getattr(jaxpr, "consts", ()))


def holds_program(eqn: JaxprEqn) -> bool:
    """Test whether one of an equation's parameters is a program, or holds one."""

    def is_program(param: Any) -> bool:
        if isinstance(param, tuple | list):
            return any(map(is_program, param))
        return hasattr(param, "eqns") or hasattr(param, "jaxpr")

    return any(map(is_program, eqn.params.values()))


def body(params: dict[str, Any]) -> Graph:
    """Return the program that a call-like equation holds."""
    return from_jaxpr(
        next(params[name] for name in ("jaxpr", "call_jaxpr", "call") if name in params)
    )


def from_jaxpr_and_consts(jaxpr: Any, consts: Sequence[Any]) -> Graph:
    """Read a jaxpr together with the values of its constants, which since JAX 0.11 may be its first
    inputs."""
    if any(eqn.primitive in MAKES for eqn in jaxpr.eqns):
        jaxpr = discharge_refs(jaxpr, consts)
        consts = jaxpr.consts
    first = len(consts) - len(jaxpr.constvars)
    return Graph(
        tuple(jaxpr.invars[first:]),
        tuple(jaxpr.outvars),
        tuple(jaxpr.eqns),
        (*jaxpr.constvars, *jaxpr.invars[:first]),
        tuple(consts),
    )


def discharge_refs(jaxpr: Any, consts: Sequence[Any] = (), discharge: bool = False) -> Any:
    """Replace the mutable arrays that a program creates by values and close the program; on demand
    also those that it receives, whose last values become further outputs."""
    closed = jaxpr if hasattr(jaxpr, "consts") else ClosedJaxpr(jaxpr, consts)
    return discharge_state(closed, should_discharge=discharge, lower=False)


def hoist_consts(graph: Graph) -> Graph:
    """Return the same program with its constants as leading inputs."""
    return Graph((*graph.constvars, *graph.invars), graph.outvars, graph.eqns)


def holding(graph: Graph, like: Any) -> Any:
    """Return the jaxpr of a program without constants, closed or open as `like` is."""
    open_like = getattr(like, "jaxpr", like)
    jaxpr = open_like.replace(
        constvars=[],
        invars=list(graph.invars),
        outvars=list(graph.outvars),
        eqns=list(graph.eqns),
        effects=frozenset().union(*(e.effects for e in graph.eqns)),
        debug_info=open_like.debug_info._replace(
            arg_names=("",) * len(graph.invars), result_paths=("",) * len(graph.outvars)
        ),
        is_high=any(map(is_high, graph.eqns)),
    )
    return jaxpr if open_like is like else like.replace(jaxpr=jaxpr, consts=[])


def in_one_equation(graph: Graph, like: Callable, *args: Any) -> Graph:
    """Return a program of one equation that holds `graph`: the equation that `like(*args)` stages,
    with other operands, results and body. Parameters by operand are still those of `like`."""
    (eqn,) = stage(like, *args)[0].eqns
    inner = hoist_consts(graph)
    body = holding(inner, eqn.params["jaxpr"])
    invars: list[Any] = [Var(v.aval) for v in inner.invars]
    outvars: list[Any] = [Var(v.aval) for v in inner.outvars]
    held = eqn.replace(
        invars=invars, outvars=outvars, params=eqn.params | {"jaxpr": body}, effects=body.effects
    )
    num_consts = len(graph.constvars)
    return Graph(
        tuple(invars[num_consts:]),
        tuple(outvars),
        (held,),
        tuple(invars[:num_consts]),
        graph.consts,
    )


def one_equation(
    name: str, fun: Callable, invars: Sequence[Any], outvars: Sequence[Any]
) -> JaxprEqn:
    """Stage a function as one equation, a jit of this name, of these operands and results."""

    def named(*args):
        return fun(*args)

    named.__name__ = name
    (eqn,) = stage(jax.jit(named), *(v.aval for v in invars))[0].eqns
    return eqn.replace(invars=list(invars), outvars=list(outvars))


def is_high(eqn: JaxprEqn) -> bool:
    """Test whether an equation is, or holds, a HiPrimitive, which is lowered before it runs."""
    return _may_be_high(eqn.primitive) and eqn.primitive.is_high(
        *(a.aval for a in eqn.invars), **eqn.params
    )


@functools.cache
def _may_be_high(primitive: Primitive) -> bool:
    return getattr(primitive.is_high, "__func__", None) is not Primitive.is_high


def source(eqn: JaxprEqn) -> str:
    """Return `file:line (function)` of the user's code behind an equation; empty if there is
    none."""
    return source_info_util.summarize(eqn.source_info)


def location(eqn: JaxprEqn) -> str:
    """Return the same for a message, with words where no line of the user's is known."""
    return source(eqn) or "a line of a library"


def variables(*atoms: Iterable[Atom]) -> set[Var]:
    """Return the variables among atoms."""
    return {a for group in atoms for a in group if isinstance(a, Var)}


def primitive_of(fun: Callable, *args: Any) -> Primitive:
    """Return the primitive of a one-equation function, for primitives without a public name."""
    (eqn,) = stage(fun, *args)[0].eqns
    return eqn.primitive


# User rules: custom_jvp and custom_vjp hide them behind traced thunks, which differ from the
# equations' other parameters in that they are called, not read.


__all__ = ["Atom", "Graph", "JaxprEqn", "Literal", "Primitive", "Var"]
