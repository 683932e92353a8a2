"""The findings on one use of a custom rule."""

from collections.abc import Sequence

from fbp.autodiff import avals
from fbp.verify.audited import Audited, arrays_alone, declaration
from fbp.verify.custom_rules import is_rule
from fbp.verify.declared import Declaration, user_source
from fbp.verify.problem import unraveled
from fbp.verify.report import Finding, Kind
from fbp.verify.rule_trial import Label
from fbp.verify.rule_use import judged_operands
from fbp.verify.rule_verdict import of_derivative, of_operand
from fbp.verify.verdict import Verdict
from fbp.verify.worst_entry import Row


def findings_of(one: Audited, declared: Sequence[Declaration]) -> list[Finding]:
    """Return the findings of one use."""
    t = one.tried
    if t.rule is None or not (t.trial.labels or t.trial.mismatched):
        return []
    findings = [_mismatch(one, *m) for m in t.trial.mismatched]
    unlike = {number for number, *_ in t.trial.mismatched}
    arrays = arrays_alone(one) if one.ins else None
    for j, operand in enumerate(judged_operands(t.use)):
        if operand in unlike:
            continue
        allowed = declaration(one.name, operand - one.num_consts, declared)
        verdict = of_operand(one, j, operand, arrays, allowed)
        if verdict is not None:
            findings.append(_finding(one, operand, verdict, allowed))
    for label, (row, when) in one.numbers.items():
        if label.check == "value" and row.ratio > 1:
            findings.append(_other_value(one, label.number, row, when))
    wrong = any(f.kind in (Kind.WRONG_CUSTOM_RULE, Kind.DECLARED) for f in findings)
    if not wrong and (second := of_derivative(one)) is not None:
        findings.append(_finding(one, None, second, declaration(one.name, None, declared)))
    return findings


def _finding(
    one: Audited, operand: int | None, verdict: Verdict, allowed: Declaration | None
) -> Finding:
    """Return a verdict as a finding; what is declared to be anything fails no longer."""
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
        operand=None if operand is None else operand - one.num_consts,
        iteration=iteration,
        source=user_source(eqn),
    )


def _mismatch(one: Audited, operand: int, got: str, want: str) -> Finding:
    reason = f"states a cotangent of type {got} for an operand of type {want}"
    return _finding(one, operand, Verdict(Kind.WRONG_CUSTOM_RULE, reason), None)


def _other_value(one: Audited, output: int | None, row: Row, when: tuple[int, ...]) -> Finding:
    """Return the finding on a rule that returns another value than the function."""
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
        source=user_source(eqn),
    )
