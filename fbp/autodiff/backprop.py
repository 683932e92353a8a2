"""Backpropagation: run a program forward with a tape, then run the tape backward.

The forward pass evaluates a Graph equation by equation. For an equation on a path from an input
that needs a cotangent to an output that has one, it records the pullback on the tape: a function
from the cotangents of the equation's outputs to those of its inputs. The backward pass walks the
tape from its end, hands each pullback the cotangents that have arrived, and adds the results to
the cotangents of the inputs, that of a part of an array in place. A cotangent that never arrived is
zero and is not instantiated, unless a custom_vjp function asks for it: its bwd may return more than
a derivative.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from jax.extend.core import primitives

from fbp.autodiff.activity import active_variables, perturbed_variables
from fbp.autodiff.arrived import Arrived
from fbp.autodiff.compat import WRITES, call_hi_primitive_p
from fbp.autodiff.graph import Graph, JaxprEqn, Var, holds_program, location, source
from fbp.autodiff.interpret import Environment, bind, eqn_scope
from fbp.autodiff.rule import Applied, Call, Cotangents, Pullback, Rules
from fbp.autodiff.stated_for_jax import stated_for_jax
from fbp.autodiff.undefined import LinearInputRead, is_undefined, reads_linear_input

STATED_BY_USERS = frozenset({primitives.custom_vjp_call_p, call_hi_primitive_p})
"""Their bwd runs where all cotangents are zero too, as it does in JAX: the statistics that Flax's
FP8 layers return in the place of gradients depend on it."""

STATE_ONE = (
    "State one and pass it: fbp.grad(f, rules=fbp.RULES | fbp.rule.vjp(primitive, lambda ct, y, "
    "*xs: ...)). docs/rules.md lists the primitives that have one."
)
OF_ITS_AUTHOR = (
    "Its author states a derivative for JAX, which fbp takes when you pass it: "
    "fbp.grad(f, rules=fbp.rules_of_authors())"
)


class MissingRule(NotImplementedError):
    """A primitive on the path of the gradient has no rule.

    The message names the primitive, its source line, and how to state a rule, or, if its author
    states one for JAX, how to take that.

    >>> import fbp
    >>> from jax import lax
    >>> try:
    ...     fbp.grad(lax.sin, rules=fbp.Rules())(0.0)
    ... except fbp.MissingRule as error:
    ...     print("'sin'" in str(error))
    True
    """

    def __init__(self, eqn: JaxprEqn, where: str, remedy: str = ""):
        remedy = remedy or (OF_ITS_AUTHOR if eqn.primitive in stated_for_jax() else STATE_ONE)
        self.eqn, self.where, self.remedy = eqn, where, remedy
        super().__init__(
            f"no rule for the primitive '{eqn.primitive}', used at {where or location(eqn)}. "
            f"{remedy}"
        )


class Evaluated(NamedTuple):
    """An equation that ran before the program was complete: its outputs, and its pullback from
    those that `has_out_ct` marks, None if it has no derivative."""

    eqn: JaxprEqn
    outs: list[Any]
    pullback: Pullback | None
    has_out_ct: tuple[bool, ...]

    def pulls_back(self, rules: Rules, active: set[Var]) -> bool:
        """Test whether the pullback serves for the active variables: a program's pullback is made
        for some of its outputs, and is made again for others unless that has side effects."""
        if self.pullback is None:
            return False
        same = self.has_out_ct == tuple(v in active for v in self.eqn.outvars)
        return same or bool(self.eqn.effects) or rules[self.eqn.primitive].kind != "call"


def forward(
    rules: Rules,
    graph: Graph,
    args: Sequence[Any],
    needs_ct: Sequence[bool],
    has_out_ct: Sequence[bool],
    evaluated: Mapping[int, Evaluated] = MappingProxyType({}),
) -> Applied:
    """Run `graph` on `args`, and return its outputs and the pullback from the outputs that have a
    cotangent to the inputs that need one."""
    env, pullback = apply_rules(rules, graph, args, needs_ct, has_out_ct, evaluated)
    return env.results(graph), pullback


def apply_rules(
    rules: Rules,
    graph: Graph,
    args: Sequence[Any],
    needs_ct: Sequence[bool],
    has_out_ct: Sequence[bool],
    evaluated: Mapping[int, Evaluated] = MappingProxyType({}),
) -> tuple[Environment, Pullback]:
    """Run `graph` on `args`, and return the values of its variables and the pullback. What is
    `evaluated`, by the identity of its equation, does not run again."""
    active = active_variables(rules, graph, needs_ct, has_out_ct)
    check_writes(rules, graph, needs_ct)
    env = Environment(graph, args)
    apply = partial(run_known, rules) if any(map(is_undefined, args)) else bind
    tape = []
    for eqn in graph.eqns:
        ins = env.read(eqn.invars)
        done = evaluated.get(id(eqn))
        if active.isdisjoint(eqn.outvars):
            outs = apply(eqn, ins) if done is None else done.outs
        elif done is not None and done.pulls_back(rules, active):
            outs = done.outs
            tape.append((eqn, done.pullback))
        else:
            outs, pullback = differentiate(rules, eqn, ins, active)
            tape.append((eqn, pullback))
        env.write(eqn.outvars, outs)

    return env, lambda cts: backward(graph, tape, active, cts)


def known(rules: Rules, graph: Graph, args: Sequence[Any]) -> list[Any]:
    """Run `graph` where some of `args` are linear inputs, and return its outputs; those that depend
    on linear inputs are undefined."""
    return forward(rules, graph, args, [False for _ in args], [False for _ in graph.outvars])[0]


def run_known(rules: Rules, eqn: JaxprEqn, ins: list[Any]) -> list[Any]:
    """Apply an equation without a pullback. Of one that holds a program, only those outputs are
    undefined that the program leaves so."""
    rule = rules.get(eqn.primitive)
    if (
        rule is None
        or rule.kind != "call"
        or not (any(map(is_undefined, ins)) and holds_program(eqn))
    ):
        return bind(eqn, ins)
    nothing = [tuple(False for _ in atoms) for atoms in (eqn.invars, eqn.outvars)]
    return rule.apply(Call(eqn, rules, *nothing), ins)[0]


def check_writes(rules: Rules, graph: Graph, needs_ct: Sequence[bool]) -> None:
    """Raise if a differentiated value is written to a mutable array from outside, whose readers
    would get no derivative."""
    writes = [eqn for eqn in graph.eqns if eqn.primitive in WRITES]
    reached = perturbed_variables(rules, graph, needs_ct) if writes else set()
    for eqn in writes:
        kind = getattr(eqn.invars[0].aval, "kind", None)
        value = eqn.invars[1]
        if isinstance(value, Var) and value in reached and kind != "no_grad_no_remat":
            raise ValueError(
                "performing a set/swap operation with a differentiated value on a mutable array "
                f"that the function did not make, at {location(eqn)}: make the array within it, or "
                "write jax.lax.stop_gradient(value)."
            )


def backward(
    graph: Graph,
    tape: Sequence[tuple[JaxprEqn, Pullback]],
    active: set[Var],
    cts: Cotangents,
) -> Cotangents:
    """Walk the tape from its end, and return the cotangents of the graph's inputs, None for
    zero."""
    arrived = Arrived(active)
    arrived.add(graph.outvars, cts)
    for eqn, pullback in reversed(tape):
        out_cts = [arrived.take(v) for v in eqn.outvars]
        if any(ct is not None for ct in out_cts) or eqn.primitive in STATED_BY_USERS:
            try:
                with eqn_scope(eqn, within="backward"):
                    in_cts = arrived.pull(eqn, pullback, out_cts)
            except (TypeError, AttributeError) as error:
                check_linear(eqn, error)
                raise
            arrived.add(eqn.invars, in_cts)
    return [arrived.take(v) for v in graph.invars]


def differentiate(rules: Rules, eqn: JaxprEqn, ins: list[Any], active: set[Var]) -> Applied:
    """Apply one equation, and return its outputs and its pullback."""
    if eqn.primitive not in rules:
        raise MissingRule(eqn, source(eqn))
    needs_ct = tuple(isinstance(v, Var) and v in active for v in eqn.invars)
    has_out_ct = tuple(v in active for v in eqn.outvars)
    try:
        return rules[eqn.primitive].apply(Call(eqn, rules, needs_ct, has_out_ct), ins)
    except MissingRule as missing:
        if missing.where:
            raise
        raise MissingRule(
            missing.eqn, source(eqn), missing.remedy
        ) from None  # inside a library's own jit
    except (TypeError, AttributeError) as error:
        check_linear(eqn, error)
        raise


def check_linear(eqn: JaxprEqn, error: Exception) -> None:
    """Raise LinearInputRead for an error caused by a linear input, with the user's line; an
    equation inside a library's jit gets the line of that jit."""
    if reads_linear_input(error) and not getattr(error, "where", ""):
        is_named = isinstance(error, LinearInputRead)
        what = str(error) if is_named else f"'{eqn.primitive}' reads the value of a linear input"
        if not is_named or source(eqn):
            raise LinearInputRead(what, source(eqn)) from error
