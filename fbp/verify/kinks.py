"""Entries at which a gradient differs from its reference, judged by the function's values.

At a kink every number between the slopes on both sides is a derivative, so that two right
gradients may differ there. Entries may share a kink, as equal ones of a maximum do: then the sum of
their derivatives is the slope where they move together. At a jump no number is a derivative.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fbp.verify.finite_difference import Slope, slope
from fbp.verify.precision import DOUBLE, in_precision
from fbp.verify.problem import CheckedFunction, unraveled
from fbp.verify.reference import Reference, as_double, in_double, typical_size
from fbp.verify.report import Finding, Kind

ENTRIES = 8
"""How many entries are tried: of those that differ most, and of the others that differ."""


def at_kinks(
    problem: CheckedFunction, reference: Reference, number: int, got: Any, bar: float
) -> Finding | None:
    """If every entry of a leaf that differs lies at a kink, and between its slopes: a finding that
    says so. If one lies at a jump: that. None if the function is smooth at one of them, or where
    all move together and the gradient says otherwise, as of equal entries of a maximum."""
    differing = _differing(as_double(got), reference.grads[number], bar)
    loss = in_precision(DOUBLE, problem.loss, *problem.point)
    with jax.enable_x64(True):
        leaves, arrays = in_double(problem)

        def value(x: Any, others: Any) -> Any:
            leaves, arrays = others
            return loss([*leaves[:number], x, *leaves[number + 1 :]], arrays)

        where = value, leaves[number], (leaves, arrays)
        slopes = list(slopes_at(*where, _tried(differing)))
    for entry, estimate in slopes:
        if estimate.kind == "jump":
            return _finding(problem, number, entry, estimate, got, Kind.JUMP, JUMP)
    if slopes and all(s.kind == "kink" and s.contains(_entry(got, i)) for i, s in slopes):
        flat = np.real(as_double(got)).ravel()
        with jax.enable_x64(True):
            shared = together(*where, np.sort(differing), flat)
        if shared is not None and not shared.admits(bar):
            return None
        entry, estimate = slopes[0]
        return _finding(problem, number, entry, estimate, got, Kind.KINK, KINK)
    return None


KINK = "the function has a kink here, and the gradient takes a slope between those on its sides."
JUMP = "the function's value jumps here: no number is its derivative. Check at another point."


def _differing(got: np.ndarray, want: np.ndarray, bar: float) -> np.ndarray:
    """Return the numbers of the entries that differ, those that differ most first."""
    error = abs(got - want).ravel()
    return np.argsort(-error)[: np.count_nonzero(~(error <= bar))]


def _tried(differing: np.ndarray) -> list[int]:
    others = np.random.default_rng(0).permutation(differing[ENTRIES:])
    return [int(i) for i in (*differing[:ENTRIES], *others[:ENTRIES])]


def slopes_at(
    fun: Callable[[Any, Any], Any], x: Any, others: Any, entries: Sequence[int | np.ndarray]
) -> Iterator[tuple[Any, Slope]]:
    """Yield the slopes of a scalar function of an array along entries of the array, from its
    values, or along several that move together; `others` is its second argument.

    To be called with `jax.enable_x64(True)` in force.
    """

    @jax.jit
    def values(x: Any, others: Any, entry: Any, offsets: Any) -> Any:  # constants would be folded
        def at(t: Any) -> Any:
            return fun(jnp.ravel(x).at[entry].add(t.astype(x.dtype)).reshape(x.shape), others)

        return lax.map(at, offsets)

    sizes = abs(np.ravel(x))
    typical = typical_size(sizes)
    for entry in entries:

        def along(offsets: np.ndarray, entry: Any = entry) -> np.ndarray:
            return np.asarray(values(x, others, entry, offsets), np.float64)

        yield entry, slope(along, scale=max(float(np.max(sizes[entry])), 1e-3 * typical))


class Together(NamedTuple):
    """Entries at kinks that move together, and in two halves.

    Attributes:
      entries: their numbers.
      slope: of the function where all move.
      halves: its slopes where one half of them moves.
      got: the sum of what a gradient says of them.
    """

    entries: np.ndarray
    slope: Slope
    halves: tuple[Slope, ...]
    got: float

    def admits(self, bar: float) -> bool:
        """Test whether the sum may be right, each of its terms within the bar.

        It must be the slope, if there is one, and the halves depend on one another: entries whose
        kinks are their own may each take any slope of theirs.
        """
        s = self.slope
        if s.kind != "smooth" or abs(self.got - s.value) <= s.error + len(self.entries) * bar:
            return True
        left = sum(half.left.value for half in self.halves)
        right = sum(half.right.value for half in self.halves)
        error = s.error + sum(half.left.error + half.right.error for half in self.halves)
        return min(abs(left - s.value), abs(right - s.value)) <= error


def together(
    fun: Callable[[Any, Any], Any], x: Any, others: Any, entries: np.ndarray, stated: np.ndarray
) -> Together | None:
    """Move entries of an array together, as `slopes_at` does; None of one alone. What is stated of
    every entry is flat."""
    if len(entries) < 2:
        return None
    mixed = np.random.default_rng(0).permutation(entries)
    parts = slopes_at(fun, x, others, [entries, mixed[::2], mixed[1::2]])
    joint, *halves = (s for _, s in parts)
    return Together(entries, joint, tuple(halves), float(stated[entries].sum()))


def _entry(x: Any, entry: int) -> float:
    return float(np.real(as_double(x).ravel()[entry]))


def _finding(
    problem: CheckedFunction,
    number: int,
    entry: int,
    estimate: Slope,
    got: Any,
    kind: Kind,
    message: str,
) -> Finding:
    return Finding(
        kind=kind,
        message=f"{message} Slopes: {estimate.left.value:.6g} and {estimate.right.value:.6g}.",
        leaf=problem.names[number],
        index=unraveled(entry, np.shape(got)),
        got=_entry(got, entry),
    )
