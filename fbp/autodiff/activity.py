"""Activity analysis: find the variables between the differentiated inputs and the outputs in
use."""

import warnings
from collections.abc import Sequence
from typing import Any

from jax.extend.core import (
    JaxprEqn,
    Var,
    primitives,
)

from fbp.autodiff.avals import differentiable
from fbp.autodiff.discrete import STATE_IT_LATER
from fbp.autodiff.graph import Graph, location, weakref_cache
from fbp.autodiff.rule import Rules


def active_variables(
    rules: Rules, graph: Graph, needs_ct: Sequence[bool], has_out_ct: Sequence[bool]
) -> set[Var]:
    """Find the variables on a path from an input that needs a cotangent to an output that has one,
    along which a derivative exists."""
    reached = perturbed_variables(rules, graph, needs_ct)
    needed = {
        v
        for v, use in zip(graph.outvars, has_out_ct, strict=True)
        if use and isinstance(v, Var) and v in reached
    }
    for eqn in reversed(graph.eqns):
        if not needed.isdisjoint(eqn.outvars):
            needed.update(v for v in eqn.invars if isinstance(v, Var) and v in reached)
    return needed


def perturbed_variables(rules: Rules, graph: Graph, needs_ct: Sequence[bool]) -> set[Var]:
    """Find the variables that have a derivative with respect to an input that needs a cotangent."""
    reached = {v for v, want in zip(graph.invars, needs_ct, strict=True) if want}
    for eqn in graph.eqns:
        if any(isinstance(v, Var) and v in reached for v in eqn.invars):
            outs = perturbed_by(rules, eqn, reached)
            reached.update(outs)
            rule = rules.get(eqn.primitive)
            if not outs and rule is not None and rule.activity is None:
                _say_unused(eqn)
    return reached


def perturbed_by(rules: Rules, eqn: JaxprEqn, reached: set[Var]) -> list[Var]:
    """Return the outputs of an equation that have a derivative, as some of its inputs have."""
    rule = rules.get(eqn.primitive)
    if rule is None or rule.activity is None:
        return [v for v in eqn.outvars if differentiable(v.aval)]
    hit = tuple(isinstance(v, Var) and v in reached for v in eqn.invars)
    hits = rule.activity(eqn, rules, hit)
    return [v for v, hit in zip(eqn.outvars, hits, strict=True) if hit]


def differentiable_outputs(eqn: JaxprEqn, *_: Any) -> list[bool]:
    """Say which outputs can have a derivative: the activity of a rule for primitives that may well
    return integers."""
    return [differentiable(v.aval) for v in eqn.outvars]


def _say_unused(eqn: JaxprEqn) -> None:
    """Report a rule that is stated for a primitive none of whose outputs can have a cotangent
    here."""
    types = ", ".join(str(v.aval) for v in eqn.outvars) or "nothing"
    message = (
        f"the rule for '{eqn.primitive}' is of no use at {location(eqn)}: the outputs ({types}) "
        f"have no cotangent. {STATE_IT_LATER}"
    )
    if eqn.primitive is not primitives.convert_element_type_p:
        raise ValueError(message)
    warnings.warn(message, stacklevel=2)  # the rule is for the casts to a float elsewhere


@weakref_cache
def perturbed_outputs(graph: Graph, rules: Rules, needs_ct: tuple[bool, ...]) -> tuple[bool, ...]:
    """Say which outputs of a program depend differentiably on the inputs that need a cotangent."""
    reached = perturbed_variables(rules, graph, needs_ct)
    return tuple(isinstance(v, Var) and v in reached for v in graph.outvars)
