"""Custom rules beside plain differentiation of their own functions, and beside their values.

Where a rule and plain differentiation differ by more than the bar, the function's values decide:
the slope of the function along the entry that differs says which of the two is right, or that both
are, as at a kink. Where there is no plain derivative, as of a kernel, only the values are asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.autodiff import avals
from fbp.autodiff import graph as g
from fbp.autodiff.masks import select
from fbp.autodiff.rule import Rules
from fbp.verify.custom_rules import Tried, custom_equations, is_rule, operands, tried, uses_of
from fbp.verify.declared import Declaration, RuleName, rule_name, user_line
from fbp.verify.finite_difference import Slope, few_values, slope
from fbp.verify.kinks import ENTRIES, slopes_at
from fbp.verify.observe import calls_out, sites
from fbp.verify.precision import DOUBLE, evaluate, in_precision
from fbp.verify.problem import Problem, unraveled
from fbp.verify.report import Finding, Kind, RuleSummary
from fbp.verify.rule_trial import (
    FINE,
    MULTIPLE,
    Row,
    arrays_of,
    judged_operands,
    second_order,
    tried_cotangents,
)

RESOLVED = 0.03
"""A bar above this share of the largest entry leaves no digits: nothing is said to be right."""
SMALLEST = 1e-6
"""An error below this share of the largest entry is right whatever the bar."""
CERTAIN = 10
"""How many bars an error must exceed to be called wrong where the values are too rough to tell."""
SOLVERS = {"while": 1e-4, "scan": 1e-5}
"""A function with such a loop may be a solver, whose rule is right to the solver's tolerance: the
bar of an undeclared rule, as a share of its largest entry."""
SMALL = 16
"""The largest operand of which every entry is tried where there is no plain derivative."""
FEW = 8
"""How many entries of a larger one are tried, and how many of one that the host computes."""

Numbers = dict[tuple[str, int | None], tuple[Row, tuple[int, ...]]]


@dataclass(frozen=True, eq=False)
class Audited:
    """What is known of one use: its name, what was compared, and its values, once looked up."""

    name: RuleName
    use: Tried
    numbers: Numbers
    ins: list[Any]
    cts: list[Any]


@dataclass(frozen=True)
class Verdict:
    """What is said of one operand: the kind of finding, and the entry that shows it."""

    kind: Kind
    reason: str
    entry: int | None = None
    expected: float | None = None
    got: float | None = None


def audit(
    problem: Problem, rules: Rules, declared: Sequence[Declaration]
) -> tuple[list[Finding], list[RuleSummary]]:
    """Compare every custom rule that takes part in the gradient; what differs, and what was
    compared, of how many uses, and what could not be judged."""
    equations = custom_equations(problem)
    if not equations:
        return [], []
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return _audit(problem, rules, declared, equations)


def _audit(
    problem: Problem, rules: Rules, declared: Sequence[Declaration], equations: Sequence[Any]
) -> tuple[list[Finding], list[RuleSummary]]:
    uses = uses_of(problem, rules)
    args = jax.tree.leaves(problem.point)
    every = tried(uses, args)
    names = {id(t): rule_name(t.use.eqn) for t in every}
    close = {
        t.site.key: _iteration(t)
        for t in every
        if t.ran and t.rule is not None and _needs_values(t, names[id(t)], declared)
    }
    looked_up = operands(uses, args, close) if close else {}
    findings: dict[tuple, Finding] = {}
    unjudged: dict[RuleName, list[str]] = {}
    for t in every:
        if not t.ran:
            continue
        ins, cts = looked_up.get(t.site.key, ([], []))
        one = Audited(names[id(t)], t, _numbers(t), ins, cts)
        try:
            verdicts = _verdicts(one, declared)
        except Exception as error:  # whatever evaluating a user's function alone may raise
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            unjudged.setdefault(one.name, []).append(reason)
            continue
        if t.trial.unjudged and not t.trial.labels:
            unjudged.setdefault(one.name, []).append(t.trial.unjudged)
        for finding in verdicts:
            identity = (one.name, _identity(t), finding.kind, finding.operand)
            findings.setdefault(identity, finding)
            if finding.kind is Kind.UNRESOLVED:
                unjudged.setdefault(one.name, []).append("unresolved, see below")
    return list(findings.values()), _summaries(equations, every, names, unjudged)


def _identity(t: Tried) -> int:
    """Tells apart the rules of functions that are written in one place."""
    bwd = t.use.eqn.params.get("bwd")
    return id(getattr(bwd, "f", None))


def _summaries(
    equations: Sequence[Any],
    every: Sequence[Tried],
    names: dict[int, RuleName],
    unjudged: dict[RuleName, list[str]],
) -> list[RuleSummary]:
    """For each rule, at how many places it was compared, and what was not."""
    order = dict.fromkeys([*(rule_name(s.eqn) for s in equations), *names.values()])
    summaries = []
    for name in order:
        mine = [t for t in every if names[id(t)] == name]
        ran = [t for t in mine if t.ran]
        second = next((t.trial.second for t in ran if t.trial.second), "")
        reasons = list(dict.fromkeys(unjudged.get(name, ())))
        summaries.append(
            RuleSummary(
                name=str(name),
                compared=sum(t.rule is not None for t in ran),
                not_run=len(mine) - len(ran),
                used=bool(mine),
                unjudged=tuple(reasons),
                second_derivative=second,
            )
        )
    return summaries


def _numbers(t: Tried) -> Numbers:
    return {
        (label.check, label.number): (Row(*map(float, row)), tuple(int(i) for i in when))
        for label, row, when in zip(t.trial.labels, t.rows, t.iterations, strict=True)
    }


def _iteration(t: Tried) -> tuple[int, ...]:
    """That in which the rule is farthest off."""
    checks = [
        (row.ratio, when)
        for (check, _), (row, when) in _numbers(t).items()
        if check in ("own", "fine", "second")
    ]
    if checks:
        return max(checks)[1]
    return tuple(int(i) for i in t.iterations[0]) if len(t.iterations) else ()


def _needs_values(t: Tried, name: RuleName, declared: Sequence[Declaration]) -> bool:
    if t.trial.unjudged or callable(_stands_for(name, None, declared)):
        return True
    numbers = _numbers(t)
    if any(row.ratio > 1 for (check, _), (row, _) in numbers.items() if check in FIRST_AND_SECOND):
        return True
    return any(
        _is_blurred(row, numbers["fine", operand][0])
        for (check, operand), (row, _) in numbers.items()
        if check == "own"
    )


def _is_blurred(own: Row, fine: Row) -> bool:
    """Whether rounding leaves plain differentiation no digits, in float64 neither: in a chaotic
    function, and at a tie, which rounding breaks."""
    return own.bar > RESOLVED and fine.bar > RESOLVED and own.error > SMALLEST


FIRST_AND_SECOND = ("own", "fine", "second")


def _stands_for(name: RuleName, operand: int | None, declared: Sequence[Declaration]) -> Any:
    """What a rule is declared to be: False if it is not declared."""
    for d in declared:
        if d.matches(name, operand):
            return d.stands_for
    return False


def _verdicts(one: Audited, declared: Sequence[Declaration]) -> list[Finding]:
    """The findings of one use."""
    t = one.use
    if t.rule is None or not (t.trial.labels or t.trial.mismatched):
        return []
    found = [_mismatch(one, *m) for m in t.trial.mismatched]
    arrays = None
    if one.ins:
        try:
            with jax.enable_x64(True):
                arrays = _arrays(one)
        except Exception:  # a rule that does not run alone, as one with a collective
            arrays = None
    for j, operand in enumerate(judged_operands(t.use)):
        if any(number == operand for number, *_ in t.trial.mismatched):
            continue
        allowed = _stands_for(one.name, operand, declared)
        verdict = _of_operand(one, j, operand, arrays, allowed)
        if verdict is not None:
            found.append(_finding(one, operand, verdict, allowed))
    for (check, output), (row, when) in one.numbers.items():
        if check == "value" and row.ratio > 1:
            found.append(_other_value(one, output, row, when))
    wrong = any(f.kind in (Kind.WRONG_CUSTOM_RULE, Kind.DECLARED) for f in found)
    if not wrong and (second := _second(one)) is not None:
        found.append(_finding(one, None, second, _stands_for(one.name, None, declared)))
    return found


def _arrays(one: Audited) -> dict[str, Any]:
    """What the rule states and what it should, as arrays; outside of the program around."""
    use, rule = one.use.use, one.use.rule
    assert rule is not None

    def run(ins: list[Any], cts: list[Any]) -> dict[str, Any]:
        arrays = arrays_of(use, rule, ins, cts)
        return {k: v for k, v in arrays.items() if k != "unjudged"}

    return jax.device_get(jax.jit(run)(one.ins, one.cts))


def _of_operand(
    one: Audited, j: int, operand: int, arrays: dict[str, Any] | None, allowed: Any
) -> Verdict | None:
    repeat = one.numbers["repeat", operand][0]
    if repeat.error > 0:
        return Verdict(
            Kind.WRONG_CUSTOM_RULE,
            "differs from call to call: with the same operands and the same cotangent it states "
            "another number",
            int(repeat.entry),
            repeat.expected,
            repeat.got,
        )
    if callable(allowed):
        if arrays is None:
            reason = "was not compared with the function that was declared: it does not run alone"
            return Verdict(Kind.UNRESOLVED, reason)
        return _beside_surrogate(one, j, operand, arrays, allowed)
    if ("own", operand) in one.numbers:
        verdict = _beside_derivative(one, j, operand, arrays, allowed)
    else:
        reason = f"cannot be judged: {one.use.trial.unjudged[:200]}"
        verdict = Verdict(Kind.UNRESOLVED, reason)
        if arrays is not None:
            verdict = _beside_values(one, j, operand, arrays, allowed)
    return verdict or _not_linear(one, operand)


def _beside_derivative(
    one: Audited, j: int, operand: int, arrays: dict[str, Any] | None, allowed: Any
) -> Verdict | None:
    """The verdict where the function has a plain derivative."""
    own, fine = one.numbers["own", operand][0], one.numbers["fine", operand][0]
    blurred = _is_blurred(own, fine)
    if own.ratio <= 1 and fine.ratio <= 1 and not blurred:
        return None
    row = own if own.ratio > 1 or (blurred and fine.ratio <= 1) else fine
    if _is_tolerance(allowed) and max(own.error, fine.error) <= allowed:
        return Verdict(Kind.DECLARED, f"is within {allowed:g} of the derivative")
    if arrays is None and blurred:
        return Verdict(Kind.UNRESOLVED, f"cannot be judged: {_rough(min(own.bar, fine.bar))}")
    if arrays is None:
        return _by_plain_derivative(row)
    k = int(row.cotangent)
    stated = arrays["stated"][j][k] if row is own else arrays["fine"][j]
    truth = arrays["truth"][j][k]
    only_rounding = own.ratio > 1 >= fine.ratio
    if np.iscomplexobj(truth):
        return _by_plain_derivative(row)
    try:
        slopes = list(_slopes(one, operand, k, stated, truth, row))
    except Exception:  # a function that does not run alone, as one with a collective
        return _by_plain_derivative(row)
    rounding = _rounding(one, operand, truth, row is own)
    return _decided(one, slopes, stated, truth, row, only_rounding, rounding)


def _is_tolerance(allowed: Any) -> bool:
    return isinstance(allowed, int | float) and not isinstance(allowed, bool)


def _by_plain_derivative(row: Row) -> Verdict:
    reason = f"is not the derivative of the function: plain differentiation has {row.expected:.6g}"
    return Verdict(Kind.WRONG_CUSTOM_RULE, reason, int(row.entry), row.expected, row.got)


def _rough(bar: float) -> str:
    return (
        f"what rounding does to plain differentiation is {bar:.1g} of the largest entry, which "
        "leaves no digits"
    )


def _slopes(
    one: Audited, operand: int, k: int, stated: Any, truth: Any, row: Row
) -> list[tuple[int, Slope]]:
    """The slopes of the function, weighed by a cotangent, along entries that differ."""
    apart = abs(np.ravel(np.asarray(stated, np.float64) - truth))
    apart = np.where(np.isnan(apart), np.inf, apart)
    size = max(float(np.max(abs(truth), initial=0)), float(np.max(abs(np.asarray(stated)))))
    order = np.argsort(-apart)[: max(1, np.count_nonzero(apart > row.bar * size))]
    rest = order[ENTRIES:]
    others = (
        rest[np.unique(np.linspace(0, len(rest) - 1, ENTRIES).astype(int))] if len(rest) else rest
    )
    entries = [int(i) for i in (*order[:ENTRIES], *others)]
    with jax.enable_x64(True):
        value, x = _weighed(one, operand, k)
        return list(slopes_at(value, x, entries))


def _weighed(one: Audited, operand: int, k: int) -> tuple[Callable[[Any], Any], Any]:
    """The function of one operand, its outputs weighed by a cotangent and summed."""
    use = one.use.use
    body = g.body(use.eqn.params)
    ins = [DOUBLE.cast(x) for x in one.ins]
    cts = [x[k] for x in _tried_cotangents(one)]

    def value(x: Any) -> Any:
        outs = evaluate(DOUBLE, body, [*ins[:operand], x, *ins[operand + 1 :]])
        chosen = select(use.arrived, outs)
        return sum(
            jnp.sum(DOUBLE.cast(ct) * DOUBLE.cast(y)) for ct, y in zip(cts, chosen, strict=True)
        )

    return value, ins[operand]


def _tried_cotangents(one: Audited) -> list[Any]:
    return tried_cotangents(one.use.use, [jnp.asarray(x) for x in one.cts])


def _decided(
    one: Audited,
    slopes: Sequence[tuple[int, Slope]],
    stated: Any,
    truth: Any,
    row: Row,
    only_rounding: bool,
    rounding: float,
) -> Verdict | None:
    """What the slopes say of the entries that differ from plain differentiation."""
    flat = np.ravel(np.asarray(stated, np.float64))
    size = max(float(np.max(abs(truth), initial=0)), 1e-300)
    later: Verdict | None = None
    for entry, s in slopes:
        got = float(flat[entry])
        if s.kind == "jump":
            reason = "states a slope where the function's value jumps: no number is its derivative"
            later = later or Verdict(Kind.JUMP, reason, entry, None, got)
        elif s.kind == "unresolved" and not abs(got - s.value) > CERTAIN * s.error:
            if row.ratio > CERTAIN:
                return _by_plain_derivative(row)
            reason = f"cannot be judged: {_rough(row.bar)}"
            later = later or Verdict(Kind.UNRESOLVED, reason, entry, None, got)
        elif not s.contains(got) and abs(got - s.value) > s.error + rounding:
            return _wrong(one, s, entry, got, size, row, only_rounding)
        elif s.kind == "kink":
            reason = (
                f"has a kink here, with slopes {s.left.value:.6g} and {s.right.value:.6g} on its "
                "sides; its rule takes one between them, which is as right as any other"
            )
            later = later or Verdict(Kind.KINK, reason, entry, None, got)
    return later


def _rounding(one: Audited, operand: int, truth: Any, own: bool) -> float:
    """What rounding does to a right rule's number, in units of the cotangent."""
    eps = float(jnp.finfo(avals.struct(one.use.use.eqn.invars[operand]).dtype).eps)
    share = MULTIPLE * eps if own else FINE
    return share * float(np.max(abs(truth), initial=0))


