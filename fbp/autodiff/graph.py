"""The one door into JAX's program representation; what differs between JAX versions lives here.

A `Graph` is a program as a list of equations. It is staged from a function as JAX's own jaxprs
are, read by the reverse mode, cut in two by `partition`, and evaluated again, equation by
equation, under whatever transformation is in force (jit, vmap, jvp, or none).
"""

import functools
import inspect
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.core import (  # no public names, nor have the next two
    empty_ref_p,
    get_axis_env,
    ref_p,
)
from jax._src.hijax import call_hi_primitive_p
from jax._src.interpreters.ad import NullAccum, ValAccum  # public since JAX 0.11
from jax._src.lax.lax import from_edtype_p, to_edtype_p  # no public names
from jax._src.state.discharge import discharge_state, run_state_p
from jax._src.state.primitives import addupdate_p
from jax.api_util import debug_info, shaped_abstractify
from jax.core import ShapedArray
from jax.custom_derivatives import SymbolicZero
from jax.extend import source_info_util
from jax.extend.core import (
    ClosedJaxpr,
    JaxprEqn,
    Literal,
    Primitive,
    Var,
    find_top_trace,
    primitives,
)
from jax.extend.linear_util import wrap_init
from jax.interpreters import ad
from jax.interpreters.partial_eval import (
    DynamicJaxprTracer,
    dce_jaxpr,
    trace_to_jaxpr_dynamic,
)
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fbp.autodiff.undefined import is_undefined, undefined

Atom = Var | Literal
USER_FUNCTIONS = frozenset({primitives.custom_jvp_call_p, primitives.custom_vjp_call_p})
MAKES = frozenset({ref_p, empty_ref_p})
WRITES = frozenset({primitives.swap_p, addupdate_p})

source_info_util.register_exclusion(str(Path(__file__).parent))


@dataclass(frozen=True, eq=False)
class Graph:
    """A program: equations from `invars` (and constants) to `outvars`."""

    invars: tuple[Var, ...]
    outvars: tuple[Atom, ...]
    eqns: tuple[JaxprEqn, ...]
    constvars: tuple[Var, ...] = ()
    consts: tuple[Any, ...] = ()


def stage(fun: Callable, *args: Any) -> tuple[Graph, Any]:
    """Trace `fun` to a Graph over the leaves of `args`; also the types of its output tree.

    As `jax.make_jaxpr` does, but it prepares a jit first, which takes ten times as long as this.
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
    jaxpr, out_avals, consts = trace_to_jaxpr_dynamic(traced, [*map(shaped_abstractify, leaves)])
    return open_graph(jaxpr, consts), jax.tree.unflatten(out_tree, out_avals)


def remembered(function: Callable) -> Callable:
    """Remember the results of `function(program, *options)` while the program lives."""
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


@remembered
def from_jaxpr(jaxpr: Any) -> Graph:
    """Read a jaxpr, closed or open; the same jaxpr gives the same Graph."""
    return open_graph(jaxpr, getattr(jaxpr, "consts", ()))


def holds_program(eqn: JaxprEqn) -> bool:
    """Whether one of an equation's parameters is a program, or a group of programs."""
    values = eqn.params.values()
    return any(
        hasattr(x, "eqns") for v in values for x in (v if isinstance(v, tuple | list) else (v,))
    )


def body(params: dict[str, Any]) -> Graph:
    """The program that a call-like equation holds."""
    return from_jaxpr(
        next(params[name] for name in ("jaxpr", "call_jaxpr", "call") if name in params)
    )


def open_graph(jaxpr: Any, consts: Sequence[Any]) -> Graph:
    """Read a jaxpr together with the values of its constants: since JAX 0.11 these may be its
    first inputs."""
    if any(eqn.primitive in MAKES for eqn in jaxpr.eqns):
        jaxpr = without_refs(jaxpr, consts)
        consts = jaxpr.consts
    first = len(consts) - len(jaxpr.constvars)
    return Graph(
        tuple(jaxpr.invars[first:]),
        tuple(jaxpr.outvars),
        tuple(jaxpr.eqns),
        (*jaxpr.constvars, *jaxpr.invars[:first]),
        tuple(consts),
    )


