"""JAX versions and names without a public home: the only module that imports `jax._src`."""

import operator
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from inspect import signature
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax._src.api import NotNeeded  # no public name, nor has NotSaveable
from jax._src.config import enable_checks
from jax._src.core import (  # none of them has a public name
    EvalTrace,
    InternalMutableArrayEffect,
    Tracer,
    check_jaxpr,
    empty_ref_p,
    ensure_no_leaks,
    eval_trace,
    get_axis_env,
    positional_effects,
    pytype_aval_mappings,
    ref_p,
    set_current_trace,
    to_concrete_value,
    trace_ctx,
)
from jax._src.dtypes import canonicalize_value, register_canonicalize_value_handler
from jax._src.effects import JaxprInputEffect
from jax._src.hijax import call_hi_primitive_p
from jax._src.interpreters.ad import (  # the first two are public since JAX 0.11
    NullAccum,
    ValAccum,
    backward_pass3,
)
from jax._src.interpreters.partial_eval import (
    DynamicJaxprTrace,
    DynamicJaxprTracer,
    TracebackScope,
    TracingEqn,
    _check_no_returned_refs,
    _check_returned_jaxtypes,
    _interleave_fun,
    _jvp_jaxpr_zeros,
    _memoize,
    convert_constvars_jaxpr,
    dce_jaxpr,
)
from jax._src.lax.lax import _convert_element_type, from_edtype_p, to_edtype_p  # no public names
from jax._src.source_info_util import Scope  # no public name
from jax._src.state.discharge import discharge_state, run_state_p
from jax._src.state.primitives import addupdate_p
from jax._src.state.types import ReadEffect
from jax.extend.core import (
    ClosedJaxpr,
    JaxprEqn,
    Primitive,
    primitives,
)
from jax.extend.linear_util import WrappedFun, wrap_init
from jax.extend.source_info_util import current, reset_name_stack

NotSaveable: Any = None
with suppress(ImportError):  # since JAX 0.12
    from jax._src.api import NotSaveable  # type: ignore[no-redef]

MAKES = frozenset({ref_p, empty_ref_p})


WRITES = frozenset({primitives.swap_p, addupdate_p})


def named_primitives(*names: str) -> list[Primitive]:
    """Return those of the named primitives that this version of JAX has."""
    return [getattr(primitives, name) for name in names if hasattr(primitives, name)]