def _wrong(
    one: Audited, s: Slope, entry: int, got: float, size: float, row: Row, only_rounding: bool
) -> Verdict:
    share = abs(got - s.value) / size
    tolerance = _assumed_tolerance(one)
    if share <= CERTAIN * tolerance and not only_rounding:
        reason = (
            "is not the derivative of the function as it is computed, but close to it: the "
            f"function may be a solver, and a tolerance of {share:.1g} of the largest entry would "
            f"explain the difference. If it is one, say so: declared={{{one.name.name}: "
            f"{_round_up(share):g}}}"
        )
        return Verdict(Kind.UNRESOLVED, reason, entry, s.value, got)
    if only_rounding:
        reason = (
            f"loses digits: in float64 it is right, but its error is {row.error:.2g} of the "
            f"largest entry, {row.ratio:.3g} times what it may be beside plain differentiation in "
            "the same precision"
        )
        return Verdict(Kind.WRONG_CUSTOM_RULE, reason, entry, s.value, got)
    reason = (
        f"is not the derivative of the function: the function's values have the slope "
        f"{s.value:.6g} +- {s.error:.1g} there"
    )
    return Verdict(Kind.WRONG_CUSTOM_RULE, reason, entry, s.value, got)


def _round_up(share: float) -> float:
    """The next power of ten."""
    return float(10.0 ** np.ceil(np.log10(max(share, 1e-300))))


