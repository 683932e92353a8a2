"""Functions whose derivative the user states: custom_jvp, custom_vjp, linear_call, HiPrimitives."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
from jax.custom_derivatives import linear_call
from jax.extend.core import primitives as p
from jax.interpreters.ad import Zero

from fbp.autodiff import graph as g
from fbp.autodiff.activity import differentiable_outputs
from fbp.autodiff.avals import as_array, struct, zeros
from fbp.autodiff.backprop import forward, known
from fbp.autodiff.compat import NullAccum, ValAccum, call_hi_primitive_p
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.interpret import apply_primitive, eval_graph
from fbp.autodiff.masks import merge_by_mask, select
from fbp.autodiff.rule import Applied, Call, Rules, call
from fbp.autodiff.rules.calls import inline, unknown
from fbp.autodiff.undefined import is_undefined, reads_linear_input, undefined
from fbp.autodiff.user_rules import custom_jvp_graph, custom_vjp_backward, custom_vjp_forward


def custom_jvp(call: Call, ins: list[Any]) -> Applied:
    """Transpose the user's rule, which is linear from tangents to tangents."""
    if any(map(is_undefined, ins)):
        return inline(call, ins)
    num_consts = call.params["num_consts"]
    primals, active = ins[num_consts:], call.needs_ct[num_consts:]
    operands = None if any(call.needs_ct[:num_consts]) else ins  # closed over, without derivative
    rule, has_tangent_in, has_tangent_out = custom_jvp_graph(call.eqn, active, operands)
    with _linear_in_tangents(call.eqn):
        outs, pullback = pushed_forward(
            call, rule, primals, select(has_tangent_in, active), has_tangent_out
        )

    def pull(cts):
        with _linear_in_tangents(call.eqn):
            in_cts = pullback(cts)
        return [None] * num_consts + merge_by_mask(has_tangent_in, in_cts)

    return outs, pull


def pushed_forward(
    call: Call,
    rule: Graph,
    primals: list[Any],
    active: Sequence[bool],
    has_tangent_out: Sequence[bool],
) -> Applied:
    """Run a program (primals, tangents) -> (outs, tangents) forward, and return its outputs and its
    transpose from the tangents of the outputs that have one to those of the active inputs."""
    tangents = undefined(rule.invars[len(primals) :])
    outs, pullback = forward(
        call.rules,
        rule,
        [*primals, *tangents],
        needs_ct=[False] * len(primals) + list(active),
        has_out_ct=[False] * len(has_tangent_out) + select(has_tangent_out, call.has_out_ct),
    )

    def pull(cts):
        return pullback([None] * len(has_tangent_out) + select(has_tangent_out, cts))[
            len(primals) :
        ]

    return outs[: len(has_tangent_out)], pull


@contextmanager
def _linear_in_tangents(eqn: JaxprEqn) -> Iterator[None]:
    try:
        yield
    except (TypeError, AttributeError) as error:
        if not reads_linear_input(error):
            raise
        raise TypeError(
            f"the rule of a custom_jvp function, used at {g.location(eqn)}, reads the value of a "
            "tangent: the tangents that it returns must be linear in those that it gets, and a "
            f"custom_vjp function cannot be applied to them. ({error})"
        ) from error


def custom_vjp(call: Call, ins: list[Any]) -> Applied:
    """Run the user's fwd forward, and the user's bwd backward."""
    if any(map(is_undefined, ins)):
        outs = known(call.rules, g.body(call.params), ins)
        return outs, unknown(call, "what a custom_vjp function is applied to")[1]
    outs, residuals = custom_vjp_forward(call.eqn, ins, call.needs_ct)
    return outs, lambda cts: custom_vjp_backward(call.eqn, residuals, cts)


def optimized_forward(call: Call, ins: list[Any]) -> Applied:
    """Differentiate the fwd of a custom_vjp function with `optimize_remat` once more."""
    return forward(
        call.rules, g.from_jaxpr(call.params["fwd_jaxpr"]), ins, call.needs_ct, call.has_out_ct
    )


