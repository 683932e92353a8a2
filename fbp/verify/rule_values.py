"""A custom rule beside the values of its function, where that has no plain derivative."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.autodiff import avals
from fbp.autodiff.masks import select
from fbp.verify.finite_difference import Slope, few_values, slope
from fbp.verify.kernels import without_kernels
from fbp.verify.observe import calls_out, sites
from fbp.verify.precision import DOUBLE, evaluate_in
from fbp.verify.reference import RESOLVED
from fbp.verify.report import Kind
from fbp.verify.rule_use import RuleUse, groups
from fbp.verify.verdict import Verdict

MULTIPLE = 10
"""How many times the rounding error of a function's values that of the rule may be."""
SMALL = {False: 16, True: 8}
"""The largest operand of which every entry is tried; of a function of the host, whose values are
dear, a smaller one."""
ENTRIES = 4
"""How many entries of a larger one are tried."""
DIRECTIONS = 4
"""Along how many random directions through all entries of a larger one. A mistake in a few entries
shows in each, as a share of the whole slope, which values tell to some six digits."""


def weighed_by(
    use: RuleUse, operand: int, ins: Sequence[Any], cts: Sequence[Any]
) -> tuple[Callable[[Any, Any], Any], Any, Any]:
    """Return the function of one operand, its outputs weighed by a cotangent and summed, that
    operand, and the function's second argument; `jax.enable_x64(True)` must be in force."""
    body = without_kernels(use.body)
    wide = [DOUBLE.cast(x) for x in ins]
    group = next(group for group in groups(use) if operand in group)

    def value(x: Any, others: Any) -> Any:
        wide, cts = others
        outs = evaluate_in(DOUBLE, body, [x if i in group else y for i, y in enumerate(wide)])
        return sum(
            jnp.sum(DOUBLE.cast(ct) * DOUBLE.cast(y))
            for ct, y in zip(cts, select(use.arrived, outs), strict=True)
        )

    return value, wide[operand], (wide, list(cts))


def beside_values(
    use: RuleUse,
    operand: int,
    stated: Any,
    ins: Sequence[Any],
    cts: Sequence[Any],
    tolerance: float,
) -> Verdict | None:
    """Return the verdict by the function's values: of each entry, or of some entries and along
    random directions through all."""
    stated = np.ravel(np.asarray(stated, np.float64))
    body = without_kernels(use.body)
    on_host = any(calls_out(s.eqn) for s in sites(body))
    eps = _eps_of_values(body)
    slope_along = _slopes(
        use, operand, ins, cts, partial(few_values if on_host else slope, eps=eps)
    )
    size = max(float(np.max(abs(stated), initial=0)), 1e-300)
    blurred = 0.0
    for direction in _directions(stated.size, stated.size <= SMALL[on_host]):
        s, got = slope_along(direction), float(stated @ direction)
        scale = float(abs(stated) @ abs(direction))
        bar = s.error + MULTIPLE * eps * max(scale, size)
        if s.kind == "jump":
            return Verdict(Kind.JUMP, JUMP, _entry(direction), None, got)
        if s.contains(got) or abs(got - s.value) <= bar:
            blurred = max(blurred, bar / max(scale, size, abs(s.value)))
            continue
        if abs(got - s.value) <= tolerance * max(scale, size):
            continue
        direction, s = _narrowed(direction, stated, slope_along, eps)
        return _wrong(direction, s, float(stated @ direction))
    if blurred > RESOLVED:
        reason = (
            "cannot be judged: the function has no derivative to compare with, and its values "
            f"tell a slope to {blurred:.1g} of the largest entry only"
        )
        return Verdict(Kind.UNRESOLVED, reason)
    return None


JUMP = "states a slope where the function's value jumps: no number is its derivative"


def _wrong(direction: np.ndarray, s: Slope, got: float) -> Verdict:
    reason = (
        f"is not the derivative of the function: the function's values have the slope "
        f"{s.value:.6g} +- {s.error:.1g} there"
    )
    sign = float(np.sum(direction)) if _entry(direction) is not None else 1.0
    return Verdict(Kind.WRONG_CUSTOM_RULE, reason, _entry(direction), s.value * sign, got * sign)


def _entry(direction: np.ndarray) -> int | None:
    """Return the entry along which a direction goes, if it is one."""
    (entries,) = np.nonzero(direction)
    return int(entries[0]) if len(entries) == 1 else None


def _directions(size: int, every: bool) -> Iterator[np.ndarray]:
    """Yield the direction along each entry; or along some, and then along random signs of all."""
    rng = np.random.default_rng(0)
    for entry in range(size) if every else rng.permutation(size)[:ENTRIES]:
        unit = np.zeros(size)
        unit[entry] = 1
        yield unit
    for _ in range(0 if every else DIRECTIONS):
        yield rng.choice([-1.0, 1.0], size)


def _narrowed(
    direction: np.ndarray, stated: np.ndarray, slope_along: Callable, eps: float
) -> tuple[np.ndarray, Slope]:
    """Return the half of a direction that is farther off, and half of that, as long as one
    tells."""
    s = slope_along(direction)
    while np.count_nonzero(direction) > 1:
        (entries,) = np.nonzero(direction)
        halves = []
        for part in np.array_split(entries, 2):
            half = np.zeros_like(direction)
            half[part] = direction[part]
            estimate = slope_along(half)
            bar = estimate.error + MULTIPLE * eps * float(abs(stated) @ abs(half))
            halves.append((abs(float(stated @ half) - estimate.value) / bar, half, estimate))
        ratio, half, estimate = max(halves, key=lambda x: x[0])
        if not ratio > 1:
            break
        direction, s = half, estimate
    return direction, s


def _slopes(
    use: RuleUse, operand: int, ins: Sequence[Any], cts: Sequence[Any], how: Callable
) -> Callable[[np.ndarray], Slope]:
    """Return the slope along a direction."""
    with jax.enable_x64(True):
        value, x, others = weighed_by(use, operand, ins, cts)
        x = np.asarray(x)
        run = jax.jit(value)
    scale = float(np.sqrt(np.mean(abs(x) ** 2))) or 1.0

    def slope_along(direction: np.ndarray) -> Slope:
        step = direction.reshape(x.shape)

        def along(offsets: np.ndarray) -> np.ndarray:
            with jax.enable_x64(True):
                return np.array([float(run(jnp.asarray(x + t * step), others)) for t in offsets])

        return how(along, scale=scale)

    return slope_along


def _eps_of_values(body: Any) -> float:
    """Return the relative precision in which a function's values are computed in float64: that of
    the coarsest dtype in it that has no other."""
    values = [avals.struct(v) for s in sites(body) for v in s.eqn.outvars]
    types = [a for a in values if avals.differentiable(a)]
    return max(float(jnp.finfo(a.dtype).eps) for a in types)
