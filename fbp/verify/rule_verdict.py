"""The verdict on one use of a custom rule: what the comparisons say, and what values say where
those leave it open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.autodiff import avals
from fbp.verify.custom_rules import Tried, is_rule
from fbp.verify.declared import Declaration, RuleName, user_line
from fbp.verify.finite_difference import Slope, slope
from fbp.verify.kinks import ENTRIES, slopes_at
from fbp.verify.observe import sites
from fbp.verify.problem import unraveled
from fbp.verify.report import Finding, Kind
from fbp.verify.rule_derivative import along_direction
from fbp.verify.rule_trial import IN_DOUBLE, MULTIPLE, NEAR, Label, arrays_of
from fbp.verify.rule_use import alone, judged_operands
from fbp.verify.rule_values import beside_values, weighed
from fbp.verify.surrogate import beside_surrogate
from fbp.verify.verdict import RESOLVED, Verdict
from fbp.verify.worst_entry import Row

SMALLEST = 1e-6
"""An error below this share of the largest entry is right whatever the bar."""
CERTAIN = 10
"""How many bars an error must exceed to be called wrong where the values are too rough to tell."""
SOLVERS = {"while": 1e-4, "scan": 1e-5}
"""A function with such a loop may be a solver, whose rule is right to the solver's tolerance: the
bar of an undeclared rule, as a share of its largest entry."""

Numbers = Mapping[Label, tuple[Row, tuple[int, ...]]]


@dataclass(frozen=True, eq=False)
class Audited:
    """What is known of one use.

    Attributes:
      name: of its function.
      tried: the use and its trial.
      numbers: the worst entries by what they compare, each with its iteration.
      ins: the operands where the rule is farthest off; empty where nothing is open.
      cts: the cotangents that arrived there.
      iteration: the counters of the loops around, there.
    """

    name: RuleName
    tried: Tried
    numbers: Numbers
    ins: list[Any]
    cts: list[Any]
    iteration: tuple[int, ...]

    def row(self, check: str, number: int | None) -> Row:
        """Return the worst entry of a comparison."""
        return self.numbers[Label(check, number)][0]


def is_blurred(own: Row, double: Row) -> bool:
    """Return whether rounding leaves plain differentiation no digits, in float64 neither: in a
    chaotic function, and at a tie, which rounding breaks."""
    return own.bar > RESOLVED and double.bar > RESOLVED and own.error > SMALLEST


def declaration(
    name: RuleName, operand: int | None, declared: Sequence[Declaration]
) -> Declaration | None:
    """Return what is declared of a rule, or of one of its operands."""
    return next((d for d in declared if d.matches(name, operand)), None)


def verdicts(one: Audited, declared: Sequence[Declaration]) -> list[Finding]:
    """Return the findings of one use."""
    t = one.tried
    if t.rule is None or not (t.trial.labels or t.trial.mismatched):
        return []
    findings = [_mismatch(one, *m) for m in t.trial.mismatched]
    unlike = {number for number, *_ in t.trial.mismatched}
    arrays = _arrays(one) if one.ins else None
    for j, operand in enumerate(judged_operands(t.use)):
        if operand in unlike:
            continue
        allowed = declaration(one.name, operand - _num_consts(one), declared)
        verdict = _of_operand(one, j, operand, arrays, allowed)
        if verdict is not None:
            findings.append(_finding(one, operand, verdict, allowed))
    for label, (row, when) in one.numbers.items():
        if label.check == "value" and row.ratio > 1:
            findings.append(_other_value(one, label.number, row, when))
    wrong = any(f.kind in (Kind.WRONG_CUSTOM_RULE, Kind.DECLARED) for f in findings)
    if not wrong and (second := _of_derivative(one)) is not None:
        findings.append(_finding(one, None, second, declaration(one.name, None, declared)))
    return findings


def _num_consts(one: Audited) -> int:
    return one.tried.use.eqn.params["num_consts"]


def _arrays(one: Audited) -> dict[str, Any] | None:
    """What the rule states and what it should, as arrays, outside of the program around; None for
    a rule that does not run alone, as one with a collective."""
    assert one.tried.rule is not None

    def run(ins: list[Any], cts: list[Any]) -> dict[str, Any]:
        arrays = arrays_of(use, rule, ins, cts)
        return {k: v for k, v in arrays.items() if k != "unjudged"}

    try:
        use, rule = alone(one.tried.use, one.tried.rule)
        with jax.enable_x64(True):
            return jax.device_get(jax.jit(run)(one.ins, one.cts))
    except Exception:  # whatever an equation raises outside of its mesh
        return None


def _of_operand(
    one: Audited, j: int, operand: int, arrays: dict[str, Any] | None, allowed: Declaration | None
) -> Verdict | None:
    if (changed := _changes(one, operand)) is not None:
        return changed
    if allowed is not None and callable(allowed.stands_for):
        if arrays is None:
            reason = "was not compared with the function that was declared: it does not run alone"
            return Verdict(Kind.UNRESOLVED, reason)
        stated = arrays["stated"][j][NEAR]
        near = [x[NEAR] for x in arrays["tried"]]
        return beside_surrogate(one.tried.use, operand, stated, one.ins, near, allowed)
    if Label("own", operand) in one.numbers:
        return _beside_derivative(one, j, operand, arrays, allowed)
    if arrays is None:
        reason = f"cannot be judged: {one.tried.trial.unjudged[:200]}"
        return Verdict(Kind.UNRESOLVED, reason)
    stated = arrays["stated"][j][NEAR]
    near = [x[NEAR] for x in arrays["tried"]]
    assert one.tried.rule is not None
    use, _ = alone(one.tried.use, one.tried.rule)
    judged = beside_values(use, operand, stated, one.ins, near, _tolerance(allowed))
    return judged or _not_linear(one, operand)


def _changes(one: Audited, operand: int) -> Verdict | None:
    """The verdict on a rule that states another number when it is asked again."""
    if Label("repeat", operand) not in one.numbers or not one.row("repeat", operand).error > 0:
        return None
    repeat = one.row("repeat", operand)
    reason = (
        "differs from call to call: with the same operands and the same cotangent it states "
        "another number"
    )
    entry = int(repeat.entry)
    return Verdict(Kind.WRONG_CUSTOM_RULE, reason, entry, repeat.expected, repeat.got)


def _beside_derivative(
    one: Audited, j: int, operand: int, arrays: dict[str, Any] | None, allowed: Declaration | None
) -> Verdict | None:
    """The verdict where the function has a plain derivative."""
    own, double = one.row("own", operand), one.row("double", operand)
    undefined = one.row("undefined", operand)
    blurred = is_blurred(own, double)
    differs = own.ratio > 1 or double.ratio > 1 or blurred
    if not differs and undefined.ratio <= 1:
        return None
    row = own if own.ratio > 1 or (blurred and double.ratio <= 1) else double
    tolerance = _tolerance(allowed)
    if differs and max(own.error, double.error) <= tolerance:
        return Verdict(Kind.DECLARED, f"is within {tolerance:g} of the derivative")
    if not differs:
        row = undefined
    slopes = _slopes_of_entries(one, j, operand, arrays, row, row is not double)
    if slopes is None and not differs:
        return Verdict(Kind.UNRESOLVED, UNDEFINED, int(row.entry), None, row.got)
    if slopes is None and blurred:
        return Verdict(Kind.UNRESOLVED, f"cannot be judged: {_rough(min(own.bar, double.bar))}")
    if slopes is None:
        return _by_plain_derivative(row)
    assert arrays is not None
    k = int(row.cotangent)
    stated = arrays["double"][j] if row is double else arrays["stated"][j][k]
    truth = arrays["truth"][j][k]
    return _decided(one, slopes, stated, truth, row, own.ratio > 1 >= double.ratio, operand)


def _tolerance(allowed: Declaration | None) -> float:
    """The error that is declared, as a share of the largest entry."""
    number = None if allowed is None else allowed.stands_for
    return float(number) if isinstance(number, int | float) else 0.0


UNDEFINED = (
    "cannot be judged: plain differentiation of the function has NaN there, and the function's "
    "values are not to be had alone"
)


def _slopes_of_entries(
    one: Audited, j: int, operand: int, arrays: dict[str, Any] | None, row: Row, in_own: bool
) -> list[tuple[int, Slope]] | None:
    """The slopes of the function, weighed by a cotangent, along entries that differ; None where
    they are not to be had."""
    if arrays is None or one.tried.rule is None:
        return None
    k = int(row.cotangent)
    stated = arrays["stated"][j][k] if in_own else arrays["double"][j]
    truth = arrays["truth"][j][k]
    if np.iscomplexobj(truth):
        return None
    with np.errstate(invalid="ignore"):
        apart = abs(np.ravel(np.asarray(stated, np.float64) - truth))
    apart = np.where(np.isnan(apart), np.inf, apart)
    size = max(_largest(truth), _largest(stated))
    order = np.argsort(-apart)[: max(1, np.count_nonzero(apart > row.bar * size))]
    rest = order[ENTRIES:]
    others = (
        rest[np.unique(np.linspace(0, len(rest) - 1, ENTRIES).astype(int))] if len(rest) else ()
    )
    entries = [int(i) for i in (*order[:ENTRIES], *others)]
    try:
        with jax.enable_x64(True):
            use, _ = alone(one.tried.use, one.tried.rule)
            value, x = weighed(use, operand, one.ins, [x[k] for x in arrays["tried"]])
            return list(slopes_at(value, x, entries))
    except Exception:  # a function that does not run alone, as one with a collective
        return None


def _largest(x: Any) -> float:
    sizes = abs(np.asarray(x, np.float64))
    return float(np.max(sizes, where=np.isfinite(sizes), initial=0.0))


def _by_plain_derivative(row: Row) -> Verdict:
    reason = f"is not the derivative of the function: plain differentiation has {row.expected:.6g}"
    return Verdict(Kind.WRONG_CUSTOM_RULE, reason, int(row.entry), row.expected, row.got)


def _rough(bar: float) -> str:
    return (
        f"what rounding does to plain differentiation is {bar:.1g} of the largest entry, which "
        "leaves no digits"
    )


def _decided(
    one: Audited,
    slopes: Sequence[tuple[int, Slope]],
    stated: Any,
    truth: Any,
    row: Row,
    only_rounding: bool,
    operand: int,
) -> Verdict | None:
    """What the slopes say of the entries that differ from plain differentiation."""
    flat, plain = np.ravel(np.asarray(stated, np.float64)), np.ravel(truth)
    size = max(_largest(truth), 1e-300)
    rounding = _rounding(one, operand, size, row is not one.row("double", operand))
    later: Verdict | None = None
    for entry, s in slopes:
        got = float(flat[entry])
        if s.kind == "jump":
            reason = "states a slope where the function's value jumps: no number is its derivative"
            later = later or Verdict(Kind.JUMP, reason, entry, None, got)
        elif s.kind == "unresolved" and not abs(got - s.value) > CERTAIN * s.error:
            if np.isnan(plain[entry]) and np.isfinite(got):
                later = later or Verdict(Kind.UNRESOLVED, ROUGH_AND_UNDEFINED, entry, None, got)
            elif row.ratio > CERTAIN:
                return _by_plain_derivative(row)
            else:
                reason = f"cannot be judged: {_rough(row.bar)}"
                later = later or Verdict(Kind.UNRESOLVED, reason, entry, None, got)
        elif not s.contains(got) and not abs(got - s.value) <= s.error + rounding:
            return _wrong(one, s, entry, got, size, row, only_rounding)
        elif s.kind == "kink":
            reason = (
                f"has a kink here, with slopes {s.left.value:.6g} and {s.right.value:.6g} on its "
                "sides; its rule takes one between them, which is as right as any other"
            )
            later = later or Verdict(Kind.KINK, reason, entry, None, got)
    return later


ROUGH_AND_UNDEFINED = (
    "cannot be judged: plain differentiation of the function has NaN there, and its values tell "
    "no slope"
)


def _rounding(one: Audited, operand: int, size: float, own: bool) -> float:
    """What rounding does to a right rule's number, in units of the cotangent."""
    eps = float(jnp.finfo(avals.struct(one.tried.use.eqn.invars[operand]).dtype).eps)
    return (MULTIPLE * eps if own else IN_DOUBLE) * size