def _assumed_tolerance(one: Audited) -> float:
    loops = {str(s.eqn.primitive) for s in sites(g.body(one.use.use.eqn.params))}
    return max((SOLVERS[name] for name in loops if name in SOLVERS), default=0.0)


def _beside_surrogate(
    one: Audited, j: int, operand: int, arrays: dict[str, Any], surrogate: Callable
) -> Verdict:
    """The verdict on a rule that is declared to be the derivative of another function."""
    use, consts = one.use.use, one.use.use.eqn.params["num_consts"]
    rest = [jnp.asarray(x) for x in one.ins[consts:]]

    def weighed(x: Any, ct: Any, args: Sequence[Any]) -> Any:
        given = [*args[: operand - consts], x, *args[operand - consts + 1 :]]
        outs = jax.tree.leaves(surrogate(*given))
        return sum(
            jnp.sum(c.astype(y.dtype) * y)
            for c, y in zip(ct, select(use.arrived, outs), strict=True)
        )

    chosen = [x[1] for x in _tried_cotangents(one)]
    narrow = np.asarray(
        jax.jit(jax.grad(weighed))(rest[operand - consts], chosen, rest), np.float64
    )
    program = in_precision(DOUBLE, jax.grad(weighed), rest[operand - consts], chosen, rest)
    with jax.enable_x64(True):
        truth = np.asarray(jax.jit(program)(rest[operand - consts], chosen, rest), np.float64)
    stated = np.asarray(arrays["stated"][j][1], np.float64)
    size = max(float(np.max(abs(truth), initial=0)), 1e-300)
    eps = float(jnp.finfo(avals.struct(use.eqn.invars[operand]).dtype).eps)
    bar = MULTIPLE * max(float(np.max(abs(narrow - truth))), eps * size)
    apart = abs(stated - truth)
    entry = int(np.argmax(apart))
    if float(np.max(apart)) <= bar:
        return Verdict(Kind.DECLARED, "is the derivative of the function that was declared")
    return Verdict(
        Kind.WRONG_CUSTOM_RULE,
        "is not the derivative of the function that was declared in its place",
        entry,
        float(truth.ravel()[entry]),
        float(stated.ravel()[entry]),
    )