def without_refs(jaxpr: Any, consts: Sequence[Any] = (), discharge: bool = False) -> Any:
    """The same program, closed, with values in the place of the mutable arrays that it makes,
    and, on demand, in the place of those that it gets: their last values are more outputs."""
    closed = jaxpr if hasattr(jaxpr, "consts") else ClosedJaxpr(jaxpr, consts)
    return discharge_state(closed, should_discharge=discharge, lower=False)


def close(graph: Graph) -> Graph:
    """The same program with its constants as leading inputs."""
    return Graph((*graph.constvars, *graph.invars), graph.outvars, graph.eqns)


def holding(graph: Graph, like: Any) -> Any:
    """The jaxpr of a program without constants, closed or open as `like` is."""
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
        is_high=any(map(_is_high, graph.eqns)),
    )
    return jaxpr if open_like is like else like.replace(jaxpr=jaxpr, consts=[])


def in_one_equation(graph: Graph, like: Callable, *args: Any) -> Graph:
    """A program of one equation that holds `graph`: the equation that `like(*args)` stages, with
    other operands, results and body. Its parameters by operand are still those of `like`."""
    (eqn,) = stage(like, *args)[0].eqns
    inner = close(graph)
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


def without_dead_code(eqn: JaxprEqn, used: Sequence[bool]) -> JaxprEqn:
    """The same equation without the outputs that are not used and without what only they need,
    also in the programs that it holds; where JAX cannot take it apart, the equation itself."""
    empty = jax.make_jaxpr(tuple)().jaxpr
    invars = tuple(dict.fromkeys(v for v in eqn.invars if isinstance(v, Var)))
    program = holding(Graph(invars, tuple(eqn.outvars), (eqn,)), empty)
    eqns = dce_jaxpr(program, list(used))[0].eqns
    return eqns[0] if eqns else eqn.replace(invars=[], outvars=[])


def evaluate(graph: Graph, args: Iterable[Any]) -> list[Any]:
    """Run the program forward."""
    env = Environment(graph, args)
    for eqn in graph.eqns:
        env.write(eqn.outvars, bind(eqn, env.read(eqn.invars)))
    return env.results(graph)


class Environment:
    """The values of a program's variables during one evaluation."""

    def __init__(self, graph: Graph, args: Iterable[Any]):
        self.values = dict(zip(graph.constvars, graph.consts, strict=True))
        self.write(graph.invars, args)

    def read(self, atoms: Iterable[Atom]) -> list[Any]:
        """The values of variables and literals."""
        values = self.values
        return [a.val if isinstance(a, Literal) else values[a] for a in atoms]

    def results(self, graph: Graph) -> list[Any]:
        """The values of the outputs, each an array: Python's numbers have no shape or dtype."""
        return [as_array(x) for x in self.read(graph.outvars)]

    def write(self, variables: Iterable[Var], values: Iterable[Any]) -> None:
        """Record the values of variables."""
        self.values.update(zip(variables, values, strict=True))


def as_array(x: Any) -> Any:
    """A number, such as a literal of a program, as an array; anything else as it is."""
    return x if hasattr(x, "shape") else jnp.asarray(x)


def bind(eqn: JaxprEqn, args: Sequence[Any]) -> list[Any]:
    """Apply one equation's primitive to values, within the equation's scope."""
    emitted = emit(eqn, args, _source_within(eqn))
    if emitted is not None:
        return emitted
    with scope(eqn):
        return apply_primitive(eqn, args)


def apply_primitive(eqn: JaxprEqn, args: Sequence[Any]) -> list[Any]:
    """Apply one equation's primitive to values; linear inputs make linear outputs."""
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
    """Within a trace to a jaxpr, write the equation down as it stands, if its types fit.

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
    if _is_high(eqn):
        return None
    out_avals = [v.aval for v in eqn.outvars]
    return trace.emit_eqn(
        tracers, out_avals, eqn.primitive, eqn.params, eqn.effects, source_info, eqn.ctx
    )


def _is_high(eqn: JaxprEqn) -> bool:
    """Whether an equation is, or holds, a HiPrimitive, which is made simpler before it runs."""
    return _may_be_high(eqn.primitive) and eqn.primitive.is_high(
        *(a.aval for a in eqn.invars), **eqn.params
    )


@functools.cache
def _may_be_high(primitive: Primitive) -> bool:
    return getattr(primitive.is_high, "__func__", None) is not Primitive.is_high


def _traced_by(trace: Any, x: Any) -> bool:
    return isinstance(x, DynamicJaxprTracer) and x._trace is trace


def _source_within(eqn: JaxprEqn) -> Any:
    """The equation's source line, and its named scopes within those in force."""
    around, here = source_info_util.current_name_stack(), eqn.source_info
    return here.replace(name_stack=around + here.name_stack) if len(around) else here