def scan_counts(params: dict[str, Any]) -> tuple[int, int]:
    """Return how many of a scan's operands are constants, and how many are carried."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(list(consts)), len(list(carry))


def scopes(eqn: Any) -> tuple[str, ...]:
    """Return the named scopes of an equation, from the outside; the names of transforms, such as
    `vmap`, are none."""
    return tuple(x.name for x in eqn.source_info.name_stack.stack if isinstance(x, Scope))


def interpret_kernel(eqn: Any, args: Sequence[Any]) -> list[Any]:
    """Run a Pallas kernel as the program of loops and slices that its interpreter makes of it."""
    from jax._src.pallas.hlo_interpreter import pallas_call_hlo_interpret  # slow to import

    run: Any = pallas_call_hlo_interpret
    known = signature(run).parameters
    params = {key: value for key, value in eqn.params.items() if key in known}
    return list(run(*args, **params | {"debug": False}))


# Staging: JAX's trace to a jaxpr, and two things more


class TraceRecorder(Protocol):
    """What a trace asks of the one who stages: see `fbp.autodiff.eager`."""

    around: Any

    def perturbed(self, trace: "StagingTrace", atoms: Sequence[Any]) -> list[bool]:
        """Say which values depend on the inputs that need a cotangent."""
        ...

    def value(self, trace: "StagingTrace", atom: Any) -> Any | None:
        """Return a value as it is in the trace around this one; None if there is none."""
        ...

    def operands(self, trace: "StagingTrace", atoms: Sequence[Any]) -> Callable[[], list[Any]]:
        """Return a function that returns the values of some operands."""
        ...

    def of_rule(
        self, primals: Callable[[], list[Any]], num_primals: int, tangents: Sequence[Any] = ()
    ) -> "TraceRecorder":
        """Return the recording of a program that a function with a rule holds: of these primals,
        and of tangents of these types."""
        ...

    def finish(self, trace: "StagingTrace") -> None:
        """Take leave of a trace that is complete."""
        ...


def trace_to_jaxpr(
    fun: WrappedFun, in_avals: Sequence[Any], recording: TraceRecorder
) -> tuple[Any, list[Any]]:
    """Trace a function as `trace_to_jaxpr_dynamic` does; return the jaxpr and its constants."""
    trace = StagingTrace(fun.debug_info, trace_ctx.trace, recording)
    with (
        ensure_no_leaks(trace),
        reset_name_stack(),
        TracebackScope(),
    ):
        source = current()
        in_tracers = [trace.new_arg(aval, source) for aval in in_avals]
        with set_current_trace(trace):
            outs = fun.call_wrapped(*in_tracers)
        _check_returned_jaxtypes(fun.debug_info, outs)
        out_tracers = [trace.to_jaxpr_tracer(canonicalize_value(x), source) for x in outs]
        _check_no_returned_refs(fun.debug_info, out_tracers)
        recording.finish(trace)
        jaxpr, consts = trace.frame.to_jaxpr(trace, out_tracers, fun.debug_info, source)
        del trace, fun, in_tracers, out_tracers, outs
    if enable_checks.value:
        check_jaxpr(jaxpr)
    return jaxpr, consts


def trace_with_values() -> Any:
    """Return the trace in force if values are computed as Python goes along: outside of any jit,
    under jax.grad and vmap, and in a function that is recorded itself."""
    trace = around = trace_ctx.trace
    while not isinstance(around, EvalTrace):
        if isinstance(around, StagingTrace):
            return trace if around.recording.around is not None else None
        if isinstance(around, DynamicJaxprTrace) or around is None:
            return None
        around = getattr(around, "parent_trace", None)
    return trace


def acts_outside(trace: "StagingTrace", eqn: JaxprEqn) -> bool:
    """Test whether an equation has an effect on more than the mutable arrays that its program
    makes."""
    outside = {*trace.frame.invars, *trace.frame.constvar_to_val}
    return any(
        e.input in outside and not isinstance(e, ReadEffect)
        if isinstance(e, JaxprInputEffect)
        else not isinstance(e, InternalMutableArrayEffect)
        for e in eqn.effects
    )


class StagingTrace(DynamicJaxprTrace):
    """JAX's trace to a jaxpr; but Python may ask for values, and a function with a rule is traced
    once: by its rule alone, where one of its inputs is perturbed."""

    __slots__ = ("alive", "holds_rules", "is_open", "recording")

    def __init__(self, debug_info: Any, parent: Any, recording: TraceRecorder):
        super().__init__(debug_info, parent_trace=parent)
        self.recording = recording
        self.is_open = True  # not when it has ended, nor while its equations are evaluated
        self.holds_rules = False
        self.alive: list[Any] = []  # a constant is dropped together with the last of its tracers

    def invalidate(self) -> None:
        """Drop what belongs to the program, but not the values that were asked for."""
        self.is_open, self.alive = False, []
        super().invalidate()

    def new_arg(self, *args: Any, **kwargs: Any) -> "StagingTracer":
        """Make the tracer of an input."""
        return _staging(super().new_arg(*args, **kwargs))

    def var_to_tracer(self, *args: Any, **kwargs: Any) -> "StagingTracer":
        """Make the tracer of an equation's output."""
        return _staging(super().var_to_tracer(*args, **kwargs))

    def _new_const(self, *args: Any, **kwargs: Any) -> "StagingTracer":
        return _staging(super()._new_const(*args, **kwargs))

    def equations(self, first: int) -> list[JaxprEqn]:
        """Return the equations from number `first` on, the objects that the jaxpr will hold."""
        eqns: list[Any] = self.frame.tracing_eqns
        for i in range(first, len(eqns)):
            eqn = eqns[i]
            if isinstance(eqn, TracingEqn):
                self.alive.append(eqn.in_tracers)
                rest = eqn.primitive, eqn.params, eqn.effects, eqn.source_info, eqn.ctx
                eqns[i] = JaxprEqn([t.val for t in eqn.in_tracers], eqn.outvars, *rest)
        return eqns[first:]

    def process_custom_jvp_call(self, prim, fun, jvp, tracers, /, *, symbolic_zeros):
        """Stage a custom_jvp function: its rule, if an input is perturbed."""
        source = current()
        tracers = [self.to_jaxpr_tracer(x, source) for x in tracers]
        avals, atoms = [t.aval for t in tracers], [t.val for t in tracers]
        tangents = [a.to_tangent_aval() for a in avals]
        operands = self.recording.operands(self, atoms)

        @_lazily(jvp)
        def rule(*zeros):
            lacking = tuple(t for t, zero in zip(tangents, zeros, strict=True) if zero)
            others = [t for t, zero in zip(tangents, zeros, strict=True) if not zero]
            pushed, out_zeros = _jvp_jaxpr_zeros(jvp, zeros, lacking)
            recording = self.recording.of_rule(operands, len(avals), others)
            jaxpr, consts = trace_to_jaxpr(
                pushed.with_unknown_names(), [*avals, *others], recording
            )
            return jaxpr, consts, out_zeros()

        active = self.recording.perturbed(self, atoms)
        body = None
        if any(active):
            zeros = [symbolic_zeros and not a for a in active]
            jaxpr, consts, out_zeros = rule.call_wrapped(*zeros)
            rule.f.staged = zeros
            body = _outputs(jaxpr, len(consts), len(avals), slice(len(out_zeros)), fun)
        if body is None:
            jaxpr, consts = trace_to_jaxpr(fun, avals, self.recording.of_rule(operands, len(avals)))
            body = convert_constvars_jaxpr(jaxpr)
            _forget_if(any(active), fun)
        params = {"jvp_jaxpr_fun": rule, "symbolic_zeros": symbolic_zeros}
        return self._hold(prim, body, consts, tracers, params, source)

    def process_custom_vjp_call(
        self, prim, fun, fwd, bwd, tracers, /, *, out_trees, symbolic_zeros
    ):
        """Stage a custom_vjp function: its fwd, if an input is perturbed."""
        source = current()
        tracers = [self.to_jaxpr_tracer(x, source) for x in tracers]
        avals, atoms = [t.aval for t in tracers], [t.val for t in tracers]
        operands = self.recording.operands(self, atoms)

        @_lazily(fwd)
        def rule(*nonzeros):
            pairs = _interleave_fun(fwd.with_unknown_names(), nonzeros)
            return trace_to_jaxpr(pairs, avals, self.recording.of_rule(operands, len(avals)))

        active = self.recording.perturbed(self, atoms)
        body = None
        if any(active):
            jaxpr, consts = rule.call_wrapped(*active)
            rule.f.staged = active
            _, res_tree, forwarded = out_trees()
            num_res = res_tree.num_leaves - sum(f is not None for f in forwarded)
            body = _outputs(jaxpr, len(consts), len(avals), slice(num_res, None), fun)
        if body is None:
            jaxpr, consts = trace_to_jaxpr(
                fun.with_unknown_names(), avals, self.recording.of_rule(operands, len(avals))
            )
            body = convert_constvars_jaxpr(jaxpr)
            _forget_if(any(active), fun)
        num_consts = len(consts)

        def shifted_trees():
            out_tree, res_tree, forwarded = out_trees()
            return out_tree, res_tree, [f if f is None else f + num_consts for f in forwarded]

        params = {
            "fwd_jaxpr_thunk": rule,
            "bwd": bwd,
            "out_trees": shifted_trees,
            "symbolic_zeros": symbolic_zeros,
        }
        return self._hold(prim, body, consts, tracers, params, source)

    def _hold(self, prim, body, consts, tracers, params, source):
        """Emit the equation of a function with a rule."""
        self.holds_rules = True
        self.frame.is_high |= body.is_high
        closed = body if hasattr(body, "consts") else ClosedJaxpr(body, ())
        operands = [*(self.to_jaxpr_tracer(x, source) for x in consts), *tracers]
        held = {"call_jaxpr": closed, "num_consts": len(consts), **params}
        outs = [v.aval for v in body.outvars]
        return self.emit_eqn(operands, outs, prim, held, positional_effects(closed), source)