def _beside_values(
    one: Audited, j: int, operand: int, arrays: dict[str, Any], allowed: Any
) -> Verdict | None:
    """The verdict where the function has no plain derivative: its values along entries."""
    stated = np.asarray(arrays["stated"][j][1], np.float64)
    body = g.body(one.use.use.eqn.params)
    on_host = any(calls_out(s.eqn) for s in sites(body))
    eps = _eps_of_values(body)
    with jax.enable_x64(True):
        value, x = _weighed(one, operand, 1)
        x = np.asarray(x)
        run = jax.jit(value)
    scale = float(np.sqrt(np.mean(abs(x) ** 2))) or 1.0
    many = x.size > (FEW if on_host else SMALL)
    entries = np.random.default_rng(0).permutation(x.size)[:FEW] if many else range(x.size)
    size = max(float(np.max(abs(stated), initial=0)), 1e-300)
    how = partial(few_values, eps=eps) if on_host else partial(slope, eps=eps)
    rough = 0.0
    for entry in map(int, entries):
        unit = np.zeros(x.size)
        unit[entry] = 1
        direction = unit.reshape(x.shape)

        def along(offsets: np.ndarray, direction: np.ndarray = direction) -> np.ndarray:
            with jax.enable_x64(True):
                return np.array([float(run(jnp.asarray(x + t * direction))) for t in offsets])

        s = how(along, scale=scale)
        got = float(stated.ravel()[entry])
        apart, bar = abs(got - s.value), s.error + MULTIPLE * eps * size
        if s.kind == "jump":
            reason = "states a slope where the function's value jumps: no number is its derivative"
            return Verdict(Kind.JUMP, reason, entry, None, got)
        if s.contains(got) or apart <= bar:
            rough = max(rough, bar / max(size, abs(s.value)))
            continue
        if _is_tolerance(allowed) and apart <= allowed * size:
            continue
        reason = (
            f"is not the derivative of the function: the function's values have the slope "
            f"{s.value:.6g} +- {s.error:.1g} there"
        )
        return Verdict(Kind.WRONG_CUSTOM_RULE, reason, entry, s.value, got)
    if rough > RESOLVED:
        reason = (
            "cannot be judged: the function has no derivative to compare with, and its values "
            f"tell a slope to {rough:.1g} of the largest entry only"
        )
        return Verdict(Kind.UNRESOLVED, reason)
    return None