class scope:
    """What is bound inside carries the equation's source line, named scopes and context."""

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


def source(eqn: JaxprEqn) -> str:
    """`file:line (function)` of the user's code that made an equation; empty if none did."""
    return source_info_util.summarize(eqn.source_info)


def location(eqn: JaxprEqn) -> str:
    """The same for a message, which needs a word where no line of the user's is known."""
    return source(eqn) or "a line of a library"


def variables(*atoms: Iterable[Atom]) -> set[Var]:
    """The variables among atoms."""
    return {a for group in atoms for a in group if isinstance(a, Var)}


def read_by(graph: Graph) -> set[Var]:
    """The variables that a program's equations or results read."""
    return variables(*(eqn.invars for eqn in graph.eqns), graph.outvars)


def live(graph: Graph) -> Graph:
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
    """If nobody reads the residuals of a custom_vjp function's fwd, and the user allows it
    (`optimize_remat`), the function itself runs in place of its fwd."""
    params = eqn.params
    if "fun_jaxpr_thunk" not in params or not read.isdisjoint(eqn.outvars[: params["num_res"]]):
        return eqn
    primal = open_graph(*params["fun_jaxpr_thunk"]())
    invars, outvars = eqn.invars[params["num_consts"] :], eqn.outvars[params["num_res"] :]
    avals = [struct(v.aval) for v in invars]
    (call,) = stage(jax.jit(lambda *args: evaluate(primal, args)), *avals)[0].eqns
    return call.replace(invars=invars, outvars=outvars, source_info=eqn.source_info)


@functools.cache
def is_inexact(dtype: Any) -> bool:
    """Whether a dtype is floating or complex, bfloat16 and float8 included."""
    return jnp.issubdtype(dtype, np.inexact)


@functools.cache
def has_tangent(dtype: Any) -> bool:
    """Whether a dtype has a derivative: floating, complex, and the extended ones that say so."""
    return is_inexact(dtype) or (is_extended(dtype) and tangent_dtype(dtype) != jax.dtypes.float0)


@functools.cache
def is_extended(dtype: Any) -> bool:
    """Whether a dtype is one of JAX's extended ones, such as that of PRNG keys, which bring rules
    of their own."""
    return jnp.issubdtype(dtype, jax.dtypes.extended)


@functools.cache
def tangent_dtype(dtype: Any) -> Any:
    """The dtype of the tangents and cotangents of a dtype."""
    return ShapedArray((), dtype).to_tangent_aval().dtype


@functools.cache
def is_complex(dtype: Any) -> bool:
    """Whether a dtype is complex."""
    return jnp.issubdtype(dtype, np.complexfloating)


def named_primitives(*names: str) -> list[Primitive]:
    """Those of the named primitives that this version of JAX has."""
    return [getattr(primitives, name) for name in names if hasattr(primitives, name)]


def primitive_of(fun: Callable, *args: Any) -> Primitive:
    """The primitive of a one-equation function: for those that have no public name."""
    (eqn,) = stage(fun, *args)[0].eqns
    return eqn.primitive


def differentiable(aval: Any) -> bool:
    """Whether a value of this type can carry a cotangent."""
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and has_tangent(dtype)


def is_plain_real(x: Any) -> bool:
    """Whether a value is a number or an array of real numbers, on no mesh with explicit axes."""
    if not isinstance(x, jax.Array | np.ndarray | np.generic | float):
        return False
    dtype = jax.typeof(x).dtype
    return is_inexact(dtype) and not is_complex(dtype) and sharding_like(x) is None


def struct(x: Any) -> Any:
    """The type of a value, as an argument that `stage` can trace with: how it is sharded, and
    along which manual axes it varies, included."""
    return getattr(x, "aval", None) or (x if hasattr(x, "sharding") else jax.typeof(x))


def cotangent_type(aval: Any) -> Any:
    """The type of a value's cotangent: what is summed over devices in the one is not yet in the
    other."""
    return aval.to_ct_aval().update(weak_type=False)


def sharding_like(x: Any) -> Any:
    """How the cotangent of x is sharded, where types say so: on a mesh with explicit axes."""
    aval = jax.typeof(x) if isinstance(x, jax.Array) else struct(x)
    sharding = getattr(aval, "sharding", None)
    if sharding is None or AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    return cotangent_type(aval).sharding


