"""What a number that is not finite came of, and the usual mend."""

import math
from collections.abc import Sequence
from enum import StrEnum

from fbp.autodiff import RULES
from fbp.verify.flags import Bad

Number = float | complex


class Situation(StrEnum):
    """What made a number that is not finite, in the words that a finding begins with."""

    OVERFLOW = "overflow"
    """Larger than the dtype's largest number."""
    POLE = "pole"
    """Infinite at this point, in whatever precision: log 0, 1/0, the slope of sqrt at 0."""
    ZERO_OVER_ZERO = "0/0"
    INF_OVER_INF = "inf/inf"
    INF_MINUS_INF = "inf - inf"
    ZERO_TIMES_INF = "0 * inf"
    DOMAIN = "outside the domain"
    """The function has no value here: sqrt of a negative number."""
    SINGULAR = "singular"
    """A decomposition or its derivative, of a matrix that has none."""
    OUT_OF_BOUNDS = "out of bounds"
    """An index beyond an array, which gives NaN."""
    SILENT_ZERO = "silent zero"
    """An overflow that a division made zero."""
    INPUT = "input"
    """The program got it."""
    CONSTANT = "constant"
    """It is written in the program."""


POLES = {primitive.name for primitive in RULES.tagged("pole")}
SINGULAR = {
    *(primitive.name for primitive in RULES.tagged("singular")),
    *("geqrf", "householder_product", "schur", "symmetric_product", "tridiagonal"),  # without rules
}


def situation(primitive: str, bad: Bad, operands: Sequence[Number], of: str = "") -> Situation:
    """Return what happened in an equation, by what its operands had at the entry; in the derivative
    of the primitive `of`, if it is one's.

    >>> print(situation("div", Bad.NAN, [0.0, 0.0]))
    0/0
    """
    if primitive in SINGULAR or of in SINGULAR:
        return Situation.SINGULAR
    if primitive in ("gather", "dynamic_slice"):
        return Situation.OUT_OF_BOUNDS
    if bad is Bad.INF:
        return Situation.POLE if _is_pole(primitive, operands) else Situation.OVERFLOW
    infinite = [math.isinf(abs(x)) for x in operands]
    zero = [x == 0 for x in operands]
    if primitive == "div" and all(zero):
        return Situation.ZERO_OVER_ZERO
    if primitive == "div" and all(infinite):
        return Situation.INF_OVER_INF
    if primitive in ("mul", "dot_general") and any(zero) and any(infinite):
        return Situation.ZERO_TIMES_INF
    if primitive in ("add", "sub", "add_any", "reduce_sum", "cumsum"):
        return Situation.INF_MINUS_INF
    return Situation.DOMAIN


def _is_pole(primitive: str, operands: Sequence[Number]) -> bool:
    if primitive == "div":
        return operands[1] == 0
    if primitive in ("pow", "integer_pow"):
        return operands[0] == 0
    return primitive in POLES


ADVICE = {
    Situation.OVERFLOW: "Keep it small before this line: subtract the maximum before exp "
    "(jax.nn.logsumexp, jax.nn.softmax), scale before squares are summed, clip, or compute in a "
    "wider dtype.",
    Situation.POLE: "Keep the argument away from the pole, x + eps or jnp.maximum(x, eps), or "
    "leave the point out with a double where: jnp.where(ok, f(jnp.where(ok, x, 1)), 0).",
    Situation.ZERO_OVER_ZERO: "Say what the quotient is there, with a double where: "
    "jnp.where(d == 0, 0, n / jnp.where(d == 0, 1, d)); or divide by d + eps.",
    Situation.INF_OVER_INF: "Scale both before the division, or subtract logarithms.",
    Situation.INF_MINUS_INF: "Mask with a large finite number such as jnp.finfo(dtype).min instead "
    "of -inf, or leave out the rows that are masked as a whole.",
    Situation.ZERO_TIMES_INF: "A zero does not mask an infinity: choose with jnp.where, and give "
    "the function a harmless argument where it is not chosen; jax.scipy.special.xlogy(x, y) is "
    "x * log(y) with 0 at x = 0.",
    Situation.DOMAIN: "Keep the argument within the function's domain: clip it, or leave the point "
    "out with a double where: jnp.where(ok, f(jnp.where(ok, x, 1)), 0).",
    Situation.SINGULAR: "The matrix is singular, not positive definite, or has equal eigenvalues: "
    "add a small multiple of the identity, or use a function of the matrix whose derivative does "
    "not divide by their differences.",
    Situation.OUT_OF_BOUNDS: "The index lies outside the array: mend it, or say what is meant with "
    "mode='clip'.",
    Situation.SILENT_ZERO: "Scale before the overflow, or compute in a wider dtype: the gradient "
    "is finite, and wrong.",
    Situation.INPUT: "Look for where this argument was made.",
    Situation.CONSTANT: "Write a finite number instead.",
}

DOUBLE_WHERE = (
    "`where` leaves out the value but not the derivative: use a double where, "
    "jnp.where(ok, f(jnp.where(ok, x, 1)), 0), so that f never sees the bad argument."
)
