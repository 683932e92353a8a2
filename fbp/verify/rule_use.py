"""One use of a custom rule: which operands are differentiated, and the rule as a program."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn, Literal
from jax.extend.core import primitives as p
from jax.sharding import get_abstract_mesh

from fbp.autodiff import avals, interpret, user_rules
from fbp.autodiff import graph as g
from fbp.autodiff.graph import Graph
from fbp.autodiff.masks import merge_by_mask, not_, select
from fbp.verify import oracle
from fbp.verify.kernels import without_kernels
from fbp.verify.precision import evaluate_in, function_of
from fbp.verify.rewrite import rewritten

JAX = os.path.dirname(jax.__file__)


@dataclass(frozen=True, eq=False)
class RuleUse:
    """One use of a custom rule.

    Attributes:
      eqn: the equation.
      differentiated: which of its operands are.
      arrived: which of its outputs get a cotangent.
      body: the function, as a program.
    """

    eqn: JaxprEqn
    differentiated: tuple[bool, ...]
    arrived: tuple[bool, ...]
    body: Graph


@dataclass(frozen=True, eq=False)
class Staged:
    """A rule as a program: (operands, cotangents) -> (outputs, cotangents of the operands).

    Attributes:
      graph: the program.
      num_outs: how many of its results are outputs of the function.
      stated: for which operands it states a cotangent.
      types: the types of those.
    """

    graph: Graph
    num_outs: int
    stated: tuple[bool, ...]
    types: tuple[Any, ...]


def stage_rule(use: RuleUse, with_x64: bool) -> Staged:
    """Trace the rule, with the dtypes that it has outside of the check."""
    eqn, active = use.eqn, use.differentiated
    ins = [avals.struct(v.aval) for v in eqn.invars]
    cts = [avals.cotangent_type(v.aval) for v in ct_outputs(use)]

    def run(ins: list[Any], cts: list[Any]) -> tuple[list[Any], list[Any]]:
        if eqn.primitive is p.custom_vjp_call_p:
            outs, residuals = user_rules.custom_vjp_forward(eqn, ins, active)
            arrived = merge_by_mask(use.arrived, cts, [None] * sum(not_(use.arrived)))
            in_cts = user_rules.custom_vjp_backward(eqn, residuals, arrived)
        else:
            others = select(not_(active), ins)
            outs, pull = oracle.vjp(
                lambda *xs: interpret.bind(eqn, merge_by_mask(active, xs, others)),
                *select(active, ins),
            )
            zeros = [avals.zeros_cotangent(v.aval) for v in select(not_(use.arrived), eqn.outvars)]
            in_cts = merge_by_mask(
                active, pull(merge_by_mask(use.arrived, cts, zeros)), [None] * len(others)
            )
        return outs, [ct if a else None for ct, a in zip(in_cts, active, strict=True)]

    with jax.enable_x64(with_x64):
        graph, (outs, in_cts) = g.stage(run, ins, cts)
    stated = tuple(ct is not None for ct in in_cts)
    return Staged(graph, len(outs), stated, tuple(ct for ct in in_cts if ct is not None))


def alone(use: RuleUse, rule: Staged) -> tuple[RuleUse, Staged]:
    """Return the same outside of the mesh around: what only says over which devices a value varies
    is left out."""
    return replace(use, body=_untyped(use.body)), replace(rule, graph=_untyped(rule.graph))


def _untyped(graph: Graph) -> Graph:
    types = [avals.struct(v.aval) for v in graph.invars]
    plain = [jax.ShapeDtypeStruct(t.shape, t.dtype) for t in types]
    return rewritten(graph, _is_only_typed, lambda _, ins: list(ins), plain)


def _is_only_typed(eqn: JaxprEqn) -> bool:
    """Return whether an equation changes a value's type alone."""
    return eqn.primitive.name in ("pvary", "pcast")


def ct_outputs(use: RuleUse) -> list[Any]:
    """Return the outputs that get a cotangent."""
    return select(use.arrived, use.eqn.outvars)


def groups(use: RuleUse) -> list[tuple[int, ...]]:
    """Return the numbers of the operands whose cotangents are compared.

    Each is a group of its own, but for a function of JAX itself: it hands a value that it closed
    over to the rule in several places, and the sum of their cotangents counts.
    """
    numbers = [
        i
        for i, (v, a) in enumerate(zip(use.eqn.invars, use.differentiated, strict=True))
        if a and avals.differentiable(v.aval) and avals.struct(v).size
    ]
    if not function_of(use.eqn).partition(" at ")[2].startswith(JAX):
        return [(i,) for i in numbers]
    same: dict[Any, list[int]] = {}
    for i in numbers:
        atom = use.eqn.invars[i]
        same.setdefault(i if isinstance(atom, Literal) else id(atom), []).append(i)
    return [tuple(group) for group in same.values()]


def judged_operands(use: RuleUse) -> list[int]:
    """Return the operands whose cotangents are compared, the first of each group."""
    return [group[0] for group in groups(use)]


def substituted(use: RuleUse, ins: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Return the operands with other values of those that are compared."""
    ins = list(ins)
    for group, x in zip(groups(use), values, strict=True):
        for i in group:
            ins[i] = x
    return ins


def run_rule(
    use: RuleUse, rule: Staged, ins: Sequence[Any], cts: Sequence[Any], to: Any = None
) -> tuple[list[Any], list[Any]]:
    """Run a rule, in a precision or in its own: the outputs, and the cotangents that are compared;
    in another precision a kernel runs as the program that it is."""
    args = (*ins, *[_like(c, v.aval) for c, v in zip(cts, ct_outputs(use), strict=True)])
    if to is None:
        results = interpret.eval_graph(rule.graph, args)
    else:
        results = evaluate_in(to, without_kernels(rule.graph), args)
    stated = iter(results[rule.num_outs :])
    by_operand = [next(stated) if s else None for s in rule.stated]
    fitted = [
        sum(_fitted(by_operand[i], use.eqn.invars[i].aval) for i in group) for group in groups(use)
    ]
    return results[: rule.num_outs], fitted


def _like(x: Any, aval: Any) -> Any:
    """Return the value, varying over the devices over which its type does: those of the mesh that
    the rule stands in, when it is run there."""
    varying = avals.cotangent_type(aval).mat.varying & frozenset(get_abstract_mesh().manual_axes)
    missing = varying - jax.typeof(x).mat.varying
    return lax.pcast(x, tuple(missing), to="varying") if missing else x


def _fitted(ct: Any, aval: Any) -> Any:
    """Return zeros for None; what has another shape is no cotangent, and is compared as
    infinity."""
    if ct is None:
        return jnp.zeros(aval.shape, aval.dtype)
    if ct.shape != aval.shape:
        return jnp.full(aval.shape, jnp.inf, aval.dtype)
    return ct


def mismatched(use: RuleUse, rule: Staged) -> tuple[tuple[int, str, str], ...]:
    """Return the operands whose cotangent has another shape or dtype than they have, with both."""
    types = iter(rule.types)
    by_operand = [next(types) if s else None for s in rule.stated]
    unlike = []
    for number in (i for group in groups(use) for i in group):
        ct, x = by_operand[number], avals.struct(use.eqn.invars[number])
        if ct is not None and (ct.shape, ct.dtype) != (x.shape, x.dtype):
            unlike.append((number, ct.str_short(), x.str_short()))
    return tuple(unlike)
