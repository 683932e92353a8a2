"""What a function's values say of entries at which a rule and plain differentiation differ."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbp.autodiff import avals
from fbp.verify.audited import Audited
from fbp.verify.finite_difference import Slope
from fbp.verify.kinks import ENTRIES, Together, slopes_at, together
from fbp.verify.observe import sites
from fbp.verify.report import Kind
from fbp.verify.rule_trial import IN_DOUBLE, KINK, MULTIPLE, NEAR
from fbp.verify.rule_use import alone
from fbp.verify.rule_values import weighed_by
from fbp.verify.verdict import Verdict
from fbp.verify.worst_entry import Row

CERTAIN = 10
"""How many bars an error must exceed to be called wrong where the values are too rough to tell."""
SOLVERS = {"while": 1e-4, "scan": 1e-5}
"""A function with such a loop may be a solver, whose rule is right to the solver's tolerance: the
bar of an undeclared rule, as a share of its largest entry."""


class Slopes(NamedTuple):
    """The slopes of the function, weighed by a cotangent, along entries at which a rule and plain
    differentiation differ, and along all of them together, if they lie at kinks."""

    each: list[tuple[int, Slope]]
    together: Together | None


def slopes_of_entries(
    one: Audited, j: int, operand: int, arrays: dict[str, Any] | None, row: Row, in_its_dtype: bool
) -> Slopes | None:
    """Return the slopes along entries that differ; None where they are not to be had."""
    if arrays is None or one.tried.rule is None:
        return None
    k = int(row.cotangent)
    stated = arrays["stated"][j][k] if in_its_dtype else arrays["double"][j]
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
            weighed = lambda k: weighed_by(use, operand, one.ins, [x[k] for x in arrays["tried"]])
            each = list(slopes_at(*weighed(k), entries))
            if any(s.kind != "kink" for _, s in each):
                return Slopes(each, None)
            # Of equal cotangents, as the arriving ones may be, two kinks may cancel: not of NEAR.
            flat, plain = (np.ravel(x) for x in (arrays["double"][j], arrays["truth"][j][NEAR]))
            (apart,) = np.nonzero(~(abs(flat - plain) <= KINK * max(_largest(plain), 1e-300)))
            return Slopes(each, together(*weighed(NEAR), apart, flat))
    except Exception:  # a function that does not run alone, as one with a collective
        return None


def _largest(x: Any) -> float:
    sizes = abs(np.asarray(x, np.float64))
    return float(np.max(sizes, where=np.isfinite(sizes), initial=0.0))


def by_plain_derivative(row: Row) -> Verdict:
    """Return the verdict where plain differentiation alone tells."""
    reason = f"is not the derivative of the function: plain differentiation has {row.expected:.6g}"
    return Verdict(Kind.WRONG_CUSTOM_RULE, reason, int(row.entry), row.expected, row.got)


def without_digits(bar: float) -> str:
    """Return that a bar leaves no digits, in words."""
    return (
        f"what rounding does to plain differentiation is {bar:.1g} of the largest entry, which "
        "leaves no digits"
    )


def decided(
    one: Audited,
    slopes: Slopes,
    stated: Any,
    truth: Any,
    row: Row,
    only_rounding: bool,
    operand: int,
) -> Verdict | None:
    """Return what the slopes say of the entries that differ from plain differentiation."""
    flat, plain = np.ravel(np.asarray(stated, np.float64)), np.ravel(truth)
    size = max(_largest(truth), 1e-300)
    rounding = _rounding(one, operand, size, row is not one.row("double", operand))
    later: Verdict | None = None
    for entry, s in slopes.each:
        got = float(flat[entry])
        if s.kind == "jump":
            reason = "states a slope where the function's value jumps: no number is its derivative"
            later = later or Verdict(Kind.JUMP, reason, entry, None, got)
        elif s.kind == "unresolved" and not abs(got - s.value) > CERTAIN * s.error:
            if np.isnan(plain[entry]) and np.isfinite(got):
                later = later or Verdict(Kind.UNRESOLVED, NO_SLOPE, entry, None, got)
            elif row.ratio > CERTAIN:
                return by_plain_derivative(row)
            else:
                reason = f"cannot be judged: {without_digits(row.bar)}"
                later = later or Verdict(Kind.UNRESOLVED, reason, entry, None, got)
        elif not s.contains(got) and not abs(got - s.value) <= s.error + rounding:
            return _wrong(one, s, entry, got, size, row, only_rounding)
        elif s.kind == "kink":
            reason = (
                f"has a kink here, with slopes {s.left.value:.6g} and {s.right.value:.6g} on its "
                "sides; its rule takes one between them, which is as right as any other"
            )
            later = later or Verdict(Kind.KINK, reason, entry, None, got)
    if later is not None and later.kind is Kind.KINK and slopes.together is not None:
        return _of_kinks_together(slopes.together, IN_DOUBLE * size) or later
    return later


def _of_kinks_together(together: Together, rounding: float) -> Verdict | None:
    """Return the verdict on a rule that takes too much or too little of kinks that are one."""
    if together.admits(rounding):
        return None
    s = together.slope
    reason = (
        f"takes slopes at {len(together.entries)} entries that do not belong together: as these "
        f"move together, the function has the slope {s.value:.6g} +- {s.error:.1g}, and the sum of "
        f"what it states is {together.got:.6g}; equal entries of a maximum share one cotangent"
    )
    entry = int(together.entries[0])
    return Verdict(Kind.WRONG_CUSTOM_RULE, reason, entry, s.value, together.got)


NO_SLOPE = (
    "cannot be judged: plain differentiation of the function has NaN there, and its values tell "
    "no slope"
)


def _rounding(one: Audited, operand: int, size: float, in_its_dtype: bool) -> float:
    """Return what rounding does to a right rule's number, in units of the cotangent."""
    eps = float(jnp.finfo(avals.struct(one.tried.use.eqn.invars[operand]).dtype).eps)
    return (MULTIPLE * eps if in_its_dtype else IN_DOUBLE) * size


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
    """Return the next power of ten."""
    return float(10.0 ** np.ceil(np.log10(max(share, 1e-300))))


def _assumed_tolerance(one: Audited) -> float:
    loops = {str(s.eqn.primitive) for s in sites(one.tried.use.body)}
    return max((SOLVERS[name] for name in loops if name in SOLVERS), default=0.0)
