"""Checkpoint: the backward pass computes again what the policy does not store."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.graph import Graph
from fbp.autodiff.partition import Halves, halves, joint
from fbp.autodiff.rule import Applied, Call, Rules, call
from fbp.autodiff.rules.calls import Masks, inline, masks, reach, wrapped
from fbp.autodiff.store import by_policy


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


JITS_INLINED = call(p.jit_p, inline, reach)

RULES = Rules(call(p.remat_p, checkpoint, reach))