def _eps_of_values(body: Any) -> float:
    """The relative precision in which a function's values are computed in float64: that of the
    coarsest dtype in it that has no other."""
    values = [avals.struct(v) for s in sites(body) for v in s.eqn.outvars]
    types = [a for a in values if avals.differentiable(a)]
    return max(float(jnp.finfo(a.dtype).eps) for a in types)


def _not_linear(one: Audited, operand: int) -> Verdict | None:
    """A rule must be linear in its cotangent."""
    words = {
        "sum": "of the sum of two cotangents it does not make the sum of what it makes of each",
        "multiple": "of 1024 times a cotangent it does not make 1024 times as much",
        "zero": "of a cotangent of zeros it makes something else",
    }
    for check, text in words.items():
        row, _ = one.numbers[check, operand]
        if row.ratio > 1:
            reason = f"is not linear in its cotangent: {text}"
            return Verdict(Kind.WRONG_CUSTOM_RULE, reason, int(row.entry), row.expected, row.got)
    return None


def _second(one: Audited) -> Verdict | None:
    """The verdict on the derivative of the rule, where that differs from its differences."""
    if ("second", None) not in one.numbers:
        return None
    row, _ = one.numbers["second", None]
    if row.ratio <= 1:
        return None
    t = one.use
    assert t.rule is not None
    try:
        with jax.enable_x64(True):
            near = [x[1] for x in _tried_cotangents(one)]
            ins = [jnp.asarray(x) for x in one.ins]
            along, _ = second_order(t.use, t.rule, judged_operands(t.use), ins, near)
            values = jax.jit(lambda offsets: jax.lax.map(along, offsets))
            s = slope(lambda ts: np.asarray(values(jnp.asarray(ts))), scale=1.0)
        if s.kind in ("jump", "unresolved") or s.contains(row.got):
            return None
        expected, error = s.value, s.error
    except Exception:  # a rule that does not run alone, as one with a collective
        expected, error = row.expected, row.bar
    reason = (
        "has another derivative than its values: a second derivative of the function is wrong. "
        f"Along a random direction what it states changes by {expected:.6g} +- {error:.1g}, and "
        f"its derivative is {row.got:.6g}: look for a stop_gradient, or a residual that has no "
        "derivative"
    )
    return Verdict(Kind.WRONG_CUSTOM_RULE, reason, None, expected, row.got)


