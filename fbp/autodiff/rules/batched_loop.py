"""A batch of loops as one loop, in which a lane that has ended contributes exactly zero.

vmap turns a loop into one whose condition has a value per lane, and which runs while one of them
holds. The body runs on every lane, and a select discards its result for a lane that has ended.
Backward, discarding is not enough: zero times an infinite derivative is NaN, and no constant is a
state at which every body has a finite one. The lane's first state is: the lane has stepped from
it, so that the derivative there is a factor of the lane's own gradient. A lane that has ended
takes that step again. A lane that takes no step at all takes the first step of one that does,
with its state and its constants.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.avals import struct, varying
from fbp.autodiff.dce import dce
from fbp.autodiff.dependence import split_by_dependence
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.interpret import Environment, bind, eval_graph
from fbp.autodiff.lanes import lanes_of_consts
from fbp.autodiff.rules.collectives import pvary_p
from fbp.autodiff.rules.lane_select import select_lanes

Lanes = dict[int, int]


@g.weakref_cache
def one_loop(
    body: Graph, condition: Graph, num_condition_consts: int, num_body_consts: int
) -> Graph:
    """Build the program that runs a batch of loops as one: (condition's constants, body's,
    state)."""
    if varying(condition.outvars[0].aval):
        body = inline_meshed_jits(body)
    before, body = spread_before(body, num_body_consts)
    num_consts = len(before.outvars)
    fixed = [a is b for a, b in zip(body.invars[num_consts:], body.outvars, strict=True)]
    num_lanes = condition.outvars[0].aval.ndim  # type: ignore[attr-defined]
    lanes = lanes_of_consts(body, num_consts, num_lanes)

    def run(*ins):
        consts = eval_graph(before, ins[num_condition_consts:][:num_body_consts])
        init = ins[num_condition_consts + num_body_consts :]

        def goes_on(state):
            return eval_graph(condition, (*ins[:num_condition_consts], *state))[0]

        if not num_lanes:
            return lax.while_loop(goes_on, lambda s: eval_graph(body, (*consts, *s)), list(init))
        steps = goes_on(init)
        consts, first = _first_step(steps, consts, lanes, init)

        def step(state):
            more = goes_on(state)
            at = [
                x if same else select_lanes(more, old, x)
                for same, old, x in zip(fixed, state, first, strict=True)
            ]
            new_state = eval_graph(body, (*consts, *at))
            return [
                old if same else select_lanes(more, new, old)
                for same, new, old in zip(fixed, new_state, state, strict=True)
            ]

        return lax.while_loop(lambda state: jnp.any(goes_on(state)), step, list(init))

    condition_consts = condition.invars[:num_condition_consts]
    types = (v.aval for v in (*condition_consts, *before.invars, *body.invars[num_consts:]))
    return g.stage(run, *map(struct, types))[0]


def spreads(body: Graph, num_consts: int) -> list[JaxprEqn]:
    """Find the equations that broadcast values of the constants alone over a mesh."""
    known, _ = split_by_dependence(body.eqns, body.invars[num_consts:])
    return [eqn for eqn in known if eqn.primitive is pvary_p]


@g.weakref_cache
def inline_meshed_jits(body: Graph) -> Graph:
    """Return the same program with its jits inlined, if they broadcast anything over a mesh."""

    def run(graph, args):
        env = Environment(graph, args)
        for eqn in graph.eqns:
            ins = env.read(eqn.invars)
            opens = eqn.primitive is p.jit_p and _spreads_within(g.body(eqn.params))
            env.write(eqn.outvars, run(g.body(eqn.params), ins) if opens else bind(eqn, ins))
        return env.results(graph)

    if not _spreads_within(body):
        return body
    return g.stage(lambda *ins: run(body, ins), *(struct(v.aval) for v in body.invars))[0]


def _spreads_within(graph: Graph) -> bool:
    return any(
        eqn.primitive is pvary_p
        or (eqn.primitive is p.jit_p and _spreads_within(g.body(eqn.params)))
        for eqn in graph.eqns
    )


def spread_before(body: Graph, num_consts: int) -> tuple[Graph, Graph]:
    """Return a program that broadcasts constants over a mesh, to run before the loop, and the body
    without it: its transpose is a sum over devices, which may take different numbers of steps."""
    consts, state = body.invars[:num_consts], body.invars[num_consts:]
    moved = spreads(body, num_consts)
    new_state = tuple(eqn.outvars[0] for eqn in moved)
    before = replace(body, invars=consts, outvars=(*consts, *new_state))
    rest = tuple(eqn for eqn in body.eqns if eqn not in moved)
    return dce(before), dce(replace(body, invars=(*consts, *new_state, *state), eqns=rest))


def _first_step(
    steps: Any, consts: Sequence[Any], lanes: Sequence[Lanes], init: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Return the constants and the first states, those of another lane for a lane without a
    step."""
    every = {i: i for i in range(steps.ndim)}
    if not steps.size:
        return list(consts), list(map(lax.stop_gradient, init))
    shared = {i for some in lanes if len(some) < steps.ndim for i in some}
    near, first = _stepping_lanes(steps, shared)
    return (
        [
            _borrowed(steps, near if len(some) == steps.ndim else first, x, some)
            for x, some in zip(consts, lanes, strict=True)
        ],
        [lax.stop_gradient(_borrowed(steps, near, x, every)) for x in init],
    )


def _stepping_lanes(steps: Any, shared: set[int]) -> tuple[tuple, tuple]:
    """Return for each lane the indices of one that takes a step, among those with the same
    constants if constants are shared along an axis; of the first lane if there is none."""
    number = np.arange(steps.size, dtype=np.int32).reshape(steps.shape)
    stepping = jnp.where(steps, number, steps.size)
    others = tuple(i for i in range(steps.ndim) if i not in shared)
    first = jnp.min(stepping, keepdims=True)
    near = jnp.min(stepping, axis=others, keepdims=True) if others else stepping
    near = jnp.where(near < steps.size, near, first)
    return jnp.unravel_index(near, steps.shape), jnp.unravel_index(first, steps.shape)


def _borrowed(steps: Any, donor: tuple, x: Any, lanes: Lanes) -> Any:
    """Return a value in lanes that take a step, and that of the donor in the others."""
    if not lanes:
        return x
    ordered = sorted(lanes)
    axes, front = [lanes[i] for i in ordered], range(len(ordered))
    x = jnp.moveaxis(x, axes, front)
    absent = tuple(i for i in range(steps.ndim) if i not in lanes)
    index = tuple(lax.squeeze(donor[i], absent) for i in ordered)
    other = jnp.broadcast_to(x.at[index].get(mode="clip"), x.shape)
    selected = select_lanes(jnp.any(steps, axis=absent), x, lax.stop_gradient(other))
    return jnp.moveaxis(selected, front, axes)
