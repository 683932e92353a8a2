"""The check: a gradient beside its reference, and what is wrong with it if they differ."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from fbp.autodiff import RULES
from fbp.autodiff import graph as g
from fbp.autodiff.rule import Rules
from fbp.errors import InputError
from fbp.verify.audit import audit, refuses_a_rule
from fbp.verify.declared import Declaration, Declarations, declarations
from fbp.verify.edited import declared_edits
from fbp.verify.kernels import without_kernels
from fbp.verify.leaf_verdicts import Known, compare_leaves, known_of, missing, present, uncompared
from fbp.verify.localise import wrong_rules
from fbp.verify.nonfinite import trace_nonfinite
from fbp.verify.observe import calls_out, opaque, sites
from fbp.verify.parts import Interrupted, Parts, noticing_interrupts
from fbp.verify.points import drawn, merged
from fbp.verify.problem import CheckedFunction, problem_of
from fbp.verify.reference import MARGIN, Reference, as_double, compared, eps_of, first_line
from fbp.verify.report import Finding, Kind, Report
from fbp.verify.second_implementation import wrong_values
from fbp.verify.subject import Subject, by_fbp, by_user, repeated
from fbp.verify.under_transforms import DIFFERENTIATION, disagreements, wrong_derivative
from fbp.verify.user_transposes import audit_transposes, is_of_user


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
    """Return whether the gradient of `fun(*args)` is right, and if not, where it goes wrong.

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

    Returns:
      The report: a verdict on each leaf, what was found, what was compared, what could not be.

    Raises:
      InputError: for arguments that cannot be checked.
      Interrupted: for Ctrl-C, with the report so far.
      Exception: what `fun` and `gradient` raise when they are called.

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
    with noticing_interrupts() as interrupted:
        parts = Parts(problem.name, interrupted=interrupted)
        try:
            if rules.edits and gradient is None:
                parts.attempt(
                    "the edits", lambda: parts.findings.extend(declared_edits(problem, rules))
                )
            _check(parts, problem, gradient, rules.table, declarations(declared), reference)
        except KeyboardInterrupt:
            parts.unchecked.append("could not check the rest: interrupted")
            raise Interrupted(parts.report()) from None
    return parts.report()


def _check(
    parts: Parts,
    problem: CheckedFunction,
    gradient: Callable | None,
    rules: Rules,
    declared: Sequence[Declaration],
    truth: Callable | None,
) -> None:
    subject = _subject(parts, problem, gradient, rules)
    if subject is not None:
        problem = _of_gradient(parts, subject, gradient, rules, truth)
        parts.attempt("for NaN", lambda: parts.findings.extend(_not_finite(problem, subject.value)))
        names = frozenset(d.name for d in declared)
        parts.attempt("for zeros", lambda: parts.findings.extend(_zero(subject, names)))
    compared = {leaf.leaf for leaf in parts.leaves}
    parts.leaves += [uncompared(name) for name in problem.names if name not in compared]

    def custom_rules() -> None:
        results = audit(problem, rules, declared)
        parts.findings += results.findings
        parts.rules += results.rules
        parts.unchecked += results.unchecked

    def transposes() -> None:
        findings, summaries = audit_transposes(problem)
        parts.findings += findings
        parts.rules += summaries

    parts.attempt("the custom rules", custom_rules)
    parts.attempt("the transposes", transposes)
    parts.attempt("what holds a program", lambda: _say_what_is_opaque(parts, problem))


def _subject(
    parts: Parts, problem: CheckedFunction, gradient: Callable | None, rules: Rules
) -> Subject | None:
    """Return the gradient that is checked; None where fbp has none of a function that runs."""
    if gradient is not None:
        return by_user(problem, gradient)
    try:
        return by_fbp(problem, rules)
    except Exception as error:
        if not refuses_a_rule(error):  # a rule that cannot be used is found with the other rules
            _raise_if_of_the_user(problem, error)
        parts.unchecked.append(f"could not check the gradient: {first_line(error)}")
        return None


def _raise_if_of_the_user(problem: CheckedFunction, error: Exception) -> None:
    """Raise what the function itself raises, and what JAX cannot differentiate either."""
    try:
        g.stage(jax.grad(problem.loss), *problem.point)
    except Exception:
        raise error from None


def _of_gradient(
    parts: Parts,
    subject: Subject,
    gradient: Callable | None,
    rules: Rules,
    truth: Callable | None,
) -> CheckedFunction:
    """Compare a gradient with its reference and with itself, call after call and under
    transformations; return the problem whose gradient it is."""
    parts.findings += subject.findings
    if any(x is None for x in subject.value):
        values = zip(subject.problem.names, subject.value, strict=True)
        parts.leaves += [missing(name) for name, x in values if x is None]
        if all(x is None for x in subject.value):
            return subject.problem
        _, subject = present(subject)
    problem = subject.problem
    if subject.untraceable:
        parts.unchecked.append(
            "could not check the gradient under transformations, nor in float64: it cannot be "
            f"traced ({subject.untraceable})"
        )
    of_truth = problem if truth is None else replace(problem, fun=truth)
    if truth is not None:
        parts.attempt("the values", lambda: parts.findings.extend(wrong_values(problem, of_truth)))
    known = known_of(parts, of_truth, subject)
    compare_leaves(parts, of_truth, subject, known, truth)
    steady = _repeats(parts, subject, known.reference)
    if any(f.kind.fails for f in parts.findings) and gradient is None:
        parts.attempt("each rule", lambda: parts.findings.extend(wrong_rules(problem, rules)))
    if known.reference is not None and steady and not subject.untraceable:
        _transforms(parts, problem, subject, known)
    return problem