def _wrong(
    one: Audited, s: Slope, entry: int, got: float, size: float, row: Row, only_rounding: bool
) -> Verdict:
    share = abs(got - s.value) / size
    if share <= CERTAIN * _assumed_tolerance(one) and not only_rounding:
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
    loops = {str(s.eqn.primitive) for s in sites(one.tried.use.body)}
    return max((SOLVERS[name] for name in loops if name in SOLVERS), default=0.0)


def _not_linear(one: Audited, operand: int) -> Verdict | None:
    """The verdict on a rule that is not linear in its cotangent."""
    words = {
        "sum": "of the sum of two cotangents it does not make the sum of what it makes of each",
        "multiple": "of a multiple of a cotangent it does not make as many times as much",
        "zero": "of a cotangent of zeros it makes something else",
    }
    for check, text in words.items():
        row = one.row(check, operand)
        if row.ratio > 1:
            reason = f"is not linear in its cotangent: {text}"
            return Verdict(Kind.WRONG_CUSTOM_RULE, reason, int(row.entry), row.expected, row.got)
    return None


def _of_derivative(one: Audited) -> Verdict | None:
    """The verdict on the derivative of the rule, where that differs from its differences."""
    if Label("second", None) not in one.numbers:
        return None
    row = one.row("second", None)
    if row.ratio <= 1 or not np.isfinite(row.got):  # NaN where the function has a kink
        return None
    assert one.tried.rule is not None
    try:
        use, rule = alone(one.tried.use, one.tried.rule)
        with jax.enable_x64(True):
            arrays = _arrays(one)
            assert arrays is not None
            near = [jnp.asarray(x[NEAR]) for x in arrays["tried"]]
            along = along_direction(use, rule, [jnp.asarray(x) for x in one.ins], near)
            values = jax.jit(lambda offsets: jax.lax.map(lambda t: along(t)[0], offsets))
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


