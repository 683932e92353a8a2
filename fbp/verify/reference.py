"""What a gradient is compared with: the gradient in float64, and how far one may be from it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.autodiff import graph as g
from fbp.autodiff.avals import differentiable, struct
from fbp.autodiff.graph import Graph
from fbp.verify import oracle
from fbp.verify.observe import sites
from fbp.verify.precision import DOUBLE, SINGLE, Precision, in_precision
from fbp.verify.problem import CheckedFunction, unraveled
from fbp.verify.report import LeafVerdict
from fbp.verify.second_order import halves, with_derivative

MARGIN = 16
"""How many times the rounding error of a right gradient another right one may have: it adds and
multiplies in another order."""

RESOLVED = 0.03
"""A bar above this share of the largest entry leaves no digits: nothing is said to be right."""
COARSE = 1e-5
"""The spacing at 1 of what is coarser than float32."""
CHAOTIC = 1e-3
"""Noise in float32 above this share of the largest entry does not come of rounding alone."""
EPS = float(np.finfo(np.float64).eps)

UNKNOWN = (TypeError, ValueError, NotImplementedError)
"""What JAX raises for a function that it cannot differentiate, or not trace at all."""


@dataclass(frozen=True)
class Reference:
    """A gradient that is known to be right, leaf by leaf.

    Attributes:
      grads: its leaves, in float64 or complex128.
      noise: for each leaf, what rounding to `eps` does: the largest difference between the
        gradient in the coarser precision and this one, and at least `eps` of the largest entry.
      eps: the spacing at 1 of the coarser precision, by leaf.
      fine_noise: for each leaf, the noise in float64.
    """

    grads: tuple[np.ndarray, ...]
    noise: tuple[float, ...]
    eps: tuple[float, ...]
    double_noise: tuple[float, ...]

    def bar(self, leaf: int, eps: float) -> float:
        """Return the error that a right gradient may have in a precision: the noise, scaled to
        it."""
        scaled = self.noise[leaf] * eps / self.eps[leaf]
        return MARGIN * max(scaled, self.double_noise[leaf])

    def resolves(self, leaf: int, eps: float, error: float = 0.0) -> bool:
        """Return whether the bar leaves digits. In a coarse precision, such as bfloat16, it need
        not, unless the gradient's `error` itself leaves none: there the comparison in float64
        tells."""
        bar = max(self.bar(leaf, EPS if eps >= COARSE else max(eps, EPS)), error)
        return bar <= RESOLVED * largest(self.grads[leaf]) or bar == 0


def jax_reference(problem: CheckedFunction) -> tuple[Reference, tuple[np.ndarray, ...] | None, str]:
    """Return the gradient by `jax.grad`; its own derivative in float64, None where it has none; and
    why it has none."""
    gradient = oracle.grad(problem.loss)
    second, reason = None, ""
    try:
        double, second = halves(gradient_in_double(with_derivative(gradient), problem))
    except Exception as error:  # whatever a gradient raises that has no derivative
        reason = first_line(error)
        double = gradient_in_double(gradient, problem)
    reference = _reference(problem, gradient, tuple(double))
    return reference, None if second is None else tuple(second), reason


def first_line(error: BaseException) -> str:
    """Return an error's type, and the first line of its message."""
    message = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _reference(
    problem: CheckedFunction, gradient: Callable, double: tuple[np.ndarray, ...]
) -> Reference:
    """Return a gradient in float64, and its noise: what it differs by in a coarser precision, that
    of the arguments, or float32 where they are in float64 already.

    Where that leaves hardly a digit, the noise does not shrink with the precision as rounding
    does, as in a chaotic program. Then the noise in float64 is measured too, by moving the
    arguments by one spacing.
    """
    if any(is_double(x.dtype) for x in problem.leaves):
        narrow: Sequence[Any] = _computed(SINGLE, gradient, problem)
    else:
        narrow = jax.jit(gradient)(*problem.point)
    eps = tuple(eps_of(SINGLE.cast(x)) for x in problem.leaves)
    apart = [largest(_difference(as_double(a), b)) for a, b in zip(narrow, double, strict=True)]
    noise = tuple(max(a, e * largest(x)) for a, e, x in zip(apart, eps, double, strict=True))
    double_noise = [n * EPS / e for n, e in zip(noise, eps, strict=True)]
    if any(
        e < COARSE and n > CHAOTIC * largest(x) for n, e, x in zip(noise, eps, double, strict=True)
    ):
        moved = _moved_by_one_spacing(problem, gradient)
        double_noise = [
            max(n, largest(_difference(m, x)))
            for n, m, x in zip(double_noise, moved, double, strict=True)
        ]
    return Reference(double, noise, eps, tuple(double_noise))