def varying(x: Any) -> frozenset[str]:
    """The manual mesh axes along which a value, or one of that type, varies."""
    return frozenset(struct(x).mat.varying)


def axes_of_vmaps() -> frozenset[str]:
    """The mesh axes over which the vmaps around are divided (`spmd_axis_name`)."""
    return frozenset(get_axis_env().spmd_axis_names)


def partitioned(sharding: Any, partitions: Sequence[Any]) -> Any:
    """The same mesh, with other dimensions divided; None stays None."""
    if sharding is None:
        return None
    spec = sharding.spec
    spec = PartitionSpec(*partitions, unreduced=spec.unreduced, reduced=spec.reduced)
    return sharding.update(spec=spec)


def sharded_like(ct: Any, x: Any) -> Any:
    """The cotangent of x, sharded as it should be, in the terms of x's mesh: a value without one
    is of the mesh in force, though `auto_axes` or `explicit_axes` within uses it in others."""
    sharding = sharding_like(x)
    mesh = _mesh(struct(x))
    mesh = jax.sharding.get_abstract_mesh() if mesh.empty else mesh
    if _in_other_terms(_mesh(jax.typeof(ct)), mesh):
        sharding = sharding or NamedSharding(mesh, PartitionSpec())
    elif sharding is None or jax.typeof(ct).sharding == sharding:
        return ct
    with terms_of(mesh):
        return jax.sharding.reshard(ct, sharding)


def add_cotangents(a: Any, b: Any) -> Any:
    """The sum of two cotangents of one value, in the terms of the mesh of the first."""
    mesh = _mesh(jax.typeof(a))
    if _in_other_terms(_mesh(jax.typeof(b)), mesh):
        b = jax.sharding.reshard(b, jax.typeof(a).sharding)
    with terms_of(mesh):
        return primitives.add_jaxvals_p.bind(a, b)


def terms_of(mesh: Any) -> AbstractContextManager:
    """Where values of this mesh may be used, if they may not in the context in force."""
    other = _in_other_terms(mesh, jax.sharding.get_abstract_mesh())
    return jax.sharding.use_abstract_mesh(mesh) if other else nullcontext()


def _in_other_terms(mesh: Any, other: Any) -> bool:
    """Whether two meshes do not go together in one operation: no mesh, or automatic axes alone
    on both sides, do."""
    if mesh.empty or other.empty or mesh == other:
        return False
    return not (mesh.are_all_axes_auto and other.are_all_axes_auto)


def _mesh(aval: Any) -> Any:
    """The mesh that a type speaks of; key types and references have one as arrays do."""
    return aval.sharding.mesh


def stacked(aval: Any, length: int) -> Any:
    """The type of an array of that many values of this type."""
    sharding = partitioned(aval.sharding, (None, *aval.sharding.spec.partitions))
    return aval.update(shape=(length, *aval.shape), weak_type=False, sharding=sharding)


def full(aval: Any, value: float) -> Any:
    """An array of this type, filled with one number; where an extended dtype has a derivative, 0
    is what its own addition leaves out."""
    mesh, manual = aval.sharding.mesh, aval.mat
    if aval.memory_space != jax.memory.Space.Device:
        on_device = aval.update(memory_space=jax.memory.Space.Device)
        return jax.device_put(full(on_device, value), aval.memory_space)
    sharding = None if mesh.empty else aval.sharding
    with terms_of(mesh):
        if value == 0 and is_extended(aval.dtype) and has_tangent(aval.dtype):
            zero = aval.dtype._rules.zero(aval.dtype)
            x = jax.lax.broadcast(zero, aval.shape, out_sharding=sharding)
        else:
            x = jax.lax.full(aval.shape, value, aval.dtype, sharding=sharding)
    if mesh.empty and manual.empty:
        return x
    x = jax.lax.pcast(x, (*manual.varying, *manual.unreduced), to="varying")
    x = jax.lax.pcast(x, tuple(manual.unreduced), to="unreduced")
    return jax.lax.pcast(x, tuple(manual.reduced), to="reduced")


