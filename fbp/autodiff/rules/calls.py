"""Primitives that hold one program: jit, checkpoint, custom_jvp, custom_vjp."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.backprop import forward, reached_outputs
from fbp.autodiff.graph import Graph, JaxprEqn, Unevaluated
from fbp.autodiff.partition import Halves, halves, joint, merge, select
from fbp.autodiff.rule import Applied, Call, Rules, call
from fbp.autodiff.store import by_policy, everything

Masks = tuple[tuple[bool, ...], tuple[bool, ...], tuple[bool, ...]]


def inline(call: Call, ins: list[Any]) -> Applied:
    """A call is its body."""
    body = g.body(call.params)
    return forward(call.rules, body, ins, call.wanted, call.useful)


def reach(eqn: JaxprEqn, rules: Rules, wanted: tuple[bool, ...]) -> Sequence[bool]:
    """A call reaches what its body reaches."""
    return reached_outputs(g.body(eqn.params), rules, wanted)


def jit(call: Call, ins: list[Any]) -> Applied:
    """A jit stays a jit: one for the forward pass, one for the backward pass."""
    return _jit(g.body(call.params), call.rules, masks(call, ins), call.params["name"]).run(ins)


@g.remembered
def _jit(body: Graph, rules: Rules, masks: Masks, name: str) -> Halves:
    def wrap(half: Graph, direction: str) -> Graph:
        run = _runner(half, name if direction == "forward" else f"{name}_backward")
        return wrapped(jax.jit(run), half)

    return halves(joint(body, rules, *masks), everything, wrap)


def checkpoint(call: Call, ins: list[Any]) -> Applied:
    """The backward pass computes again what the policy does not store."""
    params = call.params
    prevent_cse = any(jax.tree.leaves(params["prevent_cse"]))  # one bool, or one per input
    return _checkpoint(
        g.body(params), call.rules, masks(call, ins), params["policy"], prevent_cse
    ).run(ins)


@g.remembered
def _checkpoint(
    body: Graph, rules: Rules, masks: Masks, policy: Callable | None, prevent_cse: bool
) -> Halves:
    def wrap(half: Graph, direction: str) -> Graph:
        def run(*args):
            late = direction == "backward" and prevent_cse and args
            return g.evaluate(half, lax.optimization_barrier(args) if late else args)

        remat = jax.checkpoint(run, prevent_cse=prevent_cse, policy=policy)
        return wrapped(remat, half)

    rules = rules if policy is None else rules | JITS_INLINED  # the policy sees into jits
    return halves(joint(body, rules, *masks), by_policy(policy), wrap)


def custom_jvp(call: Call, ins: list[Any]) -> Applied:
    """The user's rule makes tangents, linearly from tangents: its transpose makes cotangents."""
    if any(isinstance(x, Unevaluated) for x in ins):
        return inline(call, ins)
    num_consts = call.params["num_consts"]
    primals, active = ins[num_consts:], call.wanted[num_consts:]
    rule, given, made = g.custom_jvp_graph(call.eqn, active)
    tangents = [Unevaluated(v.aval) for v in rule.invars[len(primals) :]]
    no_outs = [False] * len(made)
    with _linear_in_tangents(call.eqn):
        outs, pullback = forward(
            call.rules,
            rule,
            [*primals, *tangents],
            wanted=[False] * len(primals) + select(given, active),
            useful=[*no_outs, *select(made, call.useful)],
        )

    def pull(cts):
        with _linear_in_tangents(call.eqn):
            in_cts = pullback([None] * len(no_outs) + select(made, cts))
        return [None] * num_consts + merge(given, in_cts[len(primals) :])

    return outs[: len(no_outs)], pull


@contextmanager
def _linear_in_tangents(eqn: JaxprEqn) -> Iterator[None]:
    try:
        yield
    except TypeError as error:
        if Unevaluated.__name__ not in str(error):
            raise
        raise TypeError(
            f"the rule of a custom_jvp function, used at {g.source(eqn)}, reads the value of a "
            "tangent: the tangents that it returns must be linear in those that it gets, and a "
            "custom_vjp function cannot be applied to them."
        ) from error


def custom_vjp(call: Call, ins: list[Any]) -> Applied:
    """The user's fwd runs forward, the user's bwd runs backward."""
    outs, residuals = g.custom_vjp_forward(call.eqn, ins, call.wanted)
    return outs, lambda cts: g.custom_vjp_backward(call.eqn, residuals, cts)


def masks(call: Call, ins: list[Any]) -> Masks:
    """Which inputs are wanted, which outputs useful, which inputs linear."""
    return call.wanted, call.useful, tuple(isinstance(x, Unevaluated) for x in ins)


def wrapped(fun: Callable, half: Graph) -> Graph:
    """The program that calls `fun` where `half` stood."""
    return g.stage(fun, *(g.struct(v.aval) for v in half.invars))[0]


def _runner(half: Graph, name: str) -> Callable:
    def run(*args):
        return g.evaluate(half, args)

    run.__name__ = run.__qualname__ = name
    return run


JITS_INLINED = call(p.jit_p, inline, reach)

RULES = Rules(
    call(p.jit_p, jit, reach),
    call(p.closed_call_p, inline, reach),
    call(p.remat_p, checkpoint, reach),
    call(p.custom_jvp_call_p, custom_jvp),
    call(p.custom_vjp_call_p, custom_vjp),
)
