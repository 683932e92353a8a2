"""Each leaf of a gradient beside its reference."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from fbp.autodiff import graph as g
from fbp.verify.directions import along_directions
from fbp.verify.kinks import at_kinks
from fbp.verify.parts import Parts
from fbp.verify.problem import CheckedFunction
from fbp.verify.reference import (
    COARSE,
    UNKNOWN,
    Reference,
    coarsest_in_double,
    coarsest_of,
    compared,
    eps_of,
    first_line,
    gradient_in_double,
    jax_reference,
)
from fbp.verify.report import Finding, Kind, LeafVerdict
from fbp.verify.second_order import halves, with_derivative
from fbp.verify.subject import Subject
from fbp.verify.under_transforms import DIFFERENTIATION

BY_JAX = "jax.grad in float64"
DOUBLE = float(jnp.finfo(jnp.float64).eps)


@dataclass(frozen=True)
class Known:
    """The reference and the gradient in float64, each with its own derivative."""

    reference: Reference | None
    second: tuple[np.ndarray, ...] | None
    double: Sequence[Any] | None
    double_second: Sequence[Any] | None
    eps: float
    coarsest: float


def known_of(parts: Parts, truth: CheckedFunction, subject: Subject) -> Known:
    """Return the reference and the gradient in float64, as far as they are to be had."""
    reference, second, reason = None, None, ""
    try:
        reference, second, reason = jax_reference(truth)
    except UNKNOWN:  # JAX cannot differentiate every function: the leaf says what it was beside
        pass
    except Exception as error:
        parts.unchecked.append(f"could not check beside jax.grad: {first_line(error)}")
    double, double_second, why = None, None, ""
    if not subject.untraceable:
        double, double_second, why = _in_double(subject, second is not None)
    if reference is not None and (second is None or (double_second is None and why)):
        parts.unchecked.append(f"could not check {DIFFERENTIATION}: {reason or why}")
    eps, coarsest = DOUBLE, 0.0
    if double is not None:
        try:
            coarsest = coarsest_of(g.stage(subject.function, *subject.problem.point)[0])
            eps = coarsest_in_double(subject.problem, subject.function)
        except Exception as error:  # then only its own precision is compared
            double, double_second = None, None
            parts.unchecked.append(f"could not check the gradient in float64: {first_line(error)}")
    return Known(reference, second, double, double_second, eps, coarsest)


def _in_double(
    subject: Subject, with_second: bool
) -> tuple[Sequence[Any] | None, Sequence[Any] | None, str]:
    """Return the gradient in float64, and its own derivative if that is asked for; None for what
    cannot be traced or differentiated, and why."""
    reason = ""
    if with_second:
        try:
            both = gradient_in_double(with_derivative(subject.function), subject.problem)
            return *halves(both), ""
        except Exception as error:  # whatever a gradient raises that has no derivative itself
            reason = first_line(error)
    try:
        return gradient_in_double(subject.function, subject.problem), None, reason
    except Exception as error:  # whatever a gradient raises that cannot run in float64
        return None, None, first_line(error)


def compare_leaves(
    parts: Parts,
    truth: CheckedFunction,
    subject: Subject,
    known: Known,
    implementation: Callable | None,
) -> None:
    """Add a verdict for each leaf: beside a gradient, or along directions where there is none."""
    got = subject.value
    if known.reference is None:

        def directions() -> None:
            verdicts = along_directions(truth, got if known.double is None else known.double)
            parts.leaves += verdicts
            parts.findings += [_wrong(v) for v in verdicts if not v.ok]

        parts.attempt("the leaves", directions)
        return
    parts.attempt("the leaves", lambda: _beside(parts, truth, subject, known, implementation))


def _beside(
    parts: Parts,
    truth: CheckedFunction,
    subject: Subject,
    known: Known,
    implementation: Callable | None,
) -> None:
    assert known.reference is not None
    how = BY_JAX if implementation is None else f"the reference, by {BY_JAX}"
    verdicts = verdicts_of(
        truth, known.reference, subject.value, known.double, known.eps, how, known.coarsest
    )
    verdicts, findings = _judged_by_values(truth, known.reference, verdicts, subject.value)
    parts.leaves += verdicts
    parts.findings += findings
    for v in verdicts:
        if v.ok and not v.resolved:
            message = (
                f"rounding alone changes the gradient of {v.leaf} by "
                f"{v.bar_ulps * _unit(v):.1g}, which leaves no digits: it is neither right nor "
                "wrong. Check fewer steps, or in a wider precision."
            )
            parts.findings.append(Finding(Kind.UNRESOLVED, message, leaf=v.leaf))


def _unit(verdict: LeafVerdict) -> float:
    apart = abs(verdict.got - verdict.expected)
    return apart / verdict.max_ulps if verdict.max_ulps else 0.0


def verdicts_of(
    problem: CheckedFunction,
    reference: Reference,
    got: Sequence[Any],
    double: Sequence[Any] | None,
    eps_of_double: float,
    how: str = BY_JAX,
    coarsest: float = 0.0,
) -> list[LeafVerdict]:
    """Return a verdict on each leaf, in its own precision and in float64 where that is there: the
    worse of the two. Where the program rounds to a coarse dtype on its way, that of spacing
    `coarsest`, the comparison in float64 tells, unless a finer leaf has lost its digits."""
    verdicts = []
    for i, (name, x, want, leaf) in enumerate(
        zip(problem.names, got, reference.grads, problem.leaves, strict=True)
    ):
        eps = max(eps_of(x), eps_of(leaf))
        verdict = compared(name, x, want, reference.bar(i, eps), eps, how)
        error = abs(verdict.got - verdict.expected) if verdict.ok and eps < COARSE else 0.0
        resolved = reference.resolves(i, max(eps, coarsest), error)
        verdicts.append(replace(verdict, resolved=resolved))
    for i, x in enumerate(double or ()):
        if verdicts[i].ok and eps_of(x) == DOUBLE:
            bar = reference.bar(i, eps_of_double)
            verdict = compared(
                problem.names[i],
                x,
                reference.grads[i],
                bar,
                eps_of_double,
                f"{how}, both in float64",
            )
            verdicts[i] = verdicts[i] if verdict.ok else verdict
    return verdicts


def _judged_by_values(
    problem: CheckedFunction, reference: Reference, verdicts: list[LeafVerdict], got: Sequence[Any]
) -> tuple[list[LeafVerdict], list[Finding]]:
    """Return the verdicts where the values are asked of what differs: at kinks it may."""
    findings = []
    for number, (verdict, x) in enumerate(zip(verdicts, got, strict=True)):
        if not verdict.ok:
            bar = reference.bar(number, max(eps_of(x), eps_of(problem.leaves[number])))
            try:
                finding = at_kinks(problem, reference, number, x, bar) or _wrong(verdict)
            except Exception:  # a function whose values are not to be had alone
                finding = _wrong(verdict)
            verdicts[number] = replace(verdict, ok=not finding.kind.fails)
            findings.append(finding)
    return verdicts, findings


def _wrong(verdict: LeafVerdict) -> Finding:
    message = f"the gradient differs from {verdict.reference}."
    return verdict.finding(Kind.WRONG_GRADIENT, message)


def missing(name: str) -> LeafVerdict:
    """Return the verdict on a leaf whose gradient is missing, or does not fit."""
    nan = float("nan")
    return LeafVerdict(name, False, float("inf"), 0.0, (), nan, nan, "its argument's type")


def uncompared(name: str) -> LeafVerdict:
    """Return the verdict on a leaf that was compared with nothing."""
    nan = float("nan")
    return LeafVerdict(name, True, nan, nan, (), nan, nan, "nothing", resolved=False)


def present(subject: Subject) -> tuple[CheckedFunction, Subject]:
    """Return the same without the leaves whose gradient does not fit."""
    fitting = [i for i, x in enumerate(subject.value) if x is not None]
    every_leaf = subject.problem
    problem = replace(
        every_leaf,
        positions=tuple(every_leaf.positions[i] for i in fitting),
        names=tuple(every_leaf.names[i] for i in fitting),
        paths=tuple(every_leaf.paths[i] for i in fitting),
    )

    def function(leaves: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
        every = [arrays[i] for i in every_leaf.positions]
        for i, leaf in zip(fitting, leaves, strict=True):
            every[i] = leaf
        value = subject.function(every, arrays)
        return [value[i] for i in fitting]

    value = [subject.value[i] for i in fitting]
    return problem, replace(subject, problem=problem, function=function, value=value)