def linear(call: Call, ins: list[Any]) -> Applied:
    """Pull back y = A(r) x: to x by the user's transpose, itself a linear_call whose transpose is
    A(r); to r by the body."""
    params = call.params
    body, num_consts = g.from_jaxpr(params["callee"]), params["num_callee_consts"]
    num_fixed = num_consts + params["num_res"]
    consts, residuals = ins[:num_consts], ins[num_consts:num_fixed]
    of_fixed = [want and i < num_fixed for i, want in enumerate(call.needs_ct)]

    def pull(cts):
        transpose, transpose_consts = params["transpose_thunk"]()
        arrived = [
            zeros(struct(v.aval)) if ct is None else ct
            for ct, v in zip(cts, body.outvars, strict=True)
        ]
        in_cts = linear_call(
            lambda fixed, cts: eval_graph(g.from_jaxpr(transpose), (*fixed[0], *fixed[2], *cts)),
            lambda fixed, xs: eval_graph(body, (*fixed[1], *fixed[2], *xs)),
            (transpose_consts, consts, residuals),
            arrived,
        )
        return [None] * num_fixed + in_cts

    linear_ins = any(map(is_undefined, ins))
    outs = known(call.rules, body, ins) if linear_ins else apply_primitive(call.eqn, ins)
    if not any(of_fixed):
        return outs, pull
    _, pull_fixed = forward(call.rules, body, ins, of_fixed, call.has_out_ct)
    return outs, lambda cts: [*pull_fixed(cts)[:num_fixed], *pull(cts)[num_fixed:]]


def hi_primitive(call: Call, ins: list[Any]) -> Applied:
    """Run the vjp_fwd of a `jax.experimental.hijax` primitive forward, and its vjp_bwd backward."""
    prim = call.params["_prim"]
    if any(map(is_undefined, ins)):
        return unknown(call, f"what {prim} is applied to")
    ins = [as_array(x) for x in ins]
    needs_ct = jax.tree.unflatten(prim.in_tree, call.needs_ct)
    out, residuals, *more = prim.vjp_fwd(needs_ct, *jax.tree.unflatten(prim.in_tree, ins))
    structured = more[1:2]  # since JAX 0.11 a rule may split its residuals in two

    def pull(cts):
        arrived = [
            Zero(a.to_ct_aval()) if ct is None else ct
            for ct, a in zip(cts, prim.out_avals_flat, strict=True)
        ]
        totals = [
            (ValAccum if want else NullAccum)(a.to_ct_aval())
            for want, a in zip(call.needs_ct, prim.in_avals_flat, strict=True)
        ]
        out_ct = jax.tree.unflatten(prim.out_tree, arrived)
        prim.vjp_bwd(residuals, *structured, out_ct, *jax.tree.unflatten(prim.in_tree, totals))
        in_cts = [
            total.freeze() if want else None
            for total, want in zip(totals, call.needs_ct, strict=True)
        ]
        return [None if isinstance(ct, Zero) else ct for ct in in_cts]

    return jax.tree.leaves(out), pull


def _linear_identity(x: Any) -> Any:
    return linear_call(lambda _, x: x, lambda _, ct: ct, (), x)


def _optimized_identity(x: Any) -> Any:
    fun = jax.custom_vjp(lambda x: x)
    fun.defvjp(lambda x: (x, x), lambda _, ct: (ct,), optimize_remat=True)
    (eqn,) = g.stage(fun, x)[0].eqns
    return custom_vjp_forward(eqn, [x], [True])[0]


RULES = Rules(
    call(p.custom_jvp_call_p, custom_jvp, differentiable_outputs),
    call(p.custom_vjp_call_p, custom_vjp, differentiable_outputs),
    call(g.primitive_of(_optimized_identity, 0.0), optimized_forward, differentiable_outputs),
    call(g.primitive_of(_linear_identity, 0.0), linear, differentiable_outputs),
    call(call_hi_primitive_p, hi_primitive, differentiable_outputs),
).tag(forward_mode="custom_jvp_call")
