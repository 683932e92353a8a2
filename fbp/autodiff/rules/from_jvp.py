"""Rules stated forward, as JAX's rule authors state them: fbp transposes them."""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import Primitive
from jax.interpreters import ad
from jax.interpreters.ad import Zero

from fbp.autodiff import graph as g
from fbp.autodiff.avals import as_array, differentiable, struct
from fbp.autodiff.discrete import check_has_cotangent
from fbp.autodiff.graph import Graph
from fbp.autodiff.interpret import apply_primitive
from fbp.autodiff.masks import merge_by_mask, not_, select
from fbp.autodiff.rule import Applied, Call, Rule, within_scope
from fbp.autodiff.rules.custom import pushed_forward
from fbp.autodiff.undefined import is_undefined


def rule_from_jvp(
    primitive: Primitive, pushforward: Callable, transpose: Callable | None = None
) -> Rule:
    """Make a rule from what the author of a primitive states for JAX: fbp transposes it.

    Args:
      primitive: the primitive to differentiate.
      pushforward: `pushforward(primals, tangents, **params)` returns outputs and tangents, as in
        `jax.interpreters.ad.primitive_jvps`.
      transpose: needed if `pushforward` applies the primitive itself to tangents:
        `transpose(ct, *operands, **params)` returns one cotangent, or None, per operand, as in
        `primitive_transposes`.

    Returns:
      A rule, for `fbp.RULES | rule`.

    Raises:
      ValueError: the primitive's outputs never have a cotangent.

    >>> import fbp
    >>> from jax import lax
    >>> sine = fbp.rule_from_jvp(
    ...     lax.sin_p, lambda x, dx, **_: (lax.sin(*x), dx[0] * lax.cos(*x))
    ... )
    >>> float(fbp.grad(lax.sin, rules=fbp.RULES | sine)(0.0))
    1.0
    """

    check_has_cotangent(primitive)

    def apply(call: Call, ins: list[Any]) -> Applied:
        if any(map(is_undefined, ins)):
            return apply_transpose(transpose, call, ins)
        program, has_tangent_out = _program(pushforward, call, ins)
        active = [True] * call.needs_ct.count(True)
        outs, pullback = pushed_forward(call, program, ins, active, has_tangent_out)
        return outs, lambda cts: merge_by_mask(call.needs_ct, pullback(cts))

    return Rule(primitive, "jvp", (pushforward, transpose), within_scope(apply))


def _program(pushforward: Callable, call: Call, ins: list[Any]) -> tuple[Graph, list[bool]]:
    """Stage the rule as a program of the primals and the active tangents; return it with which
    outputs have a tangent."""
    prim = call.eqn.primitive
    avals = [v.aval for v in call.eqn.invars]
    has_tangent_out: list[bool] = []

    def run(primals: Sequence[Any], tangents_in: Sequence[Any]) -> tuple[list, list]:
        zeros = [Zero(a.to_tangent_aval()) for a in select(not_(call.needs_ct), avals)]
        outs, tangents = pushforward(
            list(primals), merge_by_mask(call.needs_ct, tangents_in, zeros), **call.params
        )
        if not prim.multiple_results:
            outs, tangents = [outs], [tangents]
        has_tangent_out.extend(not isinstance(t, Zero) and differentiable(t) for t in tangents)
        return list(outs), select(has_tangent_out, tangents)

    tangents = [struct(a.to_tangent_aval()) for a in select(call.needs_ct, avals)]
    return g.stage(run, ins, tangents)[0], has_tangent_out


def apply_transpose(transpose: Callable | None, call: Call, ins: list[Any]) -> Applied:
    """Apply the primitive to tangents, and pull back by the author's transpose."""
    prim = call.eqn.primitive
    if transpose is None:
        raise TypeError(
            f"the rule of {prim.name}, used at {g.location(call.eqn)}, applies it to tangents: "
            "state its transpose too."
        )
    operands = [ad.UndefinedPrimal(x.aval) if is_undefined(x) else as_array(x) for x in ins]

    def pull(cts):
        arrived = [
            Zero(v.aval.to_ct_aval()) if ct is None else ct
            for ct, v in zip(cts, call.eqn.outvars, strict=True)
        ]
        in_cts = transpose(
            arrived if prim.multiple_results else arrived[0], *operands, **call.params
        )
        return [
            None if ct is None or ct is Zero or isinstance(ct, Zero) or not want else ct
            for ct, want in zip(in_cts, call.needs_ct, strict=True)
        ]

    return apply_primitive(call.eqn, ins), pull
