"""Functions whose gradient is not finite, or a silent zero, at one point; and how to mend some.

The line that a report must name carries the comment `# here`.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fbp.verify.mends import Situation


@dataclass(frozen=True)
class Trap:
    """A scalar function, the point where it traps, a point where it does not, what a report must
    say, and the same function mended."""

    name: str
    fun: Callable[[jax.Array], jax.Array]
    bad: np.ndarray
    good: np.ndarray
    situation: Situation
    masked: bool = False
    mended: Callable[[jax.Array], jax.Array] | None = None
    iteration: tuple[int, ...] = ()

    @property
    def line(self) -> str:
        """`file:line` of the origin."""
        lines, start = inspect.getsourcelines(self.fun)
        (offset,) = (i for i, line in enumerate(lines) if "# here" in line)
        return f"{inspect.getsourcefile(self.fun)}:{start + offset}"


TRAPS: list[Trap] = []


def trap(bad: Any, good: Any, situation: Situation, **details: Any) -> Callable:
    """Enter a function in the table."""

    def enter(fun: Callable) -> Callable:
        points = (np.asarray(x, np.float32) for x in (bad, good))
        TRAPS.append(Trap(fun.__name__, fun, *points, situation, **details))
        return fun

    return enter


def double_where(fun: Callable, ok: Callable) -> Callable:
    return lambda x: jnp.sum(jnp.where(ok(x), fun(jnp.where(ok(x), x, 1.0)), 0.0))


POSITIVE = lambda x: x > 0


@trap([0, 1], [2, 1], Situation.POLE, masked=True, mended=double_where(jnp.sqrt, POSITIVE))
def where_sqrt(x):
    root = jnp.sqrt(x)  # here
    return jnp.sum(jnp.where(x > 0, root, 0.0))


@trap([0, 1], [2, 1], Situation.ZERO_OVER_ZERO, masked=True, mended=double_where(jnp.log, POSITIVE))
def where_log(x):
    log = jnp.log(x)  # here
    return jnp.sum(jnp.where(x > 0, log, 0.0))


@trap([0, 1], [2, 1], Situation.POLE, masked=True, mended=double_where(lambda x: 1 / x, POSITIVE))
def where_division(x):
    inverse = 1 / x  # here
    return jnp.sum(jnp.where(x > 0, inverse, 0.0))


@trap(
    [100, 1], [2, 1], Situation.OVERFLOW, masked=True, mended=lambda x: jnp.sum(jax.nn.softplus(x))
)
def where_exp(x):
    small = jnp.exp(x)  # here
    return jnp.sum(jnp.where(x > 20, x, jnp.log1p(small)))


@trap([0, 1], [2, 1], Situation.ZERO_OVER_ZERO, masked=True)
def clipped_log(x):
    log = jnp.log(x)  # here
    return jnp.sum(jnp.maximum(log, -10.0))


@trap([0, 0], [2, 1], Situation.POLE, mended=lambda x: jnp.sqrt(jnp.sum(x**2) + 1e-12))
def norm_at_zero(x):
    return jnp.linalg.norm(x)  # here


@trap([1, 1, 1, 1], [2, 1, 1, 2], Situation.POLE)
def distances(x):
    points = jnp.reshape(x, (2, 2))
    differences = points - points[::-1]
    return jnp.sum(jnp.sqrt(jnp.sum(differences**2, axis=-1)))  # here


@trap([2, 2], [2, 1], Situation.POLE)
def std_of_equal_numbers(x):
    return jnp.std(x)  # here


@trap([1000, 1], [2, 1], Situation.OVERFLOW, mended=jax.nn.logsumexp)
def logsumexp_by_hand(x):
    powers = jnp.exp(x)  # here
    return jnp.log(jnp.sum(powers))


@trap([1000, 1], [2, 1], Situation.OVERFLOW, mended=lambda x: jnp.max(jax.nn.softmax(x)))
def softmax_by_hand(x):
    powers = jnp.exp(x)  # here
    return jnp.max(powers / jnp.sum(powers))


@trap([100, 1], [2, 1], Situation.OVERFLOW, mended=lambda x: jnp.sum(jax.nn.softplus(x)))
def softplus_by_hand(x):
    return jnp.sum(jnp.log(1 + jnp.exp(x)))  # here


@trap([-100, 1], [2, 1], Situation.OVERFLOW, mended=lambda x: jnp.sum(jax.nn.sigmoid(x)))
def sigmoid_by_hand(x):
    powers = jnp.exp(-x)  # here
    return jnp.sum(1 / (1 + powers))


@trap([-1, -2], [2, -1], Situation.INF_MINUS_INF)
def softmax_of_a_masked_row(x):
    scores = jnp.where(x > 0, x, -jnp.inf)
    weights = jax.nn.softmax(scores)  # here
    return jnp.sum(weights * x)


@trap([200, 1], [2, 1], Situation.POLE)
def cross_entropy_by_hand(x):
    target = jnp.array([1.0, 0.0])
    logs = jnp.log(jax.nn.softmax(x))  # here
    return -jnp.sum(target * logs)


@trap([0, 1], [2, 1], Situation.POLE, mended=lambda x: -jnp.sum(jax.scipy.special.entr(x + 1e-30)))
def entropy_at_zero(x):
    logs = jnp.log(x)  # here
    return jnp.sum(x * logs)


@trap([0, 0], [2, 1], Situation.ZERO_OVER_ZERO)
def cosine_of_zero(x):
    length = jnp.sqrt(jnp.dot(x, x) * 2.0)
    return jnp.dot(x, jnp.ones(2)) / length  # here


@trap([-1, -1], [2, 1], Situation.ZERO_OVER_ZERO)
def mean_of_nothing(x):
    weight = (x > 0).astype(x.dtype)
    return jnp.sum(weight * x) / jnp.sum(weight)  # here


@trap([300, 300], [2, 1], Situation.OVERFLOW)
def float16_norm(x):
    half = x.astype(jnp.float16)
    squares = half * half  # here
    return jnp.sqrt(jnp.sum(squares)).astype(jnp.float32)


@trap([300, 300], [2, 1], Situation.SILENT_ZERO)
def float16_direction(x):
    half = x.astype(jnp.float16)
    squares = half * half  # here
    return jnp.sum(half / jnp.sqrt(jnp.sum(squares))).astype(jnp.float32)


@trap([300, 100], [2, 1], Situation.SILENT_ZERO)
def float16_layer_norm(x):
    half = x.astype(jnp.float16)
    squares = half**2  # here
    return jnp.sum(half * lax.rsqrt(jnp.sum(squares) + jnp.float16(1))).astype(jnp.float32)


@trap([1e5, 1], [2, 1], Situation.OVERFLOW)
def cast_to_float16(x):
    half = x.astype(jnp.float16)  # here
    return jnp.sum(half).astype(jnp.float32)


@trap([4e4, 4e4], [2, 1], Situation.OVERFLOW)
def float16_sum(x):
    half = x.astype(jnp.float16)
    return jnp.sum(half).astype(jnp.float32)  # here


@trap([3, 1], [0.5, 1], Situation.POLE, iteration=(3,))
def division_in_a_scan(x):
    def body(total, i):
        return total + 1 / (x[0] - i), None  # here

    return lax.scan(body, x[1], jnp.arange(5.0))[0]


@trap([1e10, 1], [2, 1], Situation.OVERFLOW, iteration=(3,))
def exploding_scan(x):
    def body(state, _):
        return state * x[0], None  # here

    return lax.scan(body, x[1], None, length=6)[0]


@trap([4, 2], [4, 9], Situation.POLE, iteration=(2,))
def division_in_a_while_loop(x):
    def body(i, total):
        return total + 1 / (x[1] - i)  # here

    return lax.fori_loop(0, jnp.int32(x[0]), body, x[0])


@trap([5, 0], [5, 1], Situation.POLE, iteration=(3,))
def root_in_a_while_loop(x):
    def body(state):
        i, total = state
        root = jnp.sqrt(jnp.where(i == 3, x[1], 1.0))  # here
        return i + 1, total + root

    return lax.while_loop(lambda state: state[0] < x[0], body, (jnp.float32(0), x[1]))[1]


@trap(np.eye(2), [[2, 0], [0, 1]], Situation.SINGULAR)
def eigh_of_equal_eigenvalues(x):
    _, vectors = jnp.linalg.eigh(x)  # here
    return jnp.sum(vectors[:, 0] * jnp.arange(1.0, 3.0))


@trap(-np.eye(2), np.eye(2), Situation.SINGULAR)
def cholesky_of_indefinite(x):
    return jnp.sum(jnp.linalg.cholesky(x))  # here


@trap(np.ones((2, 2)), np.eye(2), Situation.SINGULAR)
def inverse_of_singular(x):
    return jnp.sum(jnp.linalg.inv(x))  # here


@trap(np.ones((2, 2)), np.eye(2), Situation.POLE)
def logdet_of_singular(x):
    return jnp.linalg.slogdet(x)[1]  # here


@trap([0, 1], [2, 1], Situation.POLE)
def root_by_power(x):
    return jnp.sum(x**0.5)  # here


@trap([0, 1], [2, 1], Situation.POLE)
def inverse_square(x):
    return jnp.sum(x**-2)  # here


@trap([0, 0], [2, 1], Situation.ZERO_OVER_ZERO)
def arctan2_at_zero(x):
    return jnp.arctan2(x[0], x[1])  # here


@trap([1, 0], [0.5, 0], Situation.POLE)
def arccos_at_one(x):
    return jnp.sum(jnp.arccos(x))  # here


@trap([1, 0], [0.5, 0], Situation.POLE)
def arctanh_at_one(x):
    return jnp.sum(jnp.arctanh(x))  # here


@trap([0, 0.5], [0.3, 0.5], Situation.POLE)
def gumbel_of_zero(x):
    logs = jnp.log(x)  # here
    return jnp.sum(-jnp.log(-logs))


@trap([-1, 1], [2, 1], Situation.DOMAIN)
def root_of_negative(x):
    return jnp.sum(jnp.sqrt(x))  # here


@trap([-1, 1], [2, 1], Situation.DOMAIN)
def log_of_negative(x):
    return jnp.sum(jnp.log(x))  # here


@trap([0, 0], [2, 1], Situation.POLE)
def normalise_without_epsilon(x):
    centred = x - jnp.mean(x)
    return jnp.sum(centred * lax.rsqrt(jnp.mean(centred**2)) * jnp.arange(2.0))  # here


@trap([0, 5], [0, 1], Situation.OUT_OF_BOUNDS)
def index_out_of_bounds(x):
    return jnp.sum(jnp.take(x, x.astype(jnp.int32)))  # here
