"""The foggy mountain: walk down the loss over two weights, with three learning rates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float32
from scipy.optimize import minimize

from fbp.autodiff import hessian, value_and_grad
from fbp.show.lesson import Lesson, Weights

SHARES = (0.1, 1.0, 2.1)
"""Rates as shares of 1 / curvature: on a parabola the first creeps, the second arrives at once, and
above 2 every step is longer than the one before. See `experiments/quadratic`."""

WALK = 24  # steps: the slow one is then seen to creep, and does not arrive
GRID = 41
ARRIVED = 0.02  # of the loss above the bottom is left
TO_AND_FRO = 0.02  # of it is gained in one step
STARTS = (0.7, 0.4)  # as shares of the bottom's distance from 0, from where the walks begin
VIEW = 1.4  # of that share: the picture has room for a walk that jumps over the bottom
LESSONS = {("creeps", "arrives", last) for last in ("jumps to and fro", "flies off")}
MOST_EDGES = 4  # of the last layer, whose pairs are tried
FLAT = 1e-6  # the curvature of a plain, where every rate creeps
FAR = (
    12.0  # a bottom farther away than this from all weights is none: the valley goes down for ever
)


@dataclass(frozen=True, eq=False)
class Walk:
    """One walk: where it stood before each step, the loss and the slope there.

    Attributes:
      rate: the learning rate.
      points: [steps + 1, 2].
      losses: at the points; not finite once it flew off.
      slopes: the gradients at the points.
      bottom: the loss at the bottom of the valley.
    """

    rate: float
    points: np.ndarray
    losses: np.ndarray
    slopes: np.ndarray

    bottom: float

    @property
    def outcome(self) -> str:
        """Return what the walk did: it arrives, creeps, jumps to and fro, or flies off."""
        above = self.losses - self.bottom
        if not np.all(np.isfinite(above)) or above[-1] > above[0]:
            return "flies off"
        if np.any(np.diff(above) > TO_AND_FRO * above[0]):
            return "jumps to and fro"
        return "arrives" if above[-1] <= ARRIVED * above[0] else "creeps"


@dataclass(frozen=True, eq=False)
class Valley:
    """The loss over two weights, all others as they were trained.

    Attributes:
      names: of the two weights: (layer, from, to).
      curvature: the largest at the bottom.
      bottom: where the gradient is smallest.
      axes: the two coordinates of the grid's points.
      surface: the loss at them, [second, first].
      walks: one for each of three rates, from the same start.
    """

    names: tuple[tuple[int, ...], ...]
    curvature: float
    bottom: np.ndarray
    axes: tuple[np.ndarray, ...]
    surface: np.ndarray
    walks: tuple[Walk, ...]


def valley_of(lesson: Lesson, stages: Sequence[Weights]) -> Valley:
    """Walk over two weights of the last layer, all others as they stood at one of the stages.

    It is a run of two parameters, so that the walks lie on the surface that is drawn. Where all
    examples are right, a valley goes down for ever: of all pairs of weights, stages and starts, the
    first is taken in which three rates do three things; if there is none, the first of all.
    """
    tools = _tools(lesson)
    stages = [jax.tree.map(jnp.asarray, weights) for weights in stages]
    candidates = (
        _candidate(tools, weights, pair, share)
        for share in STARTS
        for weights in stages
        for pair in _pairs(tools, weights)
    )
    first = None
    for valley in candidates:
        if tuple(walk.outcome for walk in valley.walks) in LESSONS:
            return valley
        first = first or valley
    assert first is not None  # a network has an edge
    return first


def _pairs(tools: "_Tools", weights: Weights) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the pairs of the last layer's edges along which the loss bends most; of a single edge,
    that edge twice."""
    bends = np.nan_to_num(np.diag(np.asarray(tools.bends(weights))))
    shape = weights[-1]["w"].shape
    steepest = np.argsort(-bends, kind="stable")[:MOST_EDGES]
    edges = [tuple(map(int, np.unravel_index(k, shape))) for k in steepest]
    return list(combinations(edges, 2)) or [(edges[0], edges[0])]