def _forget_if(is_told_twice: bool, fun: WrappedFun) -> None:
    """Let a function's output tree be told by its rule alone: JAX takes it from one of the two."""
    for store in fun.stores if is_told_twice else ():
        if store:
            store.reset()


def _lazily(fun: WrappedFun) -> Callable[[Callable], WrappedFun]:
    """Trace each variant of a user's rule when it is first asked for."""

    def decorate(trace: Callable) -> WrappedFun:
        @_memoize
        def once(*variant):
            for store in fun.stores:
                if store:
                    store.reset()
            return trace(*variant)

        return wrap_init(once, debug_info=fun.debug_info)

    return decorate


def closes_over_operands(rule: WrappedFun, variant: Sequence[bool]) -> bool:
    """Test whether the constants of a rule are the first operands of its equation, in their order:
    those of the variant that was staged are, which may belong to a trace that has ended."""
    return getattr(rule.f, "staged", None) == list(variant)


def _outputs(jaxpr: Any, num_consts: int, num_ins: int, outs: slice, fun: WrappedFun) -> Any:
    """Return the program of a rule's primal outputs, named as the function; None if they depend on
    more than its constants and inputs."""
    lifted = convert_constvars_jaxpr(jaxpr)
    used = [False] * len(lifted.outvars)
    used[outs] = [True] * len(used[outs])
    ins = [i < num_consts + num_ins for i in range(len(lifted.invars))]
    body, used_ins = dce_jaxpr(lifted, used, ins)
    if list(used_ins) != ins:
        return None
    name = fun.debug_info.func_src_info
    return body.replace(debug_info=body.debug_info._replace(func_src_info=name))


