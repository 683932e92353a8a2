"""The verdict on one use of a custom rule: what the comparisons say, and what values say where
those leave it open."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.verify.audited import Audited, arrays_alone
from fbp.verify.declared import Declaration
from fbp.verify.finite_difference import slope
from fbp.verify.reference import RESOLVED
from fbp.verify.report import Kind
from fbp.verify.rule_derivative import along_direction
from fbp.verify.rule_slopes import (
    by_plain_derivative,
    decided,
    slopes_of_entries,
    without_digits,
)
from fbp.verify.rule_trial import NEAR, Label
from fbp.verify.rule_use import alone
from fbp.verify.rule_values import beside_values
from fbp.verify.surrogate import beside_surrogate
from fbp.verify.verdict import Verdict
from fbp.verify.worst_entry import Row

SMALLEST = 1e-6
"""An error below this share of the largest entry is right whatever the bar."""


def is_blurred(native: Row, double: Row) -> bool:
    """Return whether rounding leaves plain differentiation no digits, in float64 neither: in a
    chaotic function, and at a tie, which rounding breaks."""
    return native.bar > RESOLVED and double.bar > RESOLVED and native.error > SMALLEST


def of_operand(
    one: Audited, j: int, operand: int, arrays: dict[str, Any] | None, allowed: Declaration | None
) -> Verdict | None:
    """Return the verdict on what the rule states for one operand, the j-th that is compared."""
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
    """Return the verdict on a rule that states another number when it is asked again."""
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
    """Return the verdict where the function has a plain derivative."""
    native, double = one.row("own", operand), one.row("double", operand)
    undefined = one.row("undefined", operand)
    blurred = is_blurred(native, double)
    differs = native.ratio > 1 or double.ratio > 1 or blurred
    if not differs and undefined.ratio <= 1:
        return None
    row = native if native.ratio > 1 or (blurred and double.ratio <= 1) else double
    tolerance = _tolerance(allowed)
    if differs and max(native.error, double.error) <= tolerance:
        return Verdict(Kind.DECLARED, f"is within {tolerance:g} of the derivative")
    if not differs:
        row = undefined
    slopes = slopes_of_entries(one, j, operand, arrays, row, row is not double)
    if slopes is None and not differs:
        return Verdict(Kind.UNRESOLVED, UNDEFINED, int(row.entry), None, row.got)
    if slopes is None and blurred:
        reason = f"cannot be judged: {without_digits(min(native.bar, double.bar))}"
        return Verdict(Kind.UNRESOLVED, reason)
    if slopes is None:
        return by_plain_derivative(row)
    assert arrays is not None
    k = int(row.cotangent)
    stated = arrays["double"][j] if row is double else arrays["stated"][j][k]
    truth = arrays["truth"][j][k]
    return decided(one, slopes, stated, truth, row, native.ratio > 1 >= double.ratio, operand)


def _tolerance(allowed: Declaration | None) -> float:
    """Return the error that is declared, as a share of the largest entry."""
    number = None if allowed is None else allowed.stands_for
    return float(number) if isinstance(number, int | float) else 0.0


UNDEFINED = (
    "cannot be judged: plain differentiation of the function has NaN there, and the function's "
    "values are not to be had alone"
)


def _not_linear(one: Audited, operand: int) -> Verdict | None:
    """Return the verdict on a rule that is not linear in its cotangent."""
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


def of_derivative(one: Audited) -> Verdict | None:
    """Return the verdict on the derivative of the rule, where that differs from its differences."""
    if Label("second", None) not in one.numbers:
        return None
    row = one.row("second", None)
    if row.ratio <= 1 or not np.isfinite(row.got):  # NaN where the function has a kink
        return None
    assert one.tried.rule is not None
    try:
        use, rule = alone(one.tried.use, one.tried.rule)
        with jax.enable_x64(True):
            arrays = arrays_alone(one)
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
