"""The check: a gradient beside its reference, and what is wrong with it if they differ."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.autodiff import RULES, grad
from fbp.autodiff.rule import Rules
from fbp.verify.audit import wrong_custom_rules
from fbp.verify.directions import along_directions
from fbp.verify.kinks import at_kinks
from fbp.verify.localise import wrong_rules
from fbp.verify.nonfinite import trace_nonfinite
from fbp.verify.problem import Problem, problem_of
from fbp.verify.reference import (
    UNKNOWN,
    Reference,
    as_double,
    by_jax,
    coarsest_in_double,
    compared,
    eps_of,
    gradient_in_double,
)
from fbp.verify.report import Finding, Kind, LeafVerdict, Report, ordered
from fbp.verify.second_order import halves, with_derivative
from fbp.verify.under_transforms import DIFFERENTIATION, disagreements, wrong_derivative

BY_JAX = "jax.grad in float64"
DOUBLE = float(jnp.finfo(jnp.float64).eps)


def check(
    fun: Callable,
    *args: Any,
    argnums: int | Sequence[int] = 0,
    gradient: Callable | None = None,
    rules: Rules = RULES,
    declared: Sequence[Callable | str] = (),
) -> Report:
    """Is the gradient of `fun(*args)` right, and if not, where does it go wrong?

    The gradient is compared, entry by entry, with that of the same program in float64; the error
    that it may have is measured, never set: what rounding to its dtype does to `jax.grad`. Then
    every custom rule in the function is compared with the derivative of its own function. The
    findings say what differs, where, and what to do.

    Args:
      fun: a function of arrays; outputs other than one scalar are weighed and summed.
      args: where to check. `argnums` says which of them are differentiated.
      gradient: what to check, a function like `jax.grad(fun, argnums)`; `fbp.grad` by `rules` if
        not given.
      declared: what deviates on purpose: functions with a custom rule, or their names, whose rule
        is not their derivative; paths of leaves, as "args[0]['b']", whose gradient is zero.

    Raises InputError for arguments that cannot be checked, and what `fun` and `gradient` raise.

    >>> import jax.numpy as jnp
    >>> check(lambda x: jnp.sum(jnp.sin(x)), jnp.arange(3.0)).ok
    True
    """
    problem = problem_of(fun, args, argnums)
    subject = gradient_of(problem, gradient, rules)
    got = (jax.jit(subject) if gradient is None else subject)(*problem.point)
    reference, second_order = _references(problem)
    fine, its_derivative = _in_double(problem, subject, second_order is not None)
    if reference is None:
        verdicts = along_directions(problem, got if fine is None else fine)
        findings = [_wrong(v) for v in verdicts if not v.ok]
    else:
        eps_of_fine = DOUBLE if fine is None else coarsest_in_double(problem, subject)
        verdicts = verdicts_of(problem, reference, got, fine, eps_of_fine)
        verdicts, findings = _judged_by_values(problem, reference, verdicts, got)
    if any(f.kind.fails for f in findings) and gradient is None:
        findings += wrong_rules(problem, rules)
    names = frozenset(d if isinstance(d, str) else d.__name__ for d in declared)
    findings += [*_not_finite(problem, got), *_zero(problem, got, names)]
    checked = []
    if reference is not None:
        findings += wrong_custom_rules(problem, names)
        changes, checked = disagreements(problem, subject, got, reference)
        findings += changes
        if second_order is not None and its_derivative is not None:
            findings += wrong_derivative(problem, its_derivative, second_order, eps_of_fine)
            checked.append(DIFFERENTIATION)
    return Report(
        subject=f"the gradient of {problem.name}",
        leaves=tuple(verdicts),
        findings=ordered(findings),
        checked=tuple(checked),
    )


def assert_gradients(
    fun: Callable,
    *args: Any,
    argnums: int | Sequence[int] = 0,
    gradient: Callable | None = None,
    rules: Rules = RULES,
    declared: Sequence[Callable | str] = (),
) -> None:
    """Raise AssertionError, with the whole report, unless the gradient of `fun(*args)` is right.

    The arguments are those of `check`, and so is what it raises otherwise.

    >>> import jax.numpy as jnp
    >>> assert_gradients(jnp.tanh, 0.3)
    """
    report = check(fun, *args, argnums=argnums, gradient=gradient, rules=rules, declared=declared)
    if not report.ok:
        raise AssertionError(f"\n{report}")


def _references(problem: Problem) -> tuple[Reference | None, Reference | None]:
    """The gradient by JAX and its own derivative; None where JAX cannot differentiate or trace the
    function."""
    try:
        return by_jax(problem)
    except UNKNOWN:
        return None, None


def gradient_of(problem: Problem, gradient: Callable | None, rules: Rules) -> Callable:
    """What is checked, as a function of (leaves, arrays): a gradient with the signature of
    `jax.grad(fun, argnums)`, or fbp's by `rules` if there is none."""
    if gradient is None:
        return grad(problem.loss, rules=rules)

    def of_leaves(leaves: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
        return problem.chosen_leaves(gradient(*problem.at(leaves, arrays)))

    return of_leaves


def _in_double(
    problem: Problem, subject: Callable, with_second: bool
) -> tuple[Sequence[Any] | None, Sequence[Any] | None]:
    """The gradient in float64, and its own derivative if that is asked for; None for what cannot
    be traced or differentiated."""
    if with_second:
        try:
            return halves(gradient_in_double(with_derivative(subject), problem))
        except Exception:  # whatever a gradient raises that has no derivative itself
            pass
    try:
        return gradient_in_double(subject, problem), None
    except Exception:  # whatever a gradient raises that cannot be traced
        return None, None


def verdicts_of(
    problem: Problem,
    reference: Reference,
    got: Sequence[Any],
    fine: Sequence[Any] | None,
    eps_of_fine: float,
) -> list[LeafVerdict]:
    """Each leaf in its own precision, and in float64 where that is there; the worse of the two."""
    verdicts = [
        compared(name, x, want, reference.bar(i, eps), eps, BY_JAX)
        for i, (name, x, want, eps) in enumerate(
            zip(problem.names, got, reference.grads, map(eps_of, got), strict=True)
        )
    ]
    how = f"{BY_JAX}, both in float64"
    for i, x in enumerate(fine or ()):
        if verdicts[i].ok and eps_of(x) == DOUBLE:
            bar = reference.bar(i, eps_of_fine)
            verdict = compared(problem.names[i], x, reference.grads[i], bar, eps_of_fine, how)
            verdicts[i] = verdicts[i] if verdict.ok else verdict
    return verdicts


def _wrong(verdict: LeafVerdict) -> Finding:
    message = f"the gradient differs from {verdict.reference}."
    return verdict.finding(Kind.WRONG_GRADIENT, message)


def _judged_by_values(
    problem: Problem, reference: Reference, verdicts: list[LeafVerdict], got: Sequence[Any]
) -> tuple[list[LeafVerdict], list[Finding]]:
    """Where the gradient differs from the reference: at kinks it may."""
    findings = []
    for place, (verdict, x) in enumerate(zip(verdicts, got, strict=True)):
        if not verdict.ok:
            bar = reference.bar(place, eps_of(x))
            finding = at_kinks(problem, reference, place, x, bar) or _wrong(verdict)
            verdicts[place] = replace(verdict, ok=not finding.kind.fails)
            findings.append(finding)
    return verdicts, findings


def _not_finite(problem: Problem, got: Sequence[Any]) -> list[Finding]:
    """Where NaN and infinity come from, if the gradient holds any."""
    bad = [name for name, x in zip(problem.names, got, strict=True) if not _is_finite(x)]
    if not bad:
        return []
    try:
        leaves, arrays = problem.point
        origins = trace_nonfinite(problem.loss, leaves, arrays).findings
    except UNKNOWN:
        origins = ()
    found = [replace(f, leaf=_named(problem, f.leaf)) for f in origins]
    message = "the gradient holds NaN or infinity."
    return found or [Finding(kind=Kind.NON_FINITE, message=message, leaf=bad[0])]


def _is_finite(x: Any) -> bool:
    return bool(np.isfinite(as_double(x)).all())


def _named(problem: Problem, leaf: str | None) -> str | None:
    """The name of a leaf that is known by its number."""
    numbered = {f"args[0][{i}]": name for i, name in enumerate(problem.names)}
    return numbered.get(leaf, leaf) if leaf else None


def _zero(problem: Problem, got: Sequence[Any], declared: frozenset[str]) -> list[Finding]:
    return [
        Finding(
            kind=Kind.ZERO,
            message=(
                "every entry of the gradient is zero: the function does not use the leaf, stops "
                f'its gradient, or is flat here. If it should be, say so: declared=["{name}"].'
            ),
            leaf=name,
        )
        for name, x in zip(problem.names, got, strict=True)
        if name not in declared and not np.any(as_double(x))
    ]
