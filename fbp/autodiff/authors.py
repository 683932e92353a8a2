"""The rules that the authors of other libraries state for JAX, as a table for fbp."""

from collections.abc import Callable
from typing import Any

from jax.extend.core import Primitive
from jax.interpreters import ad

from fbp.autodiff.backprop import MissingRule
from fbp.autodiff.rule import Applied, Call, Rule, Rules, within_scope
from fbp.autodiff.rules.from_jvp import apply_transpose, rule_from_jvp
from fbp.autodiff.stated_for_jax import stated_for_jax
from fbp.autodiff.table import RULES
from fbp.autodiff.undefined import is_undefined

TRANSPOSE_ALONE = (
    "Its author states for JAX how to transpose it, and no derivative, so that jax.grad raises "
    "here too."
)


def rules_of_authors() -> Rules:
    """Return fbp's table with the rules that other libraries have stated for JAX until now.

    A primitive's author tells JAX how to push tangents forward and, where it is linear, how to
    transpose it, or the transpose alone; fbp makes a rule of that as `fbp.rule_from_jvp` does.
    Where fbp and a library both have a rule for a primitive, the library's is taken. No rule of
    JAX's own modules is.

    Returns:
      A table of rules: all of `fbp.RULES`, and those of the libraries that are imported.

    Source: https://docs.jax.dev/en/latest/jax-primitives.html

    >>> import fbp, jax.numpy as jnp
    >>> print(fbp.grad(jnp.sin, rules=fbp.rules_of_authors())(0.0))
    1.0
    """
    return with_rules_of_authors(RULES)


def with_rules_of_authors(rules: Rules) -> Rules:
    """Return a table with the rules of authors where it has fbp's rule or none; the same table if
    there are none."""
    chosen = [p for p in stated_for_jax() if rules.get(p) is RULES.get(p)]
    return rules | [_rule(p) for p in chosen] if chosen else rules


def _rule(primitive: Primitive) -> Rule:
    transpose = ad.primitive_transposes.get(primitive)
    if pushforward := ad.primitive_jvps.get(primitive):
        return rule_from_jvp(primitive, pushforward, transpose)
    return _from_transpose(primitive, ad.primitive_transposes[primitive])


def _from_transpose(primitive: Primitive, transpose: Callable) -> Rule:
    """Make a rule for a primitive that is only ever applied to tangents."""

    def apply(call: Call, ins: list[Any]) -> Applied:
        if not any(map(is_undefined, ins)):
            raise MissingRule(call.eqn, "", TRANSPOSE_ALONE)
        return apply_transpose(transpose, call, ins)

    return Rule(primitive, "transpose", (transpose,), within_scope(apply))
