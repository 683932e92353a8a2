"""Calls of one program: jit stays jit, other calls are their bodies."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.activity import perturbed_outputs
from fbp.autodiff.backprop import forward
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.inline import inlined
from fbp.autodiff.interpret import apply_primitive, eval_graph
from fbp.autodiff.masks import merge_by_mask, not_, select
from fbp.autodiff.partition import ForwardBackward, joint, partition
from fbp.autodiff.restage import COMPOSITE, CUSTOM_VMAP, Params, jitted
from fbp.autodiff.rule import AddingPullback, Applied, Call, Cotangents, Rules, adds_plainly, call
from fbp.autodiff.rules.running_totals import into_totals
from fbp.autodiff.save_policy import save_everything
from fbp.autodiff.undefined import LinearInputRead, is_undefined, undefined

Masks = tuple[tuple[bool, ...], tuple[bool, ...], tuple[bool, ...]]


def inline(call: Call, ins: list[Any]) -> Applied:
    """Differentiate a call as its body."""
    return forward(call.rules, g.body(call.params), ins, call.needs_ct, call.has_out_ct)


def call_unchanged(call: Call, ins: list[Any]) -> Applied:
    """Run the call unchanged, and differentiate its body."""
    if any(map(is_undefined, ins)):
        return inline(call, ins)
    return apply_primitive(call.eqn, ins), inline(call, ins)[1]


def unknown(call: Call, what: str) -> Applied:
    """Raise for linear outputs if a value that must be known depends on a linear input."""

    def pull(_):
        raise LinearInputRead(f"{what} depends on the value of a linear input", g.source(call.eqn))

    return undefined(call.eqn.outvars), pull


def call_activity(eqn: JaxprEqn, rules: Rules, needs_ct: tuple[bool, ...]) -> Sequence[bool]:
    """Say which outputs of a call are perturbed: those of its body."""
    return perturbed_outputs(g.body(eqn.params), rules, needs_ct)


def jit(call: Call, ins: list[Any]) -> Applied:
    """Pull back through a jit by two jits: one for the forward pass, one for the backward pass."""
    settings = tuple((k, v) for k, v in call.params.items() if k != "jaxpr")
    halves = _jit(g.body(call.params), call.rules, masks(call, ins), settings)
    outs, residuals = halves.run_forward(ins)
    return outs, AddingPullback(
        functools.partial(halves.run_backward, residuals),
        functools.partial(_added, halves, residuals),
    )


def _added(
    halves: ForwardBackward, residuals: list[Any], cts: Cotangents, arrived: Cotangents
) -> tuple[Cotangents, Sequence[bool]] | None:
    """Run a jit backward, and add in place where its program writes into zeros."""
    has_in_ct = halves.signature.has_in_ct
    totals, outs = select(has_in_ct, arrived), halves.backward.outvars
    fits = tuple(adds_plainly(ct, v) for ct, v in zip(totals, outs, strict=True))
    backward, is_sum = _adding(halves.backward, fits)
    if backward is None:
        return None
    adding = replace(halves, backward=backward)
    in_cts = adding.run_backward((*select(is_sum, totals), *residuals), cts)
    return in_cts, merge_by_mask(has_in_ct, is_sum)


@g.weakref_cache
def _adding(backward: Graph, fits: tuple[bool, ...]) -> tuple[Graph | None, list[bool]]:
    """Return the program that adds in place those cotangents that it can, of those that fit; None
    if there are none: what is remembered of a program must not keep it alive."""
    if not any(fits):
        return None, [False for _ in fits]
    program = inlined(backward)
    graph, added = into_totals(program, select(fits, program.outvars))
    is_sum = [fits[i] and added[sum(fits[:i])] for i in range(len(fits))]
    if not any(is_sum):
        return None, is_sum

    @jax.jit
    def adding_backward(*args: Any) -> list[Any]:
        return eval_graph(graph, args)

    return g.stage(adding_backward, *(v.aval for v in graph.invars))[0], is_sum


@g.weakref_cache
def _jit(
    body: Graph, rules: Rules, masks: Masks, settings: tuple[tuple[str, Any], ...]
) -> ForwardBackward:
    params = dict(settings)
    parts = partition(joint(body, rules, *masks), save_everything)
    backward = _backward_params(params, parts) | {"name": f"{params['name']}_backward"}
    return replace(
        parts,
        forward=jitted(parts.forward, _forward_params(params, parts)),
        backward=jitted(parts.backward, backward),
    )


def _forward_params(params: Params, parts: ForwardBackward) -> Params:
    """Lay out inputs and outputs as the user said, and do not donate what the backward pass
    reads."""
    known, has_value = not_(parts.signature.linear), not_(parts.signature.linear_outs)
    read = {r.index for r in parts.residuals if r.origin == "input"}
    donated = select(known, params["donated_invars"])
    return params | {
        "in_shardings": select(known, params["in_shardings"]),
        "in_layouts": select(known, params["in_layouts"]),
        "donated_invars": [d and i not in read for i, d in enumerate(donated)],
        "out_shardings": select(has_value, params["out_shardings"]),
        "out_layouts": select(has_value, params["out_layouts"]),
    }


def _backward_params(params: Params, parts: ForwardBackward) -> Params:
    """Lay out a cotangent as its primal."""
    has_out_ct, has_in_ct = parts.signature.has_out_ct, parts.signature.has_in_ct
    free = [None] * len(parts.residuals)
    return params | {
        "in_shardings": [*free, *select(has_out_ct, params["out_shardings"])],
        "in_layouts": [*free, *select(has_out_ct, params["out_layouts"])],
        "donated_invars": [],
        "out_shardings": select(has_in_ct, params["in_shardings"]),
        "out_layouts": select(has_in_ct, params["in_layouts"]),
    }


def masks(call: Call, ins: list[Any]) -> Masks:
    """Say which inputs need a cotangent, which outputs have one, and which inputs are linear."""
    return call.needs_ct, call.has_out_ct, tuple(map(is_undefined, ins))


RULES = Rules(
    call(p.jit_p, jit, call_activity, under_policy=lambda policy: inline),
    call(p.closed_call_p, inline, call_activity),
    call(p.call_p, inline, call_activity),
    call(COMPOSITE, call_unchanged, call_activity),
    call(CUSTOM_VMAP, call_unchanged, call_activity),
).tag("forward_mode")
