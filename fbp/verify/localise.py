"""Where a gradient goes wrong: the rule of each equation beside the derivative of its primitive.

A table of rules is given to fbp in which each rule leaves a mark in the backward program: the
operands of the equation, the cotangents that arrived at it and those that it made. The marked
program is watched while it runs, in loops and branches too, and at each mark the cotangents are
compared, entry by entry, with those that `jax.vjp` gives the same equation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import mlir

from fbp.autodiff import RULES, value_and_grad
from fbp.autodiff import graph as g
from fbp.autodiff.avals import full, struct
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.interpret import bind, eqn_scope
from fbp.autodiff.masks import merge_by_mask, select
from fbp.autodiff.rule import Call, Rule, Rules
from fbp.autodiff.undefined import is_undefined
from fbp.verify import oracle
from fbp.verify.observe import Records, Site, Watch, observe, sites
from fbp.verify.precision import DOUBLE, in_precision
from fbp.verify.problem import CheckedFunction, unraveled
from fbp.verify.reference import in_double
from fbp.verify.report import Finding, Kind

TELLING = 1e-3
"""A rule is blamed where its error is at least this share of the largest that any rule makes:
the rounding of right rules is smaller by many orders in float64."""

OF_SYMMETRIC = RULES.tagged("symmetric")
"""Functions of symmetric matrices: of a cotangent only the symmetric part says something."""
ROUNDING = 1e-12
"""As a share of an operand's largest entry: what rounding in float64 may come to."""


@dataclass(frozen=True, eq=False)
class MarkedUse:
    """One use of a rule: the equation, those that hold it, and which of its operands and
    cotangents a mark has."""

    eqn: JaxprEqn
    around: tuple[JaxprEqn, ...]
    known: tuple[bool, ...]
    arrived: tuple[bool, ...]
    stated: tuple[bool, ...]


MARK = Primitive("mark")
MARK.multiple_results = True


@MARK.def_abstract_eval
def _(*avals: Any, use: MarkedUse) -> list[Any]:
    return list(avals[: sum(use.stated)])


@MARK.def_impl
def _pass_on(*values: Any, use: MarkedUse) -> list[Any]:
    return list(values[: sum(use.stated)])


mlir.register_lowering(MARK, mlir.lower_fun(_pass_on, multiple_results=True))


def marked(rules: Rules, around: tuple[JaxprEqn, ...] = ()) -> Rules:
    """Return the same rules, each leaving a mark where it makes cotangents."""

    def mark(rule: Rule) -> Rule:
        def apply(call: Call, ins: list[Any]) -> tuple:
            if rule.kind == "call":
                call = replace(call, rules=marked(rules, (*around, call.eqn)))
            outs, pullback = rule.apply(call, ins)
            return outs, lambda cts: _mark(call.eqn, around, ins, cts, pullback(cts))

        return replace(rule, apply=apply)

    return Rules([mark(rule) for rule in rules.values()])


def _mark(
    eqn: JaxprEqn,
    around: tuple[JaxprEqn, ...],
    ins: Sequence[Any],
    cts: Sequence[Any],
    in_cts: list[Any],
) -> list[Any]:
    stated = tuple(ct is not None for ct in in_cts)
    if not any(stated) or not all(hasattr(v.aval, "shape") for v in eqn.invars):
        return in_cts
    known = tuple(not is_undefined(x) for x in ins)
    arrived = tuple(ct is not None for ct in cts)
    use = MarkedUse(eqn, around, known, arrived, stated)
    values = [*select(stated, in_cts), *select(known, ins), *select(arrived, cts)]
    with eqn_scope(eqn):
        return merge_by_mask(stated, MARK.bind(*map(jnp.asarray, values), use=use))


def wrong_rules(problem: CheckedFunction, rules: Rules) -> list[Finding]:
    """Return the equations whose rules are at fault; of those inside others, the innermost."""
    loss = in_precision(DOUBLE, problem.loss, *problem.point)
    with jax.enable_x64(True):
        args = in_double(problem)
        program, _ = g.stage(value_and_grad(loss, rules=marked(rules)), *args)
        run = watched(program)
        return blamed(program, run(jax.tree.leaves(args)))


def watched(program: Graph) -> Callable[[list[Any]], Records]:
    """Return a marked program, compiled: from its arguments, the errors at its marks."""
    run = jax.jit(lambda args: observe(program, args, COMPARED)[1])
    return lambda args: jax.device_get(run(args))


