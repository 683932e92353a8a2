"""Backpropagation: a program run forward with a tape, then the tape run backward.

The forward pass evaluates a Graph equation by equation. Where an equation lies on a way from
a wanted input to a useful output, its pullback goes on the tape: a function from the
cotangents of its outputs to those of its inputs. The backward pass walks the tape from its
end, hands each pullback the cotangents that have arrived, and adds what comes out to the
cotangents of the inputs. A cotangent that never arrived is zero, and is never made.
"""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import primitives

from fbp.autodiff.graph import (
    WRITES,
    Environment,
    Graph,
    JaxprEqn,
    Var,
    bind,
    differentiable,
    full,
    remembered,
    scope,
    sharded_like,
    source,
    struct,
)
from fbp.autodiff.rule import Applied, Call, Cotangents, Pullback, Rules


class MissingRule(NotImplementedError):
    """A primitive on the way of the gradient has no rule: names it, its line, and the mend."""

    def __init__(self, eqn: JaxprEqn, where: str):
        self.eqn, self.where = eqn, where
        super().__init__(
            f"no rule for the primitive '{eqn.primitive}', used at {where}. State one and "
            "pass it: fbp.grad(f, rules=fbp.RULES | fbp.rule.vjp(primitive, lambda ct, y, *xs: "
            "...)). docs/rules.md lists the primitives that have one."
        )


def forward(
    rules: Rules,
    graph: Graph,
    args: Sequence[Any],
    wanted: Sequence[bool],
    useful: Sequence[bool],
) -> Applied:
    """Run `graph` on `args`; also the pullback from its useful outputs to its wanted inputs."""
    active = active_variables(rules, graph, wanted, useful)
    check_writes(rules, graph, wanted)
    env = Environment(graph, args)
    tape = []
    for eqn in graph.eqns:
        ins = env.read(eqn.invars)
        if active.isdisjoint(eqn.outvars):
            outs = bind(eqn, ins)
        else:
            outs, pullback = _differentiate(rules, eqn, ins, active)
            tape.append((eqn, pullback))
        env.write(eqn.outvars, outs)

    return env.results(graph), lambda cts: backward(graph, tape, active, cts)


def check_writes(rules: Rules, graph: Graph, wanted: Sequence[bool]) -> None:
    """Raise if something differentiated is written to a mutable array from outside: who reads it
    there gets no derivative."""
    writes = [eqn for eqn in graph.eqns if eqn.primitive in WRITES]
    reached = reached_variables(rules, graph, wanted) if writes else set()
    for eqn in writes:
        kind = getattr(eqn.invars[0].aval, "kind", None)
        value = eqn.invars[1]
        if isinstance(value, Var) and value in reached and kind != "no_grad_no_remat":
            raise ValueError(
                "performing a set/swap operation with a differentiated value on a mutable array "
                f"that the function did not make, at {source(eqn)}: make the array within it, or "
                "write jax.lax.stop_gradient(value)."
            )


def backward(
    graph: Graph,
    tape: Sequence[tuple[JaxprEqn, Pullback]],
    active: set[Var],
    cts: Cotangents,
) -> Cotangents:
    """Walk the tape from its end; the cotangents of the graph's inputs, None for zero."""
    arrived: dict[Var, Any] = {}

    def add(variables, cotangents):
        for v, ct in zip(variables, cotangents, strict=True):
            if ct is not None and v in active:
                ct = sharded_like(ct, v.aval)
                arrived[v] = accumulate(arrived[v], ct) if v in arrived else ct

    add((v if isinstance(v, Var) else None for v in graph.outvars), cts)
    for eqn, pullback in reversed(tape):
        out_cts = [arrived.pop(v, None) for v in eqn.outvars]
        if any(ct is not None for ct in out_cts):
            with scope(eqn, within="backward"):
                in_cts = pullback(out_cts)
            add((v if isinstance(v, Var) else None for v in eqn.invars), in_cts)
    return [arrived.get(v) for v in graph.invars]


def accumulate(a: Any, b: Any) -> Any:
    """The sum of two cotangents of one value."""
    return primitives.add_jaxvals_p.bind(a, b)


def active_variables(
    rules: Rules, graph: Graph, wanted: Sequence[bool], useful: Sequence[bool]
) -> set[Var]:
    """The variables on a way from a wanted input to a useful output, along which something
    can be differentiated."""
    reached = reached_variables(rules, graph, wanted)
    needed = {
        v
        for v, use in zip(graph.outvars, useful, strict=True)
        if use and isinstance(v, Var) and v in reached
    }
    for eqn in reversed(graph.eqns):
        if not needed.isdisjoint(eqn.outvars):
            needed.update(v for v in eqn.invars if isinstance(v, Var) and v in reached)
    return needed


def reached_variables(rules: Rules, graph: Graph, wanted: Sequence[bool]) -> set[Var]:
    """The variables that have a derivative in a wanted input."""
    reached = {v for v, want in zip(graph.invars, wanted, strict=True) if want}
    for eqn in graph.eqns:
        if any(isinstance(v, Var) and v in reached for v in eqn.invars):
            rule = rules.get(eqn.primitive)
            if rule is None or rule.reach is None:
                reached.update(v for v in eqn.outvars if differentiable(v.aval))
            else:
                hit = tuple(isinstance(v, Var) and v in reached for v in eqn.invars)
                hits = rule.reach(eqn, rules, hit)
                reached.update(v for v, hit in zip(eqn.outvars, hits, strict=True) if hit)
    return reached


@remembered
def reached_outputs(graph: Graph, rules: Rules, wanted: tuple[bool, ...]) -> tuple[bool, ...]:
    """The outputs of a program that have a derivative in a wanted input."""
    reached = reached_variables(rules, graph, wanted)
    return tuple(isinstance(v, Var) and v in reached for v in graph.outvars)


def _differentiate(rules: Rules, eqn: JaxprEqn, ins: list[Any], active: set[Var]) -> Applied:
    """Apply one equation; its outputs and its pullback."""
    if eqn.primitive not in rules:
        raise MissingRule(eqn, source(eqn))
    wanted = tuple(isinstance(v, Var) and v in active for v in eqn.invars)
    useful = tuple(v in active for v in eqn.outvars)
    try:
        return rules[eqn.primitive].apply(Call(eqn, rules, wanted, useful), ins)
    except MissingRule as missing:
        if missing.where:
            raise
        raise MissingRule(missing.eqn, source(eqn)) from None  # inside a library's own jit


def zeros(x: Any) -> Any:
    """Zeros of the type of x, a value or a type."""
    return full(struct(x), 0)
