"""Custom rules beside plain differentiation of their own functions, and beside their values.

Where a rule and plain differentiation differ by more than the bar, the function's values decide:
the slope of the function along the entry that differs says which of the two is right, or that both
are, as at a kink. Where there is no plain derivative, as of a callback, only the values are asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from fbp.autodiff.rule import Rules
from fbp.verify.audited import Audited, declaration
from fbp.verify.custom_rules import (
    Tried,
    Uses,
    custom_equations,
    is_rule,
    operands,
    tried,
    uses_of,
)
from fbp.verify.declared import Declaration, RuleName, rule_name, user_source
from fbp.verify.problem import CheckedFunction
from fbp.verify.report import Finding, Kind, RuleSummary
from fbp.verify.rule_findings import findings_of
from fbp.verify.rule_trial import Label
from fbp.verify.rule_verdict import is_blurred
from fbp.verify.worst_entry import Row

UNCLEAR = ("own", "double", "undefined", "second")
"""The comparisons after which values are asked."""


@dataclass(frozen=True)
class Audit:
    """What was found of the custom rules of a function.

    Attributes:
      findings: what differs.
      rules: for each rule, what was compared, at how many sites, and what could not be judged.
      unchecked: what could not be done as it should, and why.
    """

    findings: tuple[Finding, ...] = ()
    rules: tuple[RuleSummary, ...] = ()
    unchecked: tuple[str, ...] = ()


def audit(problem: CheckedFunction, rules: Rules, declared: Sequence[Declaration]) -> Audit:
    """Compare every custom rule that takes part in the gradient."""
    equations = custom_equations(problem)
    if not equations:
        return Audit()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        uses = uses_of(problem, rules)
        args = jax.tree.leaves(problem.point)
        every = tried(uses, args)
        names = [rule_name(t.use.eqn) for t in every]
        findings, unjudged = _judged(uses, args, every, names, declared)
        order = dict.fromkeys([*(rule_name(s.eqn) for s in equations), *names])
        summaries = [_summary(name, every, names, unjudged.get(name, ())) for name in order]
    notes = (uses.note,) if uses.note else ()
    return Audit(tuple(findings), tuple(summaries), notes)


def _judged(
    uses: Uses,
    args: Sequence[Any],
    every: Sequence[Tried],
    names: Sequence[RuleName],
    declared: Sequence[Declaration],
) -> tuple[list[Finding], dict[RuleName, list[str]]]:
    """Return the findings, each once, and for each rule why it could not be judged."""
    compared = [
        (t, name, _numbers(t)) for t, name in zip(every, names, strict=True) if t.ran and t.rule
    ]
    unclear = {
        t.site.key: _iteration(t, numbers)
        for t, name, numbers in compared
        if _needs_values(t, name, numbers, declared)
    }
    looked_up = operands(uses, args, unclear) if unclear else {}
    findings: dict[tuple, Finding] = {}
    unjudged: dict[RuleName, list[str]] = {}
    for t, name in zip(every, names, strict=True):
        if t.ran and not t.rule and t.trial.unjudged:
            unjudged.setdefault(name, []).append(t.trial.unjudged)
            if refuses_a_rule(ValueError(t.trial.unjudged)):
                findings[name, _identity(t)] = _refused(t, name)
    for t, name, numbers in compared:
        ins, cts = looked_up.get(t.site.key, ([], []))
        try:
            mine = findings_of(
                Audited(name, t, numbers, ins, cts, _iteration(t, numbers)), declared
            )
        except Exception as error:  # whatever evaluating a user's function alone may raise
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            unjudged.setdefault(name, []).append(reason)
            continue
        if t.trial.unjudged and not t.trial.labels:
            unjudged.setdefault(name, []).append(t.trial.unjudged)
        for finding in mine:
            findings.setdefault((name, _identity(t), finding.kind, finding.operand), finding)
            if finding.kind is Kind.UNRESOLVED:
                unjudged.setdefault(name, []).append("unresolved, see below")
    return list(findings.values()), unjudged


def refuses_a_rule(error: Exception) -> bool:
    """Return whether JAX says that a custom rule has not the form, or the types, of one."""
    return str(error).startswith(("Custom VJP", "Custom JVP", "Expected output", "custom_vjp"))


def _refused(t: Tried, name: RuleName) -> Finding:
    return Finding(
        Kind.WRONG_CUSTOM_RULE,
        f"the {is_rule(t.use.eqn)} rule of {name} cannot be used: {t.trial.unjudged}",
        primitive=str(t.use.eqn.primitive),
        source=user_source(t.use.eqn),
    )


def _identity(t: Tried) -> int:
    """Return what tells apart the rules of functions that are written in one place."""
    bwd = t.use.eqn.params.get("bwd")
    return id(getattr(bwd, "f", None))


def _summary(
    name: RuleName, every: Sequence[Tried], names: Sequence[RuleName], unjudged: Sequence[str]
) -> RuleSummary:
    """Return at how many sites a rule was compared, and what was not."""
    mine = [t for t, other in zip(every, names, strict=True) if other == name]
    ran = [t for t in mine if t.ran]
    return RuleSummary(
        name=str(name),
        compared=sum(t.rule is not None for t in ran),
        not_run=len(mine) - len(ran),
        used=bool(mine),
        unjudged=tuple(dict.fromkeys(unjudged)),
        second_derivative=next((t.trial.second for t in ran if t.trial.second), ""),
    )


def _numbers(t: Tried) -> dict[Label, tuple[Row, tuple[int, ...]]]:
    """Return the worst entries by what they compare, each with the iteration that it comes from."""
    return {
        label: (Row(*map(float, row)), tuple(int(i) for i in when))
        for label, row, when in zip(t.trial.labels, t.rows, t.iterations, strict=True)
    }


def _iteration(t: Tried, numbers: dict[Label, tuple[Row, tuple[int, ...]]]) -> tuple[int, ...]:
    """Return the iteration in which the rule is farthest off."""
    checks = [(row.ratio, when) for label, (row, when) in numbers.items() if label.check in UNCLEAR]
    if checks:
        return max(checks)[1]
    return tuple(int(i) for i in t.iterations[0]) if len(t.iterations) else ()


def _needs_values(
    t: Tried,
    name: RuleName,
    numbers: dict[Label, tuple[Row, tuple[int, ...]]],
    declared: Sequence[Declaration],
) -> bool:
    """Return whether the comparison with plain differentiation leaves the verdict open."""
    allowed = declaration(name, None, declared)
    if t.trial.unjudged or (allowed is not None and callable(allowed.stands_for)):
        return True
    if any(row.ratio > 1 for label, (row, _) in numbers.items() if label.check in UNCLEAR):
        return True
    return any(
        is_blurred(row, numbers[Label("double", label.number)][0])
        for label, (row, _) in numbers.items()
        if label.check == "own"
    )
