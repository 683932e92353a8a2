"""Finite differences over a ladder of steps beside a gradient: the picture of a check.

With steps that shrink, the error of a difference quotient falls as the truncation does, and rises
again where rounding takes over: a V. Beside a wrong gradient it falls onto a floor and stays.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fbp.autodiff import RULES
from fbp.autodiff.rule import Rules
from fbp.verify.finite_difference import slope
from fbp.verify.precision import DOUBLE, in_precision
from fbp.verify.problem import CheckedFunction, problem_of
from fbp.verify.reference import UNKNOWN, as_double, gradient_in_double, in_double, typical_size
from fbp.verify.subject import Subject, by_fbp, by_user

Values = Callable[[Sequence[np.ndarray], np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Ladder:
    """One leaf's finite differences along a random direction d, which its name determines.

    Attributes:
      leaf: its path.
      steps: the steps h, largest first.
      errors: for each, |(f(x + h d) - f(x - h d)) / 2h - <gradient, d>|.
      limit: the same for the difference quotients extrapolated to the step 0.
      bar: how far off the extrapolated one may be. A right gradient's limit lies within it, but
        for what the gradient itself is rounded to.

    >>> Ladder("args[0]", (0.1, 0.05), (1e-3, 2.5e-4), 1e-9, 1e-8).limit
    1e-09
    """

    leaf: str
    steps: tuple[float, ...]
    errors: tuple[float, ...]
    limit: float
    bar: float


def ladders(
    fun: Callable,
    *args: Any,
    argnums: int | Sequence[int] = 0,
    gradient: Callable | None = None,
    rules: Rules = RULES,
) -> tuple[Ladder, ...]:
    """Return finite differences beside the gradient of `fun(*args)`, one ladder for each leaf.

    Function and gradient are computed in float64 where they can be. The steps and the bar are
    those of `fbp.verify.finite_difference.slope`.

    Args:
      fun: as `check` has it, and so are those that follow.
      args: where to look.
      argnums: which arguments are differentiated.
      gradient: the gradient; `fbp.grad` by `rules` if not given.
      rules: a table of rules.

    Returns:
      The ladders, in the order of the leaves.

    Raises:
      InputError: for arguments that cannot be checked.

    >>> import jax.numpy as jnp
    >>> (ladder,) = ladders(lambda x: jnp.sum(jnp.sin(x)), jnp.arange(3.0))
    >>> ladder.leaf, ladder.limit < 1e-9, min(ladder.errors) < 1e-3 * ladder.errors[0]
    ('args[0]', True, True)
    """
    problem = problem_of(fun, args, argnums)
    subject = by_fbp(problem, rules) if gradient is None else by_user(problem, gradient)
    problem = subject.problem
    grads = _gradient(subject)
    values = _values(problem)
    leaves = [as_double(x) for x in problem.leaves]
    return tuple(
        _ladder(name, leaves, number, grad, values)
        for number, (name, grad) in enumerate(zip(problem.names, grads, strict=True))
    )


def _ladder(
    name: str, leaves: Sequence[np.ndarray], number: int, grad: np.ndarray, values: Values
) -> Ladder:
    direction = np.random.default_rng(zlib.crc32(name.encode())).normal(size=grad.shape)
    moves = [np.zeros_like(x) for x in leaves]
    moves[number] += direction
    estimate = slope(lambda offsets: values(moves, offsets), scale=typical_size(leaves[number]))
    along = float(np.sum(np.real(grad) * direction))
    return Ladder(
        leaf=name,
        steps=tuple(rung.step for rung in estimate.rungs),
        errors=tuple(abs(rung.central - along) for rung in estimate.rungs),
        limit=abs(estimate.value - along),
        bar=estimate.error,
    )


def _gradient(subject: Subject) -> Sequence[np.ndarray]:
    try:
        return gradient_in_double(subject.function, subject.problem)
    except Exception:  # a gradient that is there in one precision only
        return [
            np.zeros(np.shape(leaf)) if x is None else as_double(x)
            for x, leaf in zip(subject.value, subject.problem.leaves, strict=True)
        ]


def _values(problem: CheckedFunction) -> Values:
    """Return the function's values at offsets along the moves: compiled, or one by one where the
    function cannot be traced."""
    try:
        loss = in_precision(DOUBLE, problem.loss, *problem.point)
    except UNKNOWN:
        return _one_by_one(problem)

    @jax.jit
    def compiled(leaves: Any, arrays: Any, moves: Any, offsets: Any) -> Any:
        return lax.map(lambda t: loss(_moved(leaves, moves, t), arrays), offsets)

    def values(moves: Sequence[np.ndarray], offsets: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(compiled(*in_double(problem), moves, jnp.asarray(offsets)))

    return values


def _one_by_one(problem: CheckedFunction) -> Values:
    arrays = [np.asarray(x) for x in problem.arrays]
    leaves = [as_double(arrays[i]) for i in problem.positions]

    def values(moves: Sequence[np.ndarray], offsets: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.array(
                [float(problem.loss(_moved(leaves, moves, t), arrays)) for t in offsets]
            )

    return values


def _moved(leaves: Sequence[Any], moves: Sequence[Any], t: Any) -> list[Any]:
    return [x + move * t.astype(move.dtype) for x, move in zip(leaves, moves, strict=True)]
