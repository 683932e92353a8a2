"""The check: a gradient beside its reference, and what is wrong with it if they differ."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from fbp.autodiff import RULES
from fbp.autodiff import graph as g
from fbp.autodiff.rule import Rules
from fbp.errors import InputError
from fbp.verify.audit import audit
from fbp.verify.declared import Declaration, Declarations, declarations
from fbp.verify.directions import along_directions
from fbp.verify.edited import declared_edits
from fbp.verify.kinks import at_kinks
from fbp.verify.linear_solves import audit_linear_solves
from fbp.verify.localise import wrong_rules
from fbp.verify.nonfinite import trace_nonfinite
from fbp.verify.observe import calls_out, opaque, sites
from fbp.verify.points import drawn, merged
from fbp.verify.problem import Problem, problem_of
from fbp.verify.reference import (
    Reference,
    as_double,
    by_jax,
    coarsest_in_double,
    compared,
    eps_of,
    first_line,
    gradient_in_double,
)
from fbp.verify.report import Finding, Kind, LeafVerdict, Report, RuleSummary, ordered
from fbp.verify.second_implementation import wrong_values
from fbp.verify.second_order import halves, with_derivative
from fbp.verify.subject import Subject, by_fbp, by_user, repeated
from fbp.verify.under_transforms import DIFFERENTIATION, disagreements, wrong_derivative

BY_JAX = "jax.grad in float64"
DOUBLE = float(jnp.finfo(jnp.float64).eps)


class Interrupted(KeyboardInterrupt):
    """A check was interrupted; `report` holds what was checked until then."""

    def __init__(self, report: Report):
        self.report = report
        super().__init__("the check was interrupted")


@dataclass
class _Parts:
    """What a check knows so far. Each part of it stands by itself: one that fails is said not to
    have been checked, and takes down no other."""

    name: str
    leaves: list[LeafVerdict] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    rules: list[RuleSummary] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def attempt(self, what: str, part: Callable[[], None]) -> None:
        """Do a part of the check; whatever goes wrong in it is said in a line."""
        try:
            part()
        except InputError:
            raise
        except Exception as error:  # what a part may raise depends on the user's program
            self.unchecked.append(f"could not check {what}: {first_line(error)}")

    def report(self) -> Report:
        """All of it."""
        return Report(
            subject=f"the gradient of {self.name}",
            leaves=tuple(self.leaves),
            findings=ordered(self.findings),
            checked=tuple(self.checked),
            rules=tuple(self.rules),
            unchecked=tuple(self.unchecked),
        )


def check(
    fun: Callable,
    *args: Any,
    argnums: int | Sequence[int] = 0,
    gradient: Callable | None = None,
    rules: Rules = RULES,
    declared: Declarations = (),
    reference: Callable | None = None,
    shapes: Sequence[Any] = (),
) -> Report:
    """Is the gradient of `fun(*args)` right, and if not, where does it go wrong?

    The gradient is compared, entry by entry, with that of the same program in float64; the error
    that it may have is measured, never set: what rounding to its dtype does to `jax.grad`. Then
    every custom rule in the function is compared with plain differentiation of its own function,
    and with the function's values. The findings say what differs, where, and what to do.

    Args:
      fun: a function of arrays; outputs other than one scalar are weighed and summed.
      args: where to check. `argnums` says which of them are differentiated. What is no array (a
        string, a setting of a module) is passed on as it is.
      gradient: what to check, a function like `jax.grad(fun, argnums)`, of any library; `fbp.grad`
        by `rules` if not given.
      rules: the table of rules; its edits are reported as declared, and the gradient is checked
        without them.
      declared: what deviates on purpose: functions with a custom rule, or their names, or pairs of
        one and an operand's number; or a mapping from these to the function whose derivative the
        rule is, or to the largest error that it may have, as a share of the largest entry. Also
        paths of leaves, as "args[0]['b']", whose gradient is zero.
      reference: a second implementation of `fun`, whose values and gradient are the truth.
      shapes: points to draw in the place of `args`, each a tuple with "float32[5,4]" or an array
        for each argument: all are checked, and make one report.

    Returns a Report. Raises InputError for arguments that cannot be checked, what `fun` and
    `gradient` raise when they are called, and Interrupted, with the report so far, for Ctrl-C.

    >>> import jax.numpy as jnp
    >>> check(lambda x: jnp.sum(jnp.sin(x)), jnp.arange(3.0)).ok
    True
    >>> check(jnp.tanh, shapes=[("float32[3]",), ("float32[2,2]",)]).ok
    True
    """
    if shapes:
        if args:
            raise InputError("give args or shapes=, not both: shapes= draws the arguments.")
        settings: dict[str, Any] = {"argnums": argnums, "gradient": gradient, "rules": rules}
        settings |= {"declared": declared, "reference": reference}
        points = [(str(shape), drawn(shape)) for shape in shapes]
        return merged([(name, check(fun, *point, **settings)) for name, point in points])
    problem = problem_of(fun, args, argnums)
    parts = _Parts(problem.name)
    if rules.edits and gradient is None:
        parts.findings += declared_edits(problem, rules)
    try:
        _check(parts, problem, gradient, rules.table, declarations(declared), reference)
    except KeyboardInterrupt:
        parts.unchecked.append("could not check the rest: interrupted")
        raise Interrupted(parts.report()) from None
    return parts.report()


def _check(
    parts: _Parts,
    problem: Problem,
    gradient: Callable | None,
    rules: Rules,
    declared: Sequence[Declaration],
    truth: Callable | None,
) -> None:
    subject = by_fbp(problem, rules) if gradient is None else by_user(problem, gradient)
    problem = subject.problem
    parts.findings += subject.findings
    if any(x is None for x in subject.value):
        values = zip(problem.names, subject.value, strict=True)
        parts.leaves += [_missing(name) for name, x in values if x is None]
        if all(x is None for x in subject.value):
            return
        problem, subject = _present(subject)
    if subject.untraceable:
        parts.unchecked.append(
            "could not check the gradient under transformations, nor in float64: it cannot be "
            f"traced ({subject.untraceable})"
        )
    of_truth = problem if truth is None else replace(problem, fun=truth)
    if truth is not None:
        parts.attempt("the values", lambda: parts.findings.extend(wrong_values(problem, of_truth)))
    known = _known(parts, of_truth, subject)
    _compare_leaves(parts, of_truth, subject, known, truth)
    steady = _repeats(parts, subject, known.reference)
    if any(f.kind.fails for f in parts.findings) and gradient is None:
        parts.attempt("each rule", lambda: parts.findings.extend(wrong_rules(problem, rules)))
    leaves_declared = frozenset(d.name for d in declared)
    parts.attempt("for NaN", lambda: parts.findings.extend(_not_finite(problem, subject.value)))
    parts.findings += _zero(problem, subject.value, leaves_declared)

    def custom_rules() -> None:
        found = audit(problem, rules, declared)
        parts.findings += found.findings
        parts.rules += found.rules
        parts.unchecked += found.unchecked

    def linear_solves() -> None:
        findings, summaries = audit_linear_solves(problem)
        parts.findings += findings
        parts.rules += summaries

    parts.attempt("the custom rules", custom_rules)
    parts.attempt("the linear solves", linear_solves)
    if known.reference is not None and steady and not subject.untraceable:
        _transforms(parts, problem, subject, known)
    _say_what_is_opaque(parts, problem)


@dataclass(frozen=True)
class _Known:
    """The reference and the gradient in float64, each with its own derivative."""

    reference: Reference | None
    second: tuple[np.ndarray, ...] | None
    fine: Sequence[Any] | None
    fine_second: Sequence[Any] | None
    eps: float


def _known(parts: _Parts, truth: Problem, subject: Subject) -> _Known:
    reference, second, reason = None, None, ""
    with contextlib.suppress(Exception):  # JAX cannot differentiate every function
        reference, second, reason = by_jax(truth)
    fine, fine_second, why = None, None, ""
    if not subject.untraceable:
        fine, fine_second, why = _in_double(subject, second is not None)
    if reference is not None and (second is None or (fine_second is None and why)):
        parts.unchecked.append(f"could not check {DIFFERENTIATION}: {reason or why}")
    eps = DOUBLE
    if fine is not None:
        eps = coarsest_in_double(subject.problem, subject.function)
    return _Known(reference, second, fine, fine_second, eps)


def _in_double(
    subject: Subject, with_second: bool
) -> tuple[Sequence[Any] | None, Sequence[Any] | None, str]:
    """The gradient in float64, and its own derivative if that is asked for; None for what cannot
    be traced or differentiated, and why."""
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


def _compare_leaves(
    parts: _Parts, truth: Problem, subject: Subject, known: _Known, implementation: Callable | None
) -> None:
    """One verdict for each leaf, beside a gradient if there is one, along directions otherwise."""
    got = subject.value
    if known.reference is None:

        def directions() -> None:
            verdicts = along_directions(truth, got if known.fine is None else known.fine)
            parts.leaves += verdicts
            parts.findings += [_wrong(v) for v in verdicts if not v.ok]

        parts.attempt("the leaves", directions)
        if not parts.leaves:
            parts.leaves += [_unknown(name) for name in truth.names]
        return
    how = BY_JAX if implementation is None else f"the reference, by {BY_JAX}"
    verdicts = verdicts_of(truth, known.reference, got, known.fine, known.eps, how)
    verdicts, findings = _judged_by_values(truth, known.reference, verdicts, got)
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
    problem: Problem,
    reference: Reference,
    got: Sequence[Any],
    fine: Sequence[Any] | None,
    eps_of_fine: float,
    how: str = BY_JAX,
) -> list[LeafVerdict]:
    """Each leaf in its own precision, and in float64 where that is there; the worse of the two."""
    verdicts = []
    for i, (name, x, want, leaf) in enumerate(
        zip(problem.names, got, reference.grads, problem.leaves, strict=True)
    ):
        eps = max(eps_of(x), eps_of(leaf))
        verdict = compared(name, x, want, reference.bar(i, eps), eps, how)
        verdicts.append(replace(verdict, resolved=reference.resolves(i, eps)))
    for i, x in enumerate(fine or ()):
        if verdicts[i].ok and eps_of(x) == DOUBLE:
            bar = reference.bar(i, eps_of_fine)
            verdict = compared(
                problem.names[i], x, reference.grads[i], bar, eps_of_fine, f"{how}, both in float64"
            )
            verdicts[i] = verdicts[i] if verdict.ok else verdict
    return verdicts


def _judged_by_values(
    problem: Problem, reference: Reference, verdicts: list[LeafVerdict], got: Sequence[Any]
) -> tuple[list[LeafVerdict], list[Finding]]:
    """Where the gradient differs from the reference: at kinks it may."""
    findings = []
    for place, (verdict, x) in enumerate(zip(verdicts, got, strict=True)):
        if not verdict.ok:
            bar = reference.bar(place, max(eps_of(x), eps_of(problem.leaves[place])))
            try:
                finding = at_kinks(problem, reference, place, x, bar) or _wrong(verdict)
            except Exception:  # a function whose values are not to be had alone
                finding = _wrong(verdict)
            verdicts[place] = replace(verdict, ok=not finding.kind.fails)
            findings.append(finding)
    return verdicts, findings


def _wrong(verdict: LeafVerdict) -> Finding:
    message = f"the gradient differs from {verdict.reference}."
    return verdict.finding(Kind.WRONG_GRADIENT, message)


def _missing(name: str) -> LeafVerdict:
    nan = float("nan")
    return LeafVerdict(name, False, float("inf"), 0.0, (), nan, nan, "its argument's type")


def _unknown(name: str) -> LeafVerdict:
    nan = float("nan")
    return LeafVerdict(name, True, nan, nan, (), nan, nan, "nothing", resolved=False)


def _present(subject: Subject) -> tuple[Problem, Subject]:
    """The same without the leaves whose gradient does not fit."""
    there = [i for i, x in enumerate(subject.value) if x is not None]
    whole = subject.problem
    problem = replace(
        whole,
        places=tuple(whole.places[i] for i in there),
        names=tuple(whole.names[i] for i in there),
        paths=tuple(whole.paths[i] for i in there),
    )

    def function(leaves: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
        every = [arrays[i] for i in whole.places]
        for i, leaf in zip(there, leaves, strict=True):
            every[i] = leaf
        value = subject.function(every, arrays)
        return [value[i] for i in there]

    value = [subject.value[i] for i in there]
    return problem, replace(subject, problem=problem, function=function, value=value)


def _repeats(parts: _Parts, subject: Subject, reference: Reference | None) -> bool:
    """Whether the gradient is the same when it is computed again; only programs that hold code of
    the host, or that are none, may differ."""
    if not subject.untraceable:
        graph, _ = g.stage(subject.function, *subject.problem.point)
        if not any(calls_out(site.eqn) for site in sites(graph)):
            return True
    steady = True

    def compare() -> None:
        nonlocal steady
        again = repeated(subject)
        for i, (name, a, b) in enumerate(
            zip(subject.problem.names, subject.value, again, strict=True)
        ):
            eps = eps_of(b)
            bar = 0.0 if reference is None else reference.bar(i, eps) / 16
            verdict = compared(name, b, as_double(a), bar, eps, "the first call")
            if not verdict.ok:
                steady = False
                message = (
                    "the gradient differs from call to call, at the same point: a random number "
                    "without a key, or a state, takes part in it."
                )
                parts.findings.append(verdict.finding(Kind.NOT_REPEATABLE, message))

    parts.attempt("a second call", compare)
    if not steady:  # what differs by chance is not named wrong as well
        parts.findings[:] = [f for f in parts.findings if f.kind is not Kind.WRONG_GRADIENT]
    return steady


def _transforms(parts: _Parts, problem: Problem, subject: Subject, known: _Known) -> None:
    reference = known.reference
    assert reference is not None
    for name, part in disagreements(problem, subject.function, subject.value, reference):

        def one(name: str = name, part: Callable = part) -> None:
            parts.findings += part()
            parts.checked.append(name)

        parts.attempt(f"under {name}", one)

    def second() -> None:
        assert known.second is not None
        assert known.fine_second is not None
        parts.findings += wrong_derivative(
            problem, known.fine_second, known.second, reference, known.eps
        )
        parts.checked.append(DIFFERENTIATION)

    if known.second is not None and known.fine_second is not None:
        parts.attempt(DIFFERENTIATION, second)


def _say_what_is_opaque(parts: _Parts, problem: Problem) -> None:
    """Nothing that holds a program is passed over without a word."""

    def look() -> None:
        graph, _ = g.stage(problem.loss, *problem.point)
        seen = dict.fromkeys(
            f"{site.eqn.primitive}{f' at {site.source}' if site.source else ''}"
            for site in opaque(graph)
        )
        parts.checked += [f"not looked into: {x}, judged by its values" for x in seen]

    try:
        look()
    except Exception:  # a function that cannot be traced has no equations
        parts.checked.append("not looked into: the function, which cannot be traced")


def assert_gradients(
    fun: Callable,
    *args: Any,
    argnums: int | Sequence[int] = 0,
    gradient: Callable | None = None,
    rules: Rules = RULES,
    declared: Declarations = (),
    reference: Callable | None = None,
    shapes: Sequence[Any] = (),
) -> None:
    """Raise AssertionError, with the whole report, unless the gradient of `fun(*args)` is right.

    The arguments are those of `check`, and so is what it raises otherwise.

    >>> import jax.numpy as jnp
    >>> assert_gradients(jnp.tanh, 0.3)
    """
    settings: dict[str, Any] = {"argnums": argnums, "gradient": gradient, "rules": rules}
    settings |= {"declared": declared, "reference": reference, "shapes": shapes}
    report = check(fun, *args, **settings)
    if not report.ok:
        raise AssertionError(f"\n{report}")


def _not_finite(problem: Problem, got: Sequence[Any]) -> list[Finding]:
    """Where NaN and infinity come from, if the gradient holds any."""
    bad = [name for name, x in zip(problem.names, got, strict=True) if not _is_finite(x)]
    if not bad:
        return []
    try:
        leaves, arrays = problem.point
        origins = trace_nonfinite(problem.loss, leaves, arrays).findings
    except Exception:  # a function that cannot be traced
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