@dataclass(frozen=True, eq=False)
class _Tools:
    """Compiled once for all pairs, stages and starts: functions of (point, weights, pair), and
    of the weights alone for `bends`."""

    value_and_slope: Callable
    bend: Callable
    bends: Callable
    walks: Callable
    heights: Callable


def _tools(lesson: Lesson) -> _Tools:
    def loss(point, weights, pair):
        (i, j), (k, m) = pair
        w = weights[-1]["w"].at[i, j].set(point[0]).at[k, m].set(point[1])
        return lesson.mean_loss([*weights[:-1], weights[-1] | {"w": w}])

    def walk(point, weights, pair, rate):
        def step(point, _):
            value, slope = value_and_grad(loss)(point, weights, pair)
            return point - rate * slope, (point, value, slope)

        return lax.scan(step, point, length=WALK + 1)[1]

    def loss_of_last(w, weights):
        last = weights[-1] | {"w": w.reshape(weights[-1]["w"].shape)}
        return lesson.mean_loss([*weights[:-1], last])

    return _Tools(
        value_and_slope=jax.jit(value_and_grad(loss)),
        bend=jax.jit(lambda *args: jnp.linalg.eigvalsh(hessian(loss)(*args)).max()),
        bends=jax.jit(lambda ws: hessian(loss_of_last)(ws[-1]["w"].ravel(), ws)),
        walks=jax.jit(jax.vmap(walk, (None, None, None, 0))),
        heights=jax.jit(jax.vmap(loss, (0, None, None))),
    )


def _candidate(tools: _Tools, weights: Weights, pair: Any, share: float) -> Valley:
    ends = jnp.array(pair)
    begin = weights[-1]["w"][ends[:, 0], ends[:, 1]]
    bottom = _settle(tools, begin, weights, ends)
    if not np.all(np.abs(bottom - np.asarray(begin)) < FAR):
        bottom = np.asarray(begin)
    reach = np.maximum(np.abs(bottom), 1.0)
    curvature = max(float(tools.bend(bottom, weights, ends)), FLAT)
    start = _uphill(tools, bottom, share * reach, weights, ends)
    rates = np.array(SHARES, np.float32) / np.float32(curvature)
    points, losses, slopes = map(np.asarray, tools.walks(start, weights, ends, rates))
    low = float(tools.heights(bottom[None], weights, ends)[0])
    (x, y), (dx, dy) = bottom, reach * VIEW * share
    axes = tuple(np.linspace(c - r, c + r, GRID, dtype=np.float32) for c, r in ((x, dx), (y, dy)))
    grid = np.stack(np.meshgrid(*axes), -1)
    surface = np.asarray(tools.heights(grid.reshape(-1, 2), weights, ends)).reshape(GRID, GRID)
    walks = tuple(map(partial(Walk, bottom=low), rates, points, losses, slopes))
    last = len(weights) - 1
    names = tuple((last, *map(int, end)) for end in pair)
    return Valley(names, curvature, bottom, axes, surface, walks)


def _settle(tools: _Tools, start: Array, *rest: Any) -> Float32[np.ndarray, "2"]:
    """Go down to the bottom."""

    def objective(point):
        value, slope = tools.value_and_slope(jnp.asarray(point, jnp.float32), *rest)
        return float(value), np.asarray(slope, float)

    result = minimize(objective, np.asarray(start, float), jac=True, method="BFGS")
    return result.x.astype(np.float32)


def _uphill(tools: _Tools, bottom: np.ndarray, reach: np.ndarray, *rest: Any) -> np.ndarray:
    """Return the highest of eight points around the bottom."""
    angles = np.arange(8) * (np.pi / 4) + 0.4  # none lies on an axis of the picture
    around = np.stack([np.cos(angles), np.sin(angles)], 1) * reach
    starts = (bottom + around).astype(np.float32)
    heights = np.asarray(tools.heights(starts, *rest))
    return starts[np.argmax(np.where(np.isfinite(heights), heights, -np.inf))]
