"""Call the rules of custom_jvp and custom_vjp functions, which their equations hold as traced
thunks: unlike other parameters, these are called, not read."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.extend import source_info_util
from jax.extend.core import JaxprEqn
from jax.interpreters import ad

from fbp.autodiff.avals import as_array, zeros_cotangent
from fbp.autodiff.compat import closes_over_operands
from fbp.autodiff.graph import Graph, from_jaxpr_and_consts
from fbp.autodiff.interpret import evaluated


def constants_before(eqn: JaxprEqn) -> int:
    """Return how many operands of a function with a rule come before its arguments: constants that
    it closes over, also those of an earlier staging, which count as arguments when it is staged
    again. The rule knows the names of the arguments (and of as many tangents)."""
    by_jvp = "jvp_jaxpr_fun" in eqn.params
    rule = eqn.params["jvp_jaxpr_fun" if by_jvp else "fwd_jaxpr_thunk"]
    names = rule.debug_info.arg_names
    stated = eqn.params["num_consts"]
    if names is None:
        return stated
    return max(stated, len(eqn.invars) - (len(names) // 2 if by_jvp else len(names)))


def custom_jvp_graph(
    eqn: JaxprEqn, active: Sequence[bool], operands: Sequence[Any] | None = None
) -> tuple[Graph, list[bool], list[bool]]:
    """Return the user's rule as a program (primals, tangents) -> (outs, tangents), which of the
    inputs have a tangent in it (all, unless the rule takes symbolic zeros), and which outputs
    have. With `operands`, the values of the equation's, it closes over those."""
    has_tangent_in = [a or not eqn.params["symbolic_zeros"] for a in active]
    rule = eqn.params["jvp_jaxpr_fun"]
    zeros = [not x for x in has_tangent_in]
    jaxpr, consts, out_zeros = rule.call_wrapped(*zeros)
    if operands is not None and closes_over_operands(rule, zeros):
        consts = operands[: eqn.params["num_consts"]]
    return from_jaxpr_and_consts(jaxpr, consts), has_tangent_in, [not zero for zero in out_zeros]


def custom_vjp_forward(
    eqn: JaxprEqn, args: Sequence[Any], active: Sequence[bool]
) -> tuple[list[Any], list[Any]]:
    """Run the user's `fwd`, and return the outputs and the residuals for `bwd`."""
    args = [as_array(x) for x in args]
    rule, num_consts = eqn.params["fwd_jaxpr_thunk"], eqn.params["num_consts"]
    if closes_over_operands(rule, active[num_consts:]) and not any(active[:num_consts]):
        jaxpr, _ = rule.call_wrapped(*active[num_consts:])
        program = from_jaxpr_and_consts(jaxpr, args[:num_consts])
        # A residual that is a Python number stays one: bwd may branch on it, also under jit.
        results = evaluated(program, args[num_consts:]).read(program.outvars)
    else:
        _, fwd, _ = eqn.primitive.get_bind_params(eqn.params)["subfuns"]
        pairs = [x for pair in zip(args, active, strict=True) for x in pair]
        results = list(fwd.call_wrapped(*pairs))
    _, residual_tree, forwarded = eqn.params["out_trees"]()
    fresh = sum(f is None for f in forwarded) + residual_tree.num_leaves - len(forwarded)
    outs, fresh_results = results[fresh:], iter(results[:fresh])
    residuals = [next(fresh_results) if f is None else args[f] for f in forwarded]
    return [as_array(x) for x in outs], [_as_rules_have(x) for x in residuals]


def _as_rules_have(residual: Any) -> Any:
    """Return a constant of the program, which is one of numpy, as an array of JAX: `bwd` may call
    `x.at`, and what it computes of it belongs to the program."""
    if not isinstance(residual, np.ndarray) or residual.dtype == jax.dtypes.float0:
        return residual
    with jax.ensure_compile_time_eval():
        return jnp.asarray(residual)


def custom_vjp_backward(eqn: JaxprEqn, residuals: list[Any], cts: list[Any]) -> list[Any]:
    """Run the user's `bwd`, and return one cotangent, or None for zero, per input.

    Its equations have the lines of `bwd`, not that of the call that it differentiates.
    """
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
    with _no_outer_line():
        results = bwd.call_wrapped(*residuals, *cts)
    with_logs = bool(results) and isinstance(results[0], list | tuple)  # since JAX 0.11
    results = results[0] if with_logs else results
    return [None if isinstance(ct, (ad.Zero, SymbolicZero)) else as_array(ct) for ct in results]


class _NoLine:
    """Stands for the source line in force where each equation shall have its own: JAX looks for one
    where there is none, and would take None for 'as before'."""

    def __bool__(self) -> bool:
        return False

    def as_python_traceback(self) -> None:
        """Return nothing to add to the traceback of an error."""


def _no_outer_line() -> Any:
    no_line: Any = _NoLine()
    stack = source_info_util.current_name_stack()
    return source_info_util.user_context(no_line, name_stack=stack)


def backward_rule_around(eqn: JaxprEqn) -> str:
    """Return the name of the user's `bwd` that made an equation of fbp's backward pass; empty if
    none did."""
    traceback = eqn.source_info.traceback
    inner = []
    for frame in traceback.frames if traceback else ():
        if frame.function_name == custom_vjp_backward.__name__ and frame.file_name == __file__:
            return next((x.function_name for x in reversed(inner) if not _is_jax(x.file_name)), "")
        inner.append(frame)
    return ""


def _is_jax(file: str) -> bool:
    return file.startswith(os.path.dirname(jax.__file__)) or "site-packages" in file