def _moved_by_one_spacing(problem: CheckedFunction, gradient: Callable) -> tuple[np.ndarray, ...]:
    """Return the gradient in float64 where the differentiated leaves are moved by about one
    spacing."""
    program = in_precision(DOUBLE, gradient, *problem.point)
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        leaves, arrays = in_double(problem)
        moved = [x * (1 + EPS * rng.choice([-1, 1], x.shape)) for x in leaves]
        return tuple(as_double(x) for x in jax.jit(program)(moved, arrays))


def coarsest_in_double(problem: CheckedFunction, gradient: Callable) -> float:
    """Return the spacing at 1 of the coarsest floating dtype in which a gradient computes when it
    is run in float64: more than that of float64 where it holds what has one precision only."""
    program = in_precision(DOUBLE, gradient, *problem.point)
    with jax.enable_x64(True):
        graph, _ = g.stage(program, *in_double(problem))
    return coarsest_of(graph)


def coarsest_of(graph: Graph) -> float:
    """Return the spacing at 1 of the coarsest floating dtype in which a program computes."""
    values = [struct(v) for site in sites(graph) for v in site.eqn.outvars]
    spacings = (float(jnp.finfo(a.dtype).eps) for a in values if differentiable(a))
    return max(spacings, default=float(jnp.finfo(jnp.float64).eps))


def gradient_in_double(gradient: Callable, problem: CheckedFunction) -> tuple[np.ndarray, ...]:
    """Return a gradient, a function of (leaves, arrays), at the same point in float64."""
    return _computed(DOUBLE, gradient, problem)


def in_double(problem: CheckedFunction) -> tuple[list[Any], list[Any]]:
    """Return the leaves and the arrays in float64; `jax.enable_x64(True)` must be in force."""
    leaves, arrays = problem.point
    return [DOUBLE.cast(x) for x in leaves], [DOUBLE.cast(x) for x in arrays]


def _computed(
    to: Precision, gradient: Callable, problem: CheckedFunction
) -> tuple[np.ndarray, ...]:
    program = in_precision(to, gradient, *problem.point)
    with jax.enable_x64(True):
        grads = jax.jit(program)(*problem.point)
    return tuple(as_double(x) for x in grads)


def compared(
    name: str, got: Any, want: np.ndarray, bar: float, eps: float, how: str
) -> LeafVerdict:
    """Return the verdict on one leaf: right if no entry is farther from its reference than `bar`.

    A NaN or an infinity is right where the reference has the same.
    """
    got = as_double(got)
    error = abs(_difference(got, want))
    worst = unraveled(np.argmax(error), error.shape)
    if not np.isfinite(error[worst]):
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        error = np.where(same, 0.0, np.nan_to_num(error, nan=np.inf))
        worst = unraveled(np.argmax(error), error.shape)
    unit = spacing(max(largest(want), largest(got)), eps)
    bar = max(bar, float(np.finfo(np.float64).tiny))
    return LeafVerdict(
        leaf=name,
        ok=bool(error[worst] <= bar),
        max_ulps=float(error[worst] / unit),
        bar_ulps=float(bar / unit),
        index=worst,
        expected=want[worst].item(),
        got=got[worst].item(),
        reference=how,
    )


def eps_of(x: Any) -> float:
    """Return the spacing at 1 of an array's dtype."""
    return float(jnp.finfo(x.dtype).eps)


def typical_size(x: np.ndarray) -> float:
    """Return the root of the mean square of an array's entries, 1 if all are zero."""
    return float(np.sqrt(np.mean(abs(x) ** 2))) or 1.0


def is_double(dtype: Any) -> bool:
    """Return whether a dtype is float64 or complex128."""
    return jnp.finfo(dtype).eps == jnp.finfo(jnp.float64).eps


def as_double(x: Any) -> np.ndarray:
    """Return an array of any floating dtype as numpy's float64 or complex128."""
    x = np.asarray(x)
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def spacing(magnitude: float, eps: float) -> float:
    """Return the distance between neighbouring numbers of this magnitude, 1 for zero."""
    return eps * 2.0 ** math.floor(math.log2(magnitude)) if magnitude > 0 else 1.0


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return a - b


def largest(x: np.ndarray) -> float:
    """Return the largest magnitude among the finite entries."""
    sizes = abs(x)
    maximum = np.max(sizes, initial=0.0)
    if not np.isfinite(maximum):
        maximum = np.max(sizes, where=np.isfinite(sizes), initial=0.0)
    return float(maximum)