def _converted(name: str, convert: Callable[[Any], Any]) -> Callable:
    """Return a method that converts the value, and if there is none does what JAX's does."""
    otherwise = getattr(DynamicJaxprTracer, name)

    def method(self: "StagingTracer") -> Any:
        x = self._value()
        return otherwise(self) if x is None else convert(x)

    return method


class StagingTracer(DynamicJaxprTracer):
    """A tracer that Python may ask for its value, outside of jit."""

    __slots__ = ()
    _trace: StagingTrace

    def to_concrete_value(self) -> Any | None:
        """Return the value, unless a function of JAX's asks that does without it as well."""
        if _asked_in_passing(self, sys._getframe(1)):
            return None
        return self._value()

    def _value(self) -> Any | None:
        x = self._trace.recording.value(self._trace, self.val)
        return x.to_concrete_value() if isinstance(x, Tracer) else x

    __bool__ = _converted("__bool__", bool)
    __int__ = _converted("__int__", int)
    __float__ = _converted("__float__", float)
    __complex__ = _converted("__complex__", complex)
    __index__ = _converted("__index__", operator.index)
    __hex__ = _converted("__hex__", hex)
    __oct__ = _converted("__oct__", oct)

    def __format__(self, spec: str) -> str:
        x = self._value()
        return super().__format__(spec) if x is None else format(x, spec)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self._constant("__array__")(*args, **kwargs)

    def tolist(self) -> Any:
        """Return the value as a list, if it has no derivative."""
        return self._constant("tolist")()

    def tobytes(self, *args: Any, **kwargs: Any) -> bytes:
        """Return the value as bytes, if it has no derivative."""
        return self._constant("tobytes")(*args, **kwargs)

    def _constant(self, method: str) -> Any:
        """Return a method of the value if it has no derivative to lose; else JAX's own, which
        raises."""
        trace = self._trace
        if trace.recording.around is None or any(trace.recording.perturbed(trace, [self.val])):
            return getattr(super(), method)
        x = self._value()
        if x is None:
            return getattr(super(), method)
        return getattr(np.asarray(x) if method == "tobytes" else x, method)

    def _short_repr(self) -> str:
        x = self._value()
        return super()._short_repr() if x is None else f"Traced<{self.aval}>({x})"


pytype_aval_mappings[StagingTracer] = lambda x: x.aval
register_canonicalize_value_handler(StagingTracer, None)


def _staging(tracer: DynamicJaxprTracer) -> StagingTracer:
    tracer.__class__ = StagingTracer  # the same slots: JAX's constructor differs between versions
    return tracer  # type: ignore[return-value]


IN_PASSING = frozenset({jnp.array.__code__, _convert_element_type.__code__})
"""Functions that ask whether a value is concrete, and do the same without it."""


def _asked_in_passing(tracer: StagingTracer, frame: Any) -> bool:
    """Test whether a value is asked for by `is_concrete`, in vain: by one of the functions above,
    or for a number that nobody can index or count by."""
    if frame.f_code is not to_concrete_value.__code__:
        return False
    asked_by = frame.f_back.f_back.f_code
    dtype = getattr(tracer.aval, "dtype", None)
    return asked_by in IN_PASSING or (dtype is not None and jnp.issubdtype(dtype, np.inexact))


__all__ = [
    "MAKES",
    "WRITES",
    "NotNeeded",
    "NotSaveable",
    "NullAccum",
    "StagingTrace",
    "TraceRecorder",
    "Tracer",
    "ValAccum",
    "acts_outside",
    "addupdate_p",
    "backward_pass3",
    "call_hi_primitive_p",
    "closes_over_operands",
    "discharge_state",
    "empty_ref_p",
    "eval_trace",
    "from_edtype_p",
    "get_axis_env",
    "interpret_kernel",
    "named_primitives",
    "ref_p",
    "run_state_p",
    "scan_counts",
    "scopes",
    "set_current_trace",
    "to_edtype_p",
    "trace_to_jaxpr",
    "trace_with_values",
]