def varying_like(ct: Any, aval: Any) -> Any:
    """A cotangent of this type from one that may be the same on all devices along manual axes."""
    expected, got = cotangent_type(aval).mat, jax.typeof(ct).mat
    if expected == got:
        return ct
    same = expected.varying - got.varying - got.unreduced - got.reduced
    ct = jax.lax.pcast(ct, tuple(same), to="varying")
    ct = jax.lax.pcast(ct, tuple(expected.unreduced - got.unreduced), to="unreduced")
    return jax.lax.pcast(ct, tuple(expected.reduced - got.reduced), to="reduced")


def scan_counts(params: dict[str, Any]) -> tuple[int, int]:
    """How many of a scan's operands are constants, and how many carry."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(list(consts)), len(list(carry))


def num_bytes(aval: Any) -> int:
    """The size of a value of this type."""
    return aval.size * getattr(aval.dtype, "itemsize", 8)


# User rules: custom_jvp and custom_vjp hide them behind traced thunks, which differ from the
# equations' other parameters in that they are called, not read.


def custom_jvp_graph(eqn: JaxprEqn, active: Sequence[bool]) -> tuple[Graph, list[bool], list[bool]]:
    """The user's rule as a program (primals, tangents) -> (outs, tangents), which of the inputs
    have a tangent in it (all, unless the rule takes symbolic zeros), and which outputs have."""
    given = [a or not eqn.params["symbolic_zeros"] for a in active]
    rule = eqn.params["jvp_jaxpr_fun"]
    jaxpr, consts, out_zeros = rule.call_wrapped(*(not x for x in given))
    return open_graph(jaxpr, consts), given, [not zero for zero in out_zeros]


def custom_vjp_forward(
    eqn: JaxprEqn, args: Sequence[Any], active: Sequence[bool]
) -> tuple[list[Any], list[Any]]:
    """Run the user's `fwd`: the outputs and the residuals for `bwd`."""
    _, fwd, _ = eqn.primitive.get_bind_params(eqn.params)["subfuns"]
    args = [as_array(x) for x in args]
    pairs = [x for pair in zip(args, active, strict=True) for x in pair]
    results = list(fwd.call_wrapped(*pairs))
    _, residual_tree, forwarded = eqn.params["out_trees"]()
    fresh = sum(f is None for f in forwarded) + residual_tree.num_leaves - len(forwarded)
    outs, made = results[fresh:], iter(results[:fresh])
    residuals = [next(made) if f is None else args[f] for f in forwarded]
    return [as_array(x) for x in outs], residuals


def custom_vjp_backward(eqn: JaxprEqn, residuals: list[Any], cts: list[Any]) -> list[Any]:
    """Run the user's `bwd`: one cotangent, or None for zero, per input."""
    _, _, bwd = eqn.primitive.get_bind_params(eqn.params)["subfuns"]
    if eqn.params["symbolic_zeros"]:
        cts = [
            SymbolicZero(v.aval.to_tangent_aval()) if ct is None else ct
            for ct, v in zip(cts, eqn.outvars, strict=True)
        ]
    else:
        cts = [
            zeros_cotangent(v.aval) if ct is None else ct
            for ct, v in zip(cts, eqn.outvars, strict=True)
        ]
    results = bwd.call_wrapped(*residuals, *cts)
    with_logs = bool(results) and isinstance(results[0], list | tuple)  # since JAX 0.11
    results = results[0] if with_logs else results
    return [None if isinstance(ct, (ad.Zero, SymbolicZero)) else as_array(ct) for ct in results]


def cotangent(ct: Any, aval: Any) -> Any:
    """A cotangent as the user gets it: weakly typed as its primal is, zeros for None."""
    ct = zeros_cotangent(aval) if ct is None else ct
    weak = getattr(aval, "weak_type", False) and differentiable(aval)
    if weak == getattr(ct, "weak_type", False):
        return ct
    return primitives.convert_element_type_p.bind(
        ct, new_dtype=aval.dtype, weak_type=weak, sharding=None
    )


def zeros_cotangent(aval: Any) -> Any:
    """A cotangent of zeros for a value of this type: float0 for integers and keys."""
    if differentiable(aval):
        return full(cotangent_type(aval), 0)
    return np.zeros(aval.shape, jax.dtypes.float0)


__all__ = [
    "Atom",
    "Graph",
    "JaxprEqn",
    "Literal",
    "NullAccum",
    "Primitive",
    "ValAccum",
    "Var",
    "call_hi_primitive_p",
    "from_edtype_p",
    "run_state_p",
    "to_edtype_p",
]
