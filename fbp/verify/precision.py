"""A program in another precision: the same equations on the same numbers, with other rounding.

The program is traced in its own precision, and run again equation by equation in the other. So
its constants, its random numbers and its custom rules are those that the user's program has, even
where the code names a dtype.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jax.extend.core import primitives as p

from fbp.autodiff import avals, interpret, user_rules
from fbp.autodiff import graph as g
from fbp.autodiff.dce import dce
from fbp.autodiff.dependence import shard_map_p
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.restage import CALLS, Site, restage
from fbp.autodiff.rules import indexing
from fbp.autodiff.table import RULES
from fbp.verify.observe import calls_out

BY_PRECISION = RULES.tagged("by_precision")


@dataclass(frozen=True)
class Precision:
    """The dtypes that take the place of others: `dtype(x)` for the dtype x of a program."""

    real: Any
    imaginary: Any
    narrows: bool

    def dtype(self, dtype: Any) -> Any:
        """Return the dtype in the place of another: the same for integers, and where it is wide (or
        narrow) enough."""
        if not isinstance(dtype, np.dtype) or not avals.is_inexact(dtype):
            return dtype
        other = np.dtype(self.imaginary if avals.is_complex(dtype) else self.real)
        coarser = jnp.finfo(dtype).eps > jnp.finfo(other).eps
        return dtype if coarser == self.narrows else other

    def cast(self, x: Any) -> Any:
        """Return a value in this precision, if it is of floats."""
        dtype = getattr(x, "dtype", None)
        if dtype is None:
            x = np.asarray(x)
            dtype = x.dtype
        return jnp.asarray(x).astype(self.dtype(dtype)) if avals.is_inexact(dtype) else x


DOUBLE = Precision(np.float64, np.complex128, narrows=False)
SINGLE = Precision(np.float32, np.complex64, narrows=True)


def in_precision(to: Precision, fun: Callable, *args: Any) -> Callable:
    """`fun`, traced at `args`, as a function of the same leaves in another precision.

    To be called with `jax.enable_x64(True)` in force. What has no other precision, such as a
    kernel or a callback, runs in its own.

    >>> import jax.numpy as jnp
    >>> third = in_precision(DOUBLE, lambda x: x / jnp.float32(3), jnp.float32(1))
    >>> with jax.enable_x64(True):
    ...     print(third(1.0))
    0.3333333333333333
    """
    staged, out = g.stage(fun, *args)
    graph, tree = dce(staged), jax.tree.structure(out)

    def other(*args: Any) -> Any:
        return jax.tree.unflatten(tree, evaluate_in(to, graph, jax.tree.leaves(args)))

    return other


def evaluate_in(to: Precision, graph: Graph, args: Sequence[Any]) -> list[Any]:
    """Run a program in another precision."""
    values = dict(zip(graph.constvars, map(to.cast, graph.consts), strict=True))
    values.update(zip(graph.invars, map(to.cast, args), strict=True))

    def read(atom: Any) -> Any:
        if not isinstance(atom, Literal):
            return values[atom]
        aval = avals.struct(atom)
        return to.cast(np.asarray(atom.val, aval.dtype)) if avals.differentiable(aval) else atom.val

    for eqn in graph.eqns:
        with interpret.eqn_scope(eqn):
            outs = _apply(to, eqn, [read(a) for a in eqn.invars])
        values.update(zip(eqn.outvars, outs, strict=True))
    return [jnp.asarray(read(a)) for a in graph.outvars]


def _apply(to: Precision, eqn: JaxprEqn, ins: list[Any]) -> list[Any]:
    if eqn.primitive in WITH_PROGRAMS:
        return WITH_PROGRAMS[eqn.primitive](to, eqn, ins)
    if eqn.primitive in CALLS:
        return evaluate_in(to, g.body(eqn.params), ins)
    if eqn.primitive in BY_PRECISION or _in_one_precision(eqn):
        return _as_written(to, eqn, ins)
    return _bind(eqn, ins, {key: to.dtype(x) for key, x in eqn.params.items()})


def _bind(eqn: JaxprEqn, ins: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    out = eqn.primitive.bind(*ins, **eqn.primitive.get_bind_params(params))
    return list(out) if eqn.primitive.multiple_results else [out]


def _as_written(to: Precision, eqn: JaxprEqn, ins: Sequence[Any]) -> list[Any]:
    """Apply an equation in the precision that it has in the program."""
    narrow = [_like(x, v) for x, v in zip(ins, eqn.invars, strict=True)]
    return [to.cast(x) for x in interpret.bind(eqn, narrow)]


def _like(x: Any, variable: Any) -> Any:
    aval = avals.struct(variable)
    return jnp.asarray(x).astype(aval.dtype) if avals.differentiable(aval) else x


def _in_one_precision(eqn: JaxprEqn) -> bool:
    return calls_out(eqn) or g.holds_program(eqn)


def _jit(to: Precision, eqn: JaxprEqn, ins: list[Any]) -> list[Any]:
    def fun(*xs: Any) -> list[Any]:
        return evaluate_in(to, g.body(eqn.params), xs)

    fun.__name__ = eqn.params["name"]
    return jax.jit(fun)(*ins)


def _restaged(to: Precision, eqn: JaxprEqn, ins: list[Any]) -> list[Any]:
    """Run a loop, a branch or a shard_map, its programs in the other precision."""
    return restage(
        Site((0,), eqn),
        ins,
        lambda body, ins, *_: (evaluate_in(to, body.graph, ins), ()),
        condition=lambda test, ins: evaluate_in(to, test, ins),
    )[0]


def _custom_jvp(to: Precision, eqn: JaxprEqn, ins: list[Any]) -> list[Any]:
    """Return the same function with the same rule, both in the other precision."""
    active = [avals.differentiable(avals.struct(v)) for v in eqn.invars]
    fun = jax.custom_jvp(_named(eqn, lambda *xs: evaluate_in(to, g.body(eqn.params), xs)))

    @fun.defjvp
    def _(primals: Any, tangents: Any) -> tuple[list[Any], list[Any]]:
        rule, has_tangent, has_tangent_back = user_rules.custom_jvp_graph(eqn, active)
        chosen = [t for t, g in zip(tangents, has_tangent, strict=True) if g]
        results = evaluate_in(to, rule, (*primals, *chosen))
        outs, tangents = results[: len(has_tangent_back)], iter(results[len(has_tangent_back) :])
        return outs, [
            next(tangents) if m else _no_tangent(y)
            for m, y in zip(has_tangent_back, outs, strict=True)
        ]

    return fun(*map(jnp.asarray, ins))


def _no_tangent(y: Any) -> Any:
    if avals.differentiable(jax.typeof(y)):
        return jnp.zeros_like(y)
    return np.zeros(y.shape, jax.dtypes.float0)


def _custom_vjp(to: Precision, eqn: JaxprEqn, ins: list[Any]) -> list[Any]:
    """Return the same function with the same two rules, all in the other precision. The rules are
    traced when it is differentiated: some functions have none for some of their uses."""
    fun = jax.custom_vjp(_named(eqn, lambda *xs: evaluate_in(to, g.body(eqn.params), xs)))
    rules = cache(lambda: _staged_rules(eqn))

    def run_forward(*xs: Any) -> tuple[list[Any], list[Any]]:
        forward, num_outs, _, _ = rules()
        results = evaluate_in(to, forward, xs)
        return results[:num_outs], results[num_outs:]

    def run_backward(residuals: list[Any], cts: list[Any]) -> tuple[Any, ...]:
        _, _, backward, stated = rules()
        results = iter(evaluate_in(to, backward, (*residuals, *cts)))
        return tuple(next(results) if s else None for s in stated)

    fun.defvjp(run_forward, run_backward)
    return fun(*map(jnp.asarray, ins))


def _staged_rules(eqn: JaxprEqn) -> tuple[Graph, int, Graph, list[bool]]:
    """Return the user's two rules as programs, how many outputs the first has before its residuals,
    and for which operands the second states a cotangent."""
    num_consts = eqn.params["num_consts"]
    active = [
        i >= num_consts and avals.differentiable(avals.struct(v)) for i, v in enumerate(eqn.invars)
    ]
    fixed: list[Any] = []

    def run_user_forward(*xs: Any) -> tuple[list[Any], list[Any]]:
        outs, residuals = user_rules.custom_vjp_forward(eqn, xs, active)
        fixed[:] = [None if _is_value(r) else r for r in residuals]
        return outs, [r for r in residuals if _is_value(r)]

    types = [avals.struct(v) for v in eqn.invars]
    forward, (outs, residuals) = g.stage(run_user_forward, *types)

    def run_user_backward(residuals: list[Any], cts: list[Any]) -> list[Any]:
        values = iter(residuals)
        every = [next(values) if r is None else r for r in fixed]
        return user_rules.custom_vjp_backward(eqn, every, cts)

    cts = [avals.cotangent_type(avals.struct(v)) for v in eqn.outvars]
    backward, in_cts = g.stage(run_user_backward, residuals, cts)
    return forward, len(outs), backward, [ct is not None for ct in in_cts]


def _is_value(x: Any) -> bool:
    """Return whether a residual is an array, not a setting of the user's."""
    return isinstance(x, jax.Array | np.ndarray)


