"""jax.checkpoint: the backward pass computes again what the policy does not store."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core import primitives as p
from jax.ref import AbstractRef

from fbp.autodiff import graph as g
from fbp.autodiff.avals import full, struct, varying
from fbp.autodiff.graph import Graph
from fbp.autodiff.interpret import eval_graph
from fbp.autodiff.partition import ForwardBackward, joint, partition
from fbp.autodiff.rule import Applied, Call, Rules, call, within_scope
from fbp.autodiff.rules.calls import Masks, call_activity, masks
from fbp.autodiff.save_policy import Hidden, Policy, by_policy, with_offloading


def checkpoint(call: Call, ins: list[Any]) -> Applied:
    """Store what the policy names, and compute the rest again in the backward pass."""
    params = call.params
    prevent_cse = any(jax.tree.leaves(params["prevent_cse"]))  # one bool, or one per input
    return checkpointed(
        g.body(params), call.rules, masks(call, ins), params["policy"], prevent_cse
    ).run(ins)


def barrier(args: Sequence[Any]) -> list[Any]:
    """Keep XLA from sharing computations across; one barrier for each way to vary over devices."""
    types = [jax.typeof(x) for x in args]
    varying = [None if isinstance(t, AbstractRef) else t.mat.varying for t in types]
    passed = list(args)
    for axes in {*varying} - {None}:
        indices = [i for i, other in enumerate(varying) if other == axes]
        through = lax.optimization_barrier([args[i] for i in indices])
        for i, x in zip(indices, through, strict=True):
            passed[i] = x
    return passed


def hidden(half: Graph, args: Sequence[Any]) -> list[Any]:
    """Run a program within a branch that is always taken, which XLA cannot know."""
    if any(varying(v) for v in (*half.invars, *half.outvars)):
        return eval_graph(half, args)
    always = lax.rng_uniform(np.float32(0), np.float32(1), ()) < 2
    types = [struct(v.aval) for v in half.outvars]
    return lax.cond(
        always,
        lambda *xs: eval_graph(half, xs),
        lambda *_: [full(t, 0) for t in types],
        *args,
    )


@g.weakref_cache
def checkpointed(
    body: Graph, rules: Rules, masks: Masks, policy: Policy | None, prevent_cse: bool
) -> ForwardBackward:
    """Return both halves of a program; the backward one computes again what the policy does not
    store."""

    hides = isinstance(policy, Hidden)
    policy = policy.policy if isinstance(policy, Hidden) else policy

    def wrap(half: Graph, direction: str) -> Graph:
        def run(*args):
            if not (direction == "backward" and prevent_cse and args):
                return eval_graph(half, args)
            args = barrier(args)
            if not hides:
                return eval_graph(half, args)
            plainly = lambda *xs: eval_graph(half, xs)
            branch = lambda *xs: hidden(half, xs)
            return lax.platform_dependent(*args, cpu=branch, default=plainly)

        remat = jax.checkpoint(run, prevent_cse=prevent_cse, policy=policy)
        return g.stage(remat, *(struct(v.aval) for v in half.invars))[0]

    if policy is None:
        return partition(joint(body, rules, *masks), by_policy(policy), wrap)
    program = joint(body, under_policy(rules, policy), *masks)
    offloading = program._replace(graph=with_offloading(program.graph, policy))
    return partition(offloading, by_policy(policy), wrap)


@g.weakref_cache
def under_policy(rules: Rules, policy: Policy) -> Rules:
    """Return the rules that let a policy see into programs within programs."""
    seen = [rule for rule in rules.values() if rule.under_policy is not None]
    return rules | [replace(rule, apply=within_scope(rule.under_policy(policy))) for rule in seen]


RULES = Rules(call(p.remat_p, checkpoint, call_activity)).tag("forward_mode")
