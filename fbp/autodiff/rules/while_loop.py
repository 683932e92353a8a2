"""Loops whose length is known only when they end: while_loop, and fori_loop with traced bounds.

Forward, the loop saves some of its states. Backward, the states between them are computed
again, and each step is run backward from its state. Memory is that of the saved states,
whatever the length; `revolve.py` chooses them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.avals import accumulate, cotangent_type, struct, varying, zeros
from fbp.autodiff.backprop import forward, known
from fbp.autodiff.dce import dce, read_by
from fbp.autodiff.dependence import split_by_dependence
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.inline import inlined
from fbp.autodiff.interpret import eval_graph
from fbp.autodiff.masks import merge_by_mask, not_, select
from fbp.autodiff.partition import (
    ForwardBackward,
    Joint,
    Residual,
    Signature,
    cut,
    joint,
    linear_outputs,
)
from fbp.autodiff.recompute import rematerialized
from fbp.autodiff.rule import Applied, Call, Rule, Rules, call
from fbp.autodiff.rules.batched_loop import inline_meshed_jits, one_loop, spreads
from fbp.autodiff.rules.calls import Masks, masks, unknown
from fbp.autodiff.rules.loop_checks import check_again, check_steps
from fbp.autodiff.rules.loops import (
    LoopLayout,
    fixed_point,
    linear_in_the_end,
    perturbed_in_the_end,
)
from fbp.autodiff.rules.reads_first import reads_first
from fbp.autodiff.rules.revolve import SavedStates, empty, first_stop, free, save_online
from fbp.autodiff.rules.running_totals import into_totals
from fbp.autodiff.save_policy import save_nothing
from fbp.autodiff.undefined import undefined

NUM_SLOTS = 32


@dataclass(frozen=True, eq=False)
class While:
    """while condition(consts, fixed, state): state = body(consts, fixed, state)

    A part of the state that the body returns unchanged is fixed. `order` sorts the equation's
    operands: the condition's constants, the body's, the fixed ones, the state.
    """

    condition: Graph
    body: Graph
    num_condition_consts: int
    loop: LoopLayout
    is_fixed: tuple[bool, ...]
    order: tuple[int, ...]


@g.weakref_cache
def _read(body: Graph, condition: Graph, num_condition_consts: int, num_body_consts: int) -> While:
    first = num_condition_consts + num_body_consts
    state = body.invars[num_body_consts:]
    fixed = tuple(a is b for a, b in zip(state, body.outvars, strict=True))
    num_slots = range(first, first + len(fixed))

    def sort(values: Sequence[Any], consts: int) -> tuple[Any, ...]:
        return (
            *values[:consts],
            *select(fixed, values[consts:]),
            *select(not_(fixed), values[consts:]),
        )

    return While(
        replace(condition, invars=sort(condition.invars, num_condition_consts)),
        replace(
            body,
            invars=sort(body.invars, num_body_consts),
            outvars=tuple(select(not_(fixed), body.outvars)),
        ),
        num_condition_consts,
        LoopLayout(num_body_consts + sum(fixed), len(fixed) - sum(fixed)),
        fixed,
        (*range(first), *select(fixed, num_slots), *select(not_(fixed), num_slots)),
    )


def while_loop(call: Call, ins: list[Any], num_slots: int) -> Applied:
    """Run the loop, saving at most `num_slots` states; the pullback visits them in reverse."""
    params = call.params
    body, condition = g.from_jaxpr(params["body_jaxpr"]), g.from_jaxpr(params["cond_jaxpr"])
    counts = params["cond_nconsts"], params["body_nconsts"]
    more: Any = condition.outvars[0].aval
    if more.ndim or (varying(more) and spreads(inline_meshed_jits(body), counts[1])):
        program = one_loop(body, condition, *counts)
        return forward(call.rules, program, ins, call.needs_ct, call.has_out_ct)
    program = _read(body, condition, *counts)
    needs_ct, has_out_ct, linear = masks(call, ins)
    sorted_masks = (
        tuple(needs_ct[i] for i in program.order),
        tuple(select(not_(program.is_fixed), has_out_ct)),
        tuple(linear[i] for i in program.order),
    )
    halves = _forward_backward(program, call.rules, sorted_masks, num_slots)
    if halves is None:
        return unknown(call, "the condition of a while loop")
    state, pullback = halves.run([ins[i] for i in program.order])
    first = len(ins) - len(program.is_fixed)

    def pull(cts):
        sorted_cts = pullback(select(not_(program.is_fixed), cts))
        in_cts = [sorted_cts[program.order.index(i)] for i in range(len(ins))]
        for i, (ct, fixed) in enumerate(zip(cts, program.is_fixed, strict=True), first):
            if fixed and ct is not None:
                in_cts[i] = ct if in_cts[i] is None else accumulate(in_cts[i], ct)
        return in_cts

    return merge_by_mask(program.is_fixed, select(program.is_fixed, ins[first:]), state), pull


@g.weakref_cache
def _forward_backward(
    program: While, rules: Rules, masks: Masks, num_slots: int
) -> ForwardBackward | None:
    """Return the loop forward and backward; None if its length depends on linear inputs."""
    loop, num = program.loop, program.num_condition_consts
    needs_ct, has_out_ct, linear = masks
    body_masks = fixed_point(rules, program.body, (needs_ct[num:], has_out_ct, linear[num:]), loop)
    carried = linear_in_the_end(loop, body_masks[2], len(program.body.outvars))
    step = joint(program.body, rules, *body_masks, carried)
    signature, of_condition = step.signature, linear[:num]
    of_state = signature.linear[num - len(program.condition.invars) :]
    if any(linear_outputs(program.condition, rules, (*of_condition, *of_state))):
        return None
    consts, state, _ = loop.ins([struct(v.aval) for v in program.body.invars])
    linear_consts, linear_state, _ = loop.ins(signature.linear)
    consts = select(not_(linear_consts), consts)
    ins = (
        select(not_(of_condition), [struct(v.aval) for v in program.condition.invars[:num]]),
        consts,
        select(not_(linear_state), state),
    )
    run = ForwardLoop(program, step, rules, of_condition)
    loop_signature = _loop_signature(signature, loop, of_condition)
    if not any(has_out_ct):
        return ForwardBackward(loop_signature, g.stage(run.forward, *ins)[0], Graph((), (), ()), ())
    check_steps(program.condition, step)
    halves = _backward_step(step, len(consts))
    slots = partial(empty, num_slots)
    forward, (_, saved, length) = g.stage(partial(_run_forward, run, slots, halves.read), *ins)
    cts = [cotangent_type(a) for a in select(signature.has_out_ct, signature.out_avals)]
    backward, _ = g.stage(partial(_run_backward, halves, step, loop), consts, saved, length, cts)
    num_stored = 2 + len(saved.states)
    origins = (
        *(("input", len(ins[0]) + i) for i in range(len(consts))),
        *(("stored", i) for i in range(num_stored)),
    )
    return ForwardBackward(
        loop_signature,
        forward,
        backward,
        tuple(Residual(*o, v) for o, v in zip(origins, backward.invars, strict=False)),
    )


def _loop_signature(body: Signature, loop: LoopLayout, of_condition: tuple[bool, ...]) -> Signature:
    """Return the body's signature, with the condition's constants and a cotangent for every active
    state."""
    return replace(
        body,
        linear=(*of_condition, *body.linear),
        has_in_ct=(
            *(False for _ in of_condition),
            *loop.with_carry(body.has_in_ct, body.has_out_ct),
        ),
    )


@dataclass(frozen=True, eq=False)
class ForwardLoop:
    """The loop over the inputs that have a value: neither a linear constant nor a linear state."""

    program: While
    step: Joint
    rules: Rules
    linear_of_condition: tuple[bool, ...]

    def more(self, condition_consts: Any, consts: Any) -> Callable[[Any], Any]:
        """Test whether to continue from a state."""
        condition, linear = self.program.condition, self.step.signature.linear
        num = len(self.linear_of_condition)
        of_state = linear[num - len(condition.invars) :]
        consts = consts[not_(linear[: -len(of_state)]).count(True) :]
        linear = (*self.linear_of_condition, *of_state)

        def more(state: Any) -> Any:
            unknown = undefined(select(linear, condition.invars))
            args = merge_by_mask(linear, unknown, (*condition_consts, *consts, *state))
            return known(self.rules, condition, args)[0]

        return more

    def forward(self, condition_consts: Any, consts: Any, init: Any) -> list[Any]:
        """Run one step, and return the next state."""
        advance = _forward_step(self.program, self.step)
        return lax.while_loop(
            self.more(condition_consts, consts), partial(advance, consts), list(init)
        )


def _run_forward(
    run: ForwardLoop,
    slots: Callable[[Sequence[Any]], SavedStates],
    read: tuple[bool, ...],
    condition_consts: Any,
    consts: Any,
    init: Any,
) -> tuple[list[Any], SavedStates, Any]:
    """Run the loop, and return its last state, what is read of the saved ones, and the number of
    steps."""
    more, advance = run.more(condition_consts, consts), _forward_step(run.program, run.step)

    def save_and_go_on(carry: Any) -> Any:
        number, state, stride, saved = carry
        saved, stride = save_online(saved, number, select(read, state), stride)
        stop = number + stride - number % stride
        number, state = lax.while_loop(
            lambda carry: (carry[0] < stop) & more(carry[1]),
            lambda carry: (carry[0] + 1, advance(consts, carry[1])),
            (number, state),
        )
        return number, state, stride, saved

    init = list(init)
    zero, one = np.int32(0), np.int32(1)
    first = (zero, init, one, slots(select(read, init)))
    number, state, _, saved = lax.while_loop(lambda carry: more(carry[1]), save_and_go_on, first)
    return state, saved, number


def _forward_step(program: While, step: Joint) -> Callable[[Sequence[Any], Sequence[Any]], list]:
    """Run one iteration of what has a value, with the effects that wait for no cotangent."""
    body = program.body
    if any(step.signature.linear) or any(eqn.effects for eqn in step.graph.eqns):
        body = cut(step, save_nothing).forward
    return lambda consts, state: eval_graph(body, (*consts, *state))


def _again(step: Joint) -> Graph:
    """Run one iteration of what has a value, without its effects, which it had the first time."""
    num_ins, num_outs = step.signature.sizes
    ins, outs = step.graph.invars[:num_ins], step.graph.outvars[:num_outs]
    before, _ = split_by_dependence(step.graph.eqns, step.graph.invars[num_ins:])
    eqns, _ = rematerialized(before, g.variables(outs), {*ins, *step.graph.constvars})
    check_again(eqns)
    return replace(step.graph, invars=ins, outvars=outs, eqns=tuple(eqns))


def _back(step: Joint) -> Graph:
    """Run one iteration backward, with the effects of the backward pass, from the state before
    it."""
    num_ins = step.signature.sizes[0]
    backward = cut(step, save_nothing).backward
    before, _ = split_by_dependence(backward.eqns, step.graph.invars[num_ins:])
    check_again(before)
    return replace(backward, invars=step.graph.invars)


@dataclass(frozen=True, eq=False)
class BackwardStep:
    """One iteration again, of the parts of the state that are `read`, and one backward."""

    read: tuple[bool, ...]
    again: Graph
    back: Graph


def _backward_step(step: Joint, num_consts: int) -> BackwardStep:
    """Return what runs in the backward pass, over those parts of the state that one iteration
    backward reads, and those from which they are computed in the iterations before: an array that
    the loop only fills is no such part."""
    again, back, num_ins = _again(step), _back(step), step.signature.sizes[0]
    consts, state = again.invars[:num_consts], again.invars[num_consts:]
    seen = read_by(back)
    while True:
        read = tuple(v in seen for v in state)
        outs = select(read, again.outvars)
        part = dce(replace(again, invars=(*consts, *select(read, state)), outvars=tuple(outs)))
        if (more := seen | read_by(part)) == seen:
            cts = back.invars[num_ins:]
            return BackwardStep(read, part, replace(back, invars=(*part.invars, *cts)))
        seen = more


def _run_backward(
    halves: BackwardStep,
    step: Joint,
    loop: LoopLayout,
    consts: Any,
    saved: SavedStates,
    length: Any,
    state_cts: Any,
) -> list[Any]:
    """Return the cotangents of the constants, and those of the first state."""
    signature, again = step.signature, halves.again
    back, is_added = _adding_step(halves.back, step.signature, loop)
    consts_have_ct, state_has_ct, _ = loop.ins(signature.has_in_ct)
    types = [cotangent_type(a) for a in select(signature.has_out_ct, signature.out_avals)]
    num_totals = consts_have_ct.count(True)
    num_slots = saved.steps.size

    def advance_and_save(last: Any, carry: Any) -> Any:
        number, state, saved = carry
        free_slots = free(saved.steps)
        stop = number + first_stop(free_slots, last - number + 1, num_slots)
        state = lax.fori_loop(
            number, stop, lambda _, state: eval_graph(again, (*consts, *state)), state
        )
        return stop, state, saved.save(stop, state, free_slots > 0)

    def step_back(carry: Any) -> Any:
        last, state_cts, totals, saved = carry
        _, state, saved = lax.while_loop(
            lambda carry: carry[0] < last, partial(advance_and_save, last), (*saved.latest, saved)
        )
        in_cts = eval_graph(back, (*select(is_added, totals), *consts, *state, *state_cts))
        arrived = merge_by_mask(select(signature.has_out_ct, state_has_ct), in_cts[num_totals:])
        state_cts = [zeros(t) if ct is None else ct for ct, t in zip(arrived, types, strict=True)]
        totals = [
            ct if added else accumulate(total, ct)
            for total, ct, added in zip(totals, in_cts[:num_totals], is_added, strict=True)
        ]
        return last - 1, state_cts, totals, saved.without(saved.steps >= last)

    totals = [zeros(v.aval) for v in back.outvars[:num_totals]]
    _, state_cts, totals, _ = lax.while_loop(
        lambda carry: carry[0] >= 0, step_back, (length - 1, list(state_cts), totals, saved)
    )
    return [*totals, *state_cts]


def _adding_step(back: Graph, signature: Signature, loop: LoopLayout) -> tuple[Graph, list[bool]]:
    """Return one iteration backward that adds the cotangents of parts in place; its first inputs
    are the sums to which it adds, and it says which these are."""
    consts_have_ct, state_has_ct, _ = loop.ins(signature.has_in_ct)
    num_totals = consts_have_ct.count(True)
    arriving = select(signature.has_out_ct, state_has_ct)
    cts = back.invars[len(back.invars) - len(arriving) :]
    back, is_added = into_totals(inlined(back), back.outvars[:num_totals])
    sums = zip(back.invars, select(is_added, back.outvars[:num_totals]), strict=False)
    states = zip(select(arriving, cts), back.outvars[num_totals:], strict=True)
    return reads_first(back, dict(sums) | dict(states)), is_added


def while_activity(eqn: JaxprEqn, rules: Rules, needs_ct: tuple[bool, ...]) -> tuple[bool, ...]:
    """Say which outputs of a loop are perturbed after enough iterations of its body."""
    body, num_consts = g.from_jaxpr(eqn.params["body_jaxpr"]), eqn.params["body_nconsts"]
    needs_ct = needs_ct[eqn.params["cond_nconsts"] :]
    return perturbed_in_the_end(body, rules, needs_ct, LoopLayout(num_consts, len(body.outvars)))


def loop_checkpoints(places: int = NUM_SLOTS) -> Rule:
    """Return the rule for while_loop that saves at most so many states of a loop.

    More states take more memory, and fewer steps are computed again: a loop of n steps at most
    r times, where binomial(places + r, r) >= n (Griewank and Walther, Algorithm 799, 2000).

    Args:
      places: the number of states that a loop saves, each of the size of its carry.

    Returns:
      A rule, for `fbp.RULES | rule`.

    Raises:
      ValueError: less than one.

    >>> import fbp, jax
    >>> def power(x, n):
    ...     return jax.lax.fori_loop(0, n, lambda _, y: x * y, 1.0)
    >>> print(fbp.grad(power, rules=fbp.RULES | fbp.loop_checkpoints(4))(2.0, 10))
    5120.0
    """
    if places < 1:
        raise ValueError(f"a loop needs a place for at least one state, but got {places}.")
    return call(p.while_p, lambda call, ins: while_loop(call, ins, places), while_activity)


RULES = Rules(loop_checkpoints()).tag("forward_mode")
