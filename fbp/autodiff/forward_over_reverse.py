"""Second derivatives by `jax.jvp` of fbp's gradient, where forward mode agrees with fbp's rules.

The gradient is staged and its program inspected: forward mode needs less memory than another
reverse mode, but differentiates by JAX's rules. So every primitive's rule must have the tag
`forward_mode`, which says that JAX's rule is the same. custom_vjp functions, which have no forward
rule, primitives for which a table has another rule, or at which fbp differs from JAX on purpose,
and values on manual or explicit meshes are left to reverse over reverse.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params
from jax.sharding import AxisType

from fbp.autodiff import graph as g
from fbp.autodiff.avals import is_plain_real
from fbp.autodiff.flat_function import FlatFunction, flatten_function
from fbp.autodiff.interpret import eval_graph
from fbp.autodiff.rule import Rules
from fbp.autodiff.table import RULES

FORWARD = RULES.tagged("forward_mode") - RULES.tagged("differs_from_jax")


def stage_for_forward(
    gradient: Callable, primals: tuple, has_aux: bool, rules: Rules
) -> FlatFunction | None:
    """Return the staged program of a gradient if forward mode can differentiate it, else None."""
    leaves = jax.tree.leaves(primals)
    if not all(is_plain_real(x) for x in leaves):
        return None
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and {*mesh.axis_types} != {AxisType.Auto}:
        return None
    staged = flatten_function(gradient, primals, has_aux, rules)
    return staged if _has_forward(staged.graph.eqns, rules) else None


def _has_forward(eqns: Sequence[g.JaxprEqn], rules: Rules) -> bool:
    return all(
        eqn.primitive in FORWARD
        and rules.get(eqn.primitive) is RULES[eqn.primitive]
        and all(_has_forward(jaxpr.eqns, rules) for jaxpr in jaxprs_in_params(eqn.params))
        for eqn in eqns
    )


def push(staged: FlatFunction, tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return the outputs, and the tangents of the values among them."""
    num_values = len(staged.value_avals)

    def run(*leaves):
        outs = eval_graph(staged.graph, leaves)
        return outs[:num_values], outs[num_values:]

    values, changes, others = jax.jvp(run, staged.leaves, list(tangents), has_aux=True)
    return [*values, *others], changes