def _finding(
    one: Audited, operand: int | None, verdict: Verdict, allowed: Declaration | None
) -> Finding:
    """A verdict as a finding; what is declared to be anything fails no longer."""
    eqn, name = one.tried.use.eqn, one.name
    kind, end = verdict.kind, "."
    if (
        allowed is not None
        and allowed.stands_for is None
        and kind in (Kind.WRONG_CUSTOM_RULE, Kind.JUMP, Kind.UNRESOLVED)
    ):
        kind, end = Kind.DECLARED, ", as declared."
    elif kind is Kind.DECLARED:
        end = ", as declared."
    elif kind is Kind.WRONG_CUSTOM_RULE:
        end = f". Mend the rule, or, if it deviates on purpose, say so: declared=[{name.name}]."
    subject = str(name) if kind is Kind.KINK else f"the {is_rule(eqn)} rule of {name}"
    shape = avals.struct(eqn.invars[operand]).shape if operand is not None else ()
    compared = (Label(c, operand) for c in ("own", "double", "repeat"))
    label = next((c for c in compared if c in one.numbers), None)
    iteration = one.iteration if one.ins or label is None else one.numbers[label][1]
    return Finding(
        kind=kind,
        message=f"{subject} {verdict.reason}{end}",
        index=None if verdict.entry is None else unraveled(verdict.entry, shape),
        expected=verdict.expected,
        got=verdict.got,
        primitive=str(eqn.primitive),
        operand=None if operand is None else operand - _num_consts(one),
        iteration=iteration,
        source=user_line(eqn),
    )


def _mismatch(one: Audited, operand: int, got: str, want: str) -> Finding:
    reason = f"states a cotangent of type {got} for an operand of type {want}"
    return _finding(one, operand, Verdict(Kind.WRONG_CUSTOM_RULE, reason), None)


def _other_value(one: Audited, output: int | None, row: Row, when: tuple[int, ...]) -> Finding:
    """A rule that returns another value than the function."""
    eqn = one.tried.use.eqn
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
