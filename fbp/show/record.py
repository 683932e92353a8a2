"""Record a training run: a few steps with every number, then a film of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fbp.autodiff import RULES, Rules, grad
from fbp.autodiff.recording import TapeEntry, tape
from fbp.errors import InputError
from fbp.show.lesson import SLOW_STEPS, Lesson, Weights, descend
from fbp.show.valley import Valley, valley_of

FRAMES = 90  # of the film: 7 seconds of it, at the speed at which a change is still seen
FIRST_FRAMES = 20  # one for each step, since the first steps change most
STAGES = (0.5, 0.7, 0.3)  # of the first loss, at which a valley is looked for
GRID = 24  # squares a side of the map of outputs: 4 mm on a phone
MARGIN = 0.35  # of the data's range, around it


@dataclass(frozen=True, eq=False)
class SlowLayer:
    """One layer in one step: what was computed, and what came back.

    Attributes:
      w, b: weights [inputs, outputs] and biases.
      x: what arrives: the inputs, or the outputs h of the layer before.
      carried: what each edge carries, x_i w_ij.
      a: the sums.
      h: the outputs.
      slope: dh/da (None where outputs depend on other neurons' sums).
      d_h: the cotangents of h.
      d_a: the error signals, the cotangents of a.
      message: what each edge carries back, d_a_j w_ij.
      d_w, d_b: derivatives of the loss.
      w_next, b_next: after the update.
    """

    w: np.ndarray
    b: np.ndarray
    x: np.ndarray
    carried: np.ndarray
    a: np.ndarray
    h: np.ndarray
    slope: np.ndarray | None
    d_h: np.ndarray | None
    d_a: np.ndarray
    message: np.ndarray
    d_w: np.ndarray
    d_b: np.ndarray
    w_next: np.ndarray
    b_next: np.ndarray


@dataclass(frozen=True, eq=False)
class SlowStep:
    """One step of gradient descent by one example.

    Attributes:
      example: its number.
      t: its targets.
      layers: from the first to the last.
      loss: before the update.
      loss_next: on the same example after it.
      entries: the tape.
    """

    example: int
    t: np.ndarray
    layers: tuple[SlowLayer, ...]
    loss: np.ndarray
    loss_next: np.ndarray
    entries: tuple[TapeEntry, ...]


@dataclass(frozen=True, eq=False)
class Film:
    """Steps by the mean of all examples.

    Attributes:
      steps: their numbers, every one at first and then farther and farther apart.
      weights: before each, stacked.
      losses: the mean loss before each.
      right: share of examples on the right side before each, None for a regression.
      outputs: the outputs of all examples before each.
      maps: the first output over the plane before each, None where inputs are not two.
      plane: the corners x0, x1, y0, y1 of the maps.
      diverged: the first step whose loss is not finite, None if all are.
    """

    steps: np.ndarray
    weights: Weights
    losses: np.ndarray
    right: np.ndarray | None
    outputs: np.ndarray
    maps: np.ndarray | None
    plane: tuple[float, float, float, float] | None
    diverged: int | None


@dataclass(frozen=True, eq=False)
class LessonRecording:
    """A recorded run of a lesson.

    Attributes:
      lesson: what was learned.
      seed: that the first weights were drawn from.
      slow: steps by one example each, with every number.
      film: the steps after them, by all examples.
      valley: the walk over two of the trained network's weights.

    >>> from fbp.show import moons
    >>> record(moons(), seed=1).film.right[-1]
    np.float32(1.0)
    """

    lesson: Lesson
    seed: int
    slow: tuple[SlowStep, ...]
    film: Film
    valley: Valley


def record(lesson: Lesson, seed: int = 0, rules: Rules = RULES) -> LessonRecording:
    """Train a lesson's network and keep what a page shows.

    Args:
      lesson: the network and its data.
      seed: of the first weights.
      rules: the table of rules that the slow steps differentiate by.

    Returns:
      The recording.

    Raises:
      InputError: the loss is not finite from the start.

    >>> from fbp.show import xor
    >>> run = record(xor(), seed=0)
    >>> len(run.slow), float(run.film.losses[-1]) < 0.02
    (4, True)
    """
    weights = lesson.draw(jax.random.key(seed))
    if not np.isfinite(lesson.mean_loss(weights)):
        raise InputError(f"the loss of {lesson.name} is not finite before the first step")
    slow = []
    for example in range(min(SLOW_STEPS, len(lesson.x))):
        step, weights = slow_step(lesson, weights, example, rules)
        slow.append(step)
    film = film_of(lesson, weights)
    return LessonRecording(lesson, seed, tuple(slow), film, valley_of(lesson, _stages(film)))


def _stages(film: Film) -> list[Weights]:
    """Return the weights at several shares of the first loss, while examples are still wrong."""
    frames = [int(np.argmin(np.abs(film.losses - film.losses[0] * s))) for s in STAGES]
    return [jax.tree.map(lambda w, f=frame: w[f], film.weights) for frame in frames]


def slow_step(
    lesson: Lesson, weights: Weights, example: int, rules: Rules = RULES
) -> tuple[SlowStep, Weights]:
    """Take one step by one example, read from the tape; return it and the next weights."""
    x, t = jnp.asarray(lesson.x[example]), jnp.asarray(lesson.t[example])
    loss, (grads, _), entries = tape(lesson.loss, (0, 1), rules=rules)(weights, x, t)
    next_weights = jax.tree.map(lambda w, g: w - lesson.rate * g, weights, grads)
    layers = [
        _slow_layer(lesson, entries, i, weights[i], grads[i], next_weights[i])
        for i in range(len(weights))
    ]
    loss_next = lesson.loss(next_weights, x, t)
    step = SlowStep(
        example, np.asarray(t), tuple(layers), np.asarray(loss), np.asarray(loss_next),
        tuple(entries),
    )  # fmt: skip
    return step, next_weights


def _slow_layer(
    lesson: Lesson, entries: Sequence[TapeEntry], i: int, now: Any, grads: Any, then: Any
) -> SlowLayer:
    """Read one layer from the tape: its product, its sums, and the layer's outputs, which are what
    arrives at the next one."""
    spread, product, total = (
        _entry(entries, f"layer{i}", name) for name in ("broadcast_in_dim", "mul", "add")
    )
    is_last = i == len(lesson.widths) - 2
    (a,), (d_a,) = total.outs, total.out_cts
    if is_last:
        h, d_h, slope = _last_outputs(lesson, entries, a)
    else:
        following = _entry(entries, f"layer{i + 1}", "broadcast_in_dim")
        h, d_h = following.ins[0], following.in_cts[0]
        slope = jax.vmap(grad(getattr(jax.nn, lesson.activation)))(a)
    return SlowLayer(
        *map(np.asarray, (now["w"], now["b"], spread.ins[0], product.outs[0], a, h)),
        *(None if v is None else np.asarray(v) for v in (slope, d_h)),
        *map(np.asarray, (d_a, product.in_cts[0], grads["w"], grads["b"], then["w"], then["b"])),
    )  # pyright: ignore[reportCallIssue]


def _last_outputs(lesson: Lesson, entries: Sequence[TapeEntry], a: Array) -> tuple[Any, Any, Any]:
    """Return the outputs, their cotangents and their slopes. A softmax is one with its loss: its
    outputs have neither."""
    if lesson.output == "softmax":
        return jax.nn.softmax(a), None, None
    if lesson.output == "identity":
        difference = _entry(entries, "", "sub")
        return difference.ins[0], difference.in_cts[0], jnp.ones_like(a)
    squash = _entry(entries, "", "logistic")
    (h,), (d_h,) = squash.outs, squash.out_cts
    return h, d_h, h * (1 - h)


def _entry(entries: Sequence[TapeEntry], scope: str, primitive: str) -> TapeEntry:
    return next(e for e in entries if (e.scope, e.primitive) == (scope, primitive))


def film_of(lesson: Lesson, weights: Weights) -> Film:
    """Train on, by the mean of all examples, and keep some of the steps."""
    train = jax.jit(lambda weights: descend(lesson, weights, lesson.rate, lesson.steps + 1)[1])
    every = train(weights)
    losses = np.asarray(jax.jit(jax.vmap(lesson.mean_loss))(every))
    broken = np.flatnonzero(~np.isfinite(losses))
    diverged = int(broken[0]) if broken.size else None
    steps = frame_steps(lesson.steps if diverged is None else max(0, diverged - 1))
    chosen = jax.tree.map(lambda w: np.asarray(w)[steps], every)
    outputs = np.asarray(_outputs(lesson, chosen, lesson.x))
    right = [r.mean() for y in outputs if (r := lesson.is_right(y)) is not None]
    shares = np.array(right, np.float32) if right else None
    plane, maps = _maps(lesson, chosen)
    return Film(steps, chosen, losses[steps], shares, outputs, maps, plane, diverged)


def frame_steps(last: int) -> np.ndarray:
    """Return the steps that the film shows: 0 to 20, then evenly on a log axis, to the last.

    >>> frame_steps(3), frame_steps(1000)[-2:]
    (array([0, 1, 2, 3]), array([ 945, 1000]))
    """
    first = np.arange(min(last, FIRST_FRAMES) + 1)
    if last <= FIRST_FRAMES:
        return first
    spread = np.geomspace(FIRST_FRAMES, last, FRAMES - FIRST_FRAMES)
    return np.unique(np.concatenate([first, np.round(spread).astype(int)]))


def _maps(lesson: Lesson, frames: Weights) -> tuple[Any, np.ndarray | None]:
    """Return the corners of a plane around the data, and the first output over it."""
    if lesson.widths[0] != 2:
        return None, None
    low, high = lesson.x.min(0), lesson.x.max(0)
    edge = MARGIN * np.maximum(high - low, 1e-6)  # data that lie on a line have a plane too
    (x0, y0), (x1, y1) = low - edge, high + edge
    centers = (np.arange(GRID) + 0.5) / GRID
    xs, ys = np.meshgrid(x0 + centers * (x1 - x0), y1 - centers * (y1 - y0))
    points = np.stack([xs.ravel(), ys.ravel()], 1).astype(np.float32)
    maps = np.asarray(_outputs(lesson, frames, points))[..., -1]
    return tuple(map(float, (x0, x1, y0, y1))), maps.reshape(-1, GRID, GRID)


def _outputs(
    lesson: Lesson, frames: Weights, x: Float[np.ndarray, "n inputs"]
) -> Float[Array, "frames n outputs"]:
    one_frame = jax.vmap(lesson.outputs_of, (None, 0))
    return jax.jit(jax.vmap(one_frame, (0, None)))(frames, jnp.asarray(x))