def _named(eqn: JaxprEqn, fun: Callable) -> Callable:
    fun.__name__ = function_of(eqn)
    return fun


def function_of(eqn: JaxprEqn) -> str:
    """`name at file:line` of the function to which a custom rule belongs."""
    body = next(eqn.params[name] for name in ("call_jaxpr", "jaxpr") if name in eqn.params)
    name, line = str(getattr(body, "jaxpr", body).debug_info.func_src_info).split(" at ")[:2]
    return f"{name} at {line}"


def _scatter(to: Precision, eqn: JaxprEqn, ins: list[Any]) -> list[Any]:
    """Run a scatter, which holds its sum or product as a program of two numbers."""
    jaxpr = eqn.params["update_jaxpr"]
    if jaxpr is None:
        return _bind(eqn, ins, eqn.params)
    update = g.from_jaxpr_and_consts(jaxpr, eqn.params["update_consts"])
    number = jax.ShapeDtypeStruct((), to.dtype(avals.struct(eqn.outvars[0]).dtype))
    closed = jax.make_jaxpr(lambda a, b: evaluate_in(to, update, (a, b))[0])(number, number)
    params = {"update_jaxpr": closed.jaxpr, "update_consts": tuple(closed.consts)}
    return _bind(eqn, ins, eqn.params | params)


WITH_PROGRAMS: dict[Any, Callable[[Precision, JaxprEqn, list[Any]], list[Any]]] = {
    p.jit_p: _jit,
    **dict.fromkeys((p.scan_p, p.while_p, p.cond_p, shard_map_p), _restaged),
    p.custom_jvp_call_p: _custom_jvp,
    p.custom_vjp_call_p: _custom_vjp,
    **dict.fromkeys(indexing.RULES.tagged("combines"), _scatter),
}