def _compare(site: Site, ins: Sequence[Any], _: Any, iteration: tuple[Any, ...]) -> Any:
    """Return the largest error of a mark's cotangents, as a share of the operand's largest
    entry."""
    if site.eqn.primitive is not MARK:
        return None
    use = site.eqn.params["use"]
    ins, split = [jnp.asarray(x) for x in ins], (sum(use.stated), sum(use.stated) + sum(use.known))
    got, operands, arrived = ins[: split[0]], ins[split[0] : split[1]], ins[split[1] :]
    want = _reference(use, operands, arrived)
    if want is None:
        return None
    worst = None
    if use.eqn.primitive in OF_SYMMETRIC:
        got, want = map(_symmetric, got), map(_symmetric, want)
    for number, a, b in zip(select(use.stated, range(len(use.stated))), got, want, strict=True):
        if a.size:
            error = _error(number, a, b)
            worst = error if worst is None else larger(worst, error)
    if worst is None:
        return None
    return (*worst, jnp.array([*iteration], jnp.int32))


def _symmetric(ct: Any) -> Any:
    return (ct + jnp.conj(jnp.swapaxes(ct, -1, -2))) / 2


def _error(number: int, got: Any, want: Any) -> tuple[Any, ...]:
    difference = distance(got, want)
    worst = jnp.argmax(difference)
    scale = jnp.maximum(jnp.max(abs(want)), jnp.finfo(want.dtype).tiny)
    share = difference.ravel()[worst] / scale
    entries = [jnp.asarray(x.ravel()[worst], jnp.complex128) for x in (got, want)]
    return (share.astype(jnp.float64), jnp.array(number), worst, *entries)


def distance(a: Any, b: Any) -> Any:
    """Return how far entries are apart: 0 for two NaNs, infinity for a NaN and a number."""
    apart = jnp.where((a == b) | (jnp.isnan(a) & jnp.isnan(b)), 0, abs(a - b))
    return jnp.where(jnp.isnan(apart), jnp.inf, apart)


def larger(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return, of two records that begin with a size, the larger; the first if they are equal."""
    return jax.tree.map(lambda x, y: jnp.where(b[0] > a[0], y, x), a, b)


COMPARED = Watch(_compare, larger)


def _reference(use: MarkedUse, operands: Sequence[Any], arrived: Sequence[Any]) -> list[Any] | None:
    """Return the cotangents by JAX, in the precision of the equation; None where JAX has no
    reverse."""
    eqn = use.eqn
    zeros = [full(struct(v.aval), 0) for v, k in zip(eqn.invars, use.known, strict=True) if not k]
    ins = merge_by_mask(use.known, operands, zeros)

    def outs(*values: Any) -> list[Any]:
        return select(
            use.arrived, bind(eqn, merge_by_mask(use.stated, values, select(_not(use.stated), ins)))
        )

    try:
        _, pullback = oracle.vjp(outs, *select(use.stated, ins))
        return list(pullback(list(arrived)))
    except (ValueError, NotImplementedError, TypeError):
        return None


def _not(mask: Sequence[bool]) -> list[bool]:
    return [not m for m in mask]


def blamed(program: Graph, records: Records) -> list[Finding]:
    """Return what the records of a marked program say."""
    shares = {key: float(seen.record[0]) for key, seen in records.items() if seen.ran}
    largest = max(shares.values(), default=0.0)
    guilty = [key for key, x in sorted(shares.items()) if x > max(TELLING * largest, ROUNDING)]
    uses = {s.key: s.eqn.params["use"] for s in sites(program) if s.eqn.primitive is MARK}
    excused = {id(eqn) for key in guilty for eqn in uses[key].around}
    return [
        _finding(uses[key], records[key].record)
        for key in guilty
        if id(uses[key].eqn) not in excused
    ]


def _finding(use: MarkedUse, record: Any) -> Finding:
    eqn = use.eqn
    share, operand, entry, got, want, iteration = record
    got, want = (x.item() if np.imag(x) else np.real(x).item() for x in (got, want))
    return Finding(
        kind=Kind.WRONG_RULE,
        message=(
            f"the rule of {eqn.primitive} makes a wrong cotangent of operand {int(operand)}, by "
            f"{float(share):.2g} of its largest entry. The rest of the chain is right: mend this "
            "rule."
        ),
        index=unraveled(entry, struct(eqn.invars[int(operand)]).shape),
        expected=want,
        got=got,
        error_ulps=float(share / np.finfo(np.float64).eps),
        equation=_text(eqn),
        primitive=str(eqn.primitive),
        operand=int(operand),
        iteration=tuple(int(i) for i in iteration),
        source=next((s for s in map(g.source, (eqn, *reversed(use.around))) if s), None),
    )


def _text(eqn: JaxprEqn) -> str:
    """Return the equation in one line, by the types of its values."""
    ins = " ".join(a.aval.str_short(short_dtypes=True) for a in eqn.invars)
    outs = " ".join(a.aval.str_short(short_dtypes=True) for a in eqn.outvars)
    return f"{outs} = {eqn.primitive} {ins}"