def _repeats(parts: Parts, subject: Subject, reference: Reference | None) -> bool:
    """Return whether the gradient is the same when it is computed again; only programs that hold
    code of the host, or that are none, may differ."""
    changed: list[Finding] = []

    def compare() -> None:
        if not subject.untraceable:
            graph, _ = g.stage(subject.function, *subject.problem.point)
            if not any(calls_out(site.eqn) for site in sites(graph)):
                return
        changed.extend(_changed(subject, reference))

    parts.attempt("a second call", compare)
    if changed:  # what differs by chance is not named wrong as well
        others = [f for f in parts.findings if f.kind is not Kind.WRONG_GRADIENT]
        parts.findings[:] = [*others, *changed]
    return not changed


def _changed(subject: Subject, reference: Reference | None) -> Iterator[Finding]:
    again = repeated(subject)
    for i, (name, a, b) in enumerate(zip(subject.problem.names, subject.value, again, strict=True)):
        eps = eps_of(b)
        bar = 0.0 if reference is None else reference.bar(i, eps) / MARGIN
        verdict = compared(name, b, as_double(a), bar, eps, "the first call")
        if not verdict.ok:
            message = (
                "the gradient differs from call to call, at the same point: a random number "
                "without a key, or a state, takes part in it."
            )
            yield verdict.finding(Kind.NOT_REPEATABLE, message)


def _transforms(parts: Parts, problem: CheckedFunction, subject: Subject, known: Known) -> None:
    reference = known.reference
    assert reference is not None

    def one(name: str, part: Callable[[], list[Finding]]) -> None:
        parts.findings += part()
        parts.checked.append(name)

    def first() -> None:
        for name, part in disagreements(problem, subject.function, subject.value, reference):
            parts.attempt(f"under {name}", partial(one, name, part))

    def second() -> list[Finding]:
        assert known.second is not None
        assert known.double_second is not None
        return wrong_derivative(problem, known.double_second, known.second, reference, known.eps)

    parts.attempt("transformations", first)
    if known.second is not None and known.double_second is not None:
        parts.attempt(DIFFERENTIATION, partial(one, DIFFERENTIATION, second))


def _say_what_is_opaque(parts: Parts, problem: CheckedFunction) -> None:
    """Nothing that holds a program is passed over without a word."""

    def look() -> None:
        graph, _ = g.stage(problem.loss, *problem.point)
        seen = dict.fromkeys(
            f"{site.eqn.primitive}{f' at {site.source}' if site.source else ''}"
            for site in opaque(without_kernels(graph))
            if not is_of_user(site.eqn)
        )
        parts.checked += [f"not looked into: {x}" for x in seen]

    try:
        look()
    except Exception as error:  # a function that cannot be traced has no equations
        parts.checked.append(
            f"not looked into: the function, which cannot be traced ({first_line(error)})"
        )


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

    Args:
      fun: as `check` has them, and so are those that follow.
      args: where to check.
      argnums: which arguments are differentiated.
      gradient: what to check.
      rules: a table of rules.
      declared: what deviates on purpose.
      reference: a second implementation.
      shapes: points to draw in the place of `args`.

    Returns:
      Nothing.

    Raises:
      AssertionError: the gradient is wrong.
      Exception: what `check` raises.

    >>> import jax.numpy as jnp
    >>> assert_gradients(jnp.tanh, 0.3)
    """
    settings: dict[str, Any] = {"argnums": argnums, "gradient": gradient, "rules": rules}
    settings |= {"declared": declared, "reference": reference, "shapes": shapes}
    report = check(fun, *args, **settings)
    if not report.ok:
        raise AssertionError(f"\n{report}")


def _not_finite(problem: CheckedFunction, got: Sequence[Any]) -> list[Finding]:
    """Return where NaN and infinity come from, if the gradient holds any."""
    bad = [
        name
        for name, x in zip(problem.names, got, strict=True)
        if x is not None and not _is_finite(x)
    ]
    if not bad:
        return []
    try:
        leaves, arrays = problem.point
        origins = trace_nonfinite(problem.loss, leaves, arrays).findings
    except Exception:  # a function that cannot be traced
        origins = ()
    results = [replace(f, leaf=_named(problem, f.leaf)) for f in origins]
    message = "the gradient holds NaN or infinity."
    return results or [Finding(kind=Kind.NON_FINITE, message=message, leaf=bad[0])]


def _is_finite(x: Any) -> bool:
    return bool(np.isfinite(as_double(x)).all())


def _named(problem: CheckedFunction, leaf: str | None) -> str | None:
    """Return the name of a leaf that is known by its number."""
    numbered = {f"args[0][{i}]": name for i, name in enumerate(problem.names)}
    return numbered.get(leaf, leaf) if leaf else None


def _zero(subject: Subject, declared: frozenset[str]) -> list[Finding]:
    return [
        Finding(
            kind=Kind.ZERO,
            message=(
                "every entry of the gradient is zero: the function does not use the leaf, stops "
                f'its gradient, or is flat here. If it should be, say so: declared=["{name}"].'
            ),
            leaf=name,
        )
        for name, x in zip(subject.problem.names, subject.value, strict=True)
        if x is not None and name not in declared and not np.any(as_double(x))
    ]