def _finding(one: Audited, operand: int | None, verdict: Verdict, allowed: Any) -> Finding:
    """A verdict as a finding; what is declared to be anything fails no longer."""
    eqn, name = one.use.use.eqn, one.name
    kind, end = verdict.kind, "."
    if allowed is None and kind in (Kind.WRONG_CUSTOM_RULE, Kind.JUMP, Kind.UNRESOLVED):
        kind, end = Kind.DECLARED, ", as declared."
    elif kind is Kind.DECLARED:
        end = ", as declared."
    elif kind is Kind.WRONG_CUSTOM_RULE:
        end = f". Mend the rule, or, if it deviates on purpose, say so: declared=[{name.name}]."
    subject = str(name) if kind is Kind.KINK else f"the {is_rule(eqn)} rule of {name}"
    shape = avals.struct(eqn.invars[operand]).shape if operand is not None else ()
    check = next((c for c in ("own", "fine", "repeat") if (c, operand) in one.numbers), None)
    iteration = one.numbers[check, operand][1] if check else _iteration(one.use)
    if one.use.site.key and one.ins:
        iteration = _iteration(one.use)
    return Finding(
        kind=kind,
        message=f"{subject} {verdict.reason}{end}",
        index=None if verdict.entry is None else unraveled(verdict.entry, shape),
        expected=verdict.expected,
        got=verdict.got,
        primitive=str(eqn.primitive),
        operand=None if operand is None else operand - eqn.params["num_consts"],
        iteration=iteration,
        source=user_line(eqn),
    )


def _mismatch(one: Audited, operand: int, got: str, want: str) -> Finding:
    reason = f"states a cotangent of type {got} for an operand of type {want}"
    return _finding(one, operand, Verdict(Kind.WRONG_CUSTOM_RULE, reason), False)


def _other_value(one: Audited, output: int | None, row: Row, when: tuple[int, ...]) -> Finding:
    """A rule that returns another value than the function."""
    eqn = one.use.use.eqn
    assert output is not None
    return Finding(
        kind=Kind.WRONG_CUSTOM_RULE,
        message=(
            f"the {is_rule(eqn)} rule of {one.name} returns another value than the function: under "
            f"differentiation output {output} is another. Let the rule return the function's value."
        ),
        index=unraveled(int(row.entry), avals.struct(eqn.outvars[output]).shape),
        expected=row.expected,
        got=row.got,
        primitive=str(eqn.primitive),
        iteration=when,
        source=user_line(eqn),
    )
