"""What a page shows: a small network, its data, and the rate at which it learns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Key

from fbp.autodiff import grad, value_and_grad
from fbp.config import MLP, Config
from fbp.errors import InputError

Weights = list[dict[str, Float[Array, "..."]]]
"""One `{"w": [inputs, outputs], "b": [outputs]}` for each layer."""

MOST_EDGES = 60
"""More lines than these cannot be told apart, nor pointed at, on a phone."""

SLOW_STEPS = 4  # by one example each: as many as XOR has

RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Tried for a config, half a decade apart."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """A network, its data, and how it learns them by plain gradient descent.

    Attributes:
      name: of the data.
      x: the examples' inputs.
      t: their targets: a row of outputs for each example.
      widths: neurons of each layer, inputs first.
      activation: what the hidden layers apply to their sums.
      output: what the output layer applies: logistic, identity, or softmax.
      rate: the learning rate.
      steps: updates by the mean of all examples.
      inputs: names of the inputs.
      outputs: names of the outputs.
      notes: what differs from what the user asked for.

    >>> lesson = xor()
    >>> lesson.widths, lesson.x.shape, lesson.output
    ((2, 4, 3, 1), (4, 2), 'logistic')
    """

    name: str
    x: Float32[np.ndarray, "examples inputs"]
    t: Float32[np.ndarray, "examples outputs"]
    widths: tuple[int, ...]
    activation: str
    output: str
    rate: float
    steps: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def draw(self, key: Key[Array, ""]) -> Weights:
        """Draw the first weights: w ~ N(0, 1 / inputs), b ~ N(0, 1/4)."""
        pairs = list(pairwise(self.widths))
        return [
            {
                "w": jax.random.normal(jax.random.fold_in(k, 0), (n, m)) / jnp.sqrt(1.0 * n),
                "b": jax.random.normal(jax.random.fold_in(k, 1), (m,)) / 2,
            }
            for k, (n, m) in zip(jax.random.split(key, len(pairs)), pairs, strict=True)
        ]

    def sums(self, weights: Weights, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """Return the sums of the output neurons for one example."""
        h = x
        for i, layer in enumerate(weights):
            h = weighted_sums(i, h, **layer)
            if i < len(weights) - 1:
                with jax.named_scope(f"activation{i}"):
                    h = getattr(jax.nn, self.activation)(h)
        return h

    def outputs_of(self, weights: Weights, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """Return the outputs for one example."""
        return OUTPUTS[self.output](self.sums(weights, x))

    def loss(
        self, weights: Weights, x: Float[Array, " inputs"], t: Float[Array, " outputs"]
    ) -> Float[Array, ""]:
        """Return the loss of one example: half the squared error, or the cross-entropy."""
        a = self.sums(weights, x)
        if self.output == "softmax":
            return -jnp.sum(t * jax.nn.log_softmax(a))
        return jnp.sum((OUTPUTS[self.output](a) - t) ** 2) / 2

    def mean_loss(self, weights: Weights) -> Float[Array, ""]:
        """Return the mean of all examples' losses."""
        losses = jax.vmap(self.loss, (None, 0, 0))(
            weights, jnp.asarray(self.x), jnp.asarray(self.t)
        )
        return jnp.mean(losses)

    def is_right(
        self, y: Float[np.ndarray, "examples outputs"]
    ) -> Bool[np.ndarray, " examples"] | None:
        """Test which outputs fall on the side of their targets; None for numbers, which have no
        sides."""
        if self.output == "identity":
            return None
        if self.output == "softmax":
            return y.argmax(-1) == self.t.argmax(-1)
        return ((y > 0.5) == (self.t > 0.5)).all(-1)


def weighted_sums(
    i: int, h: Float[Array, " n"], w: Float[Array, "n m"], b: Float[Array, " m"]
) -> Float[Array, " m"]:
    """Return the sums a_j = sum_i h_i w_ij + b_j of layer i, each edge's product by itself.

    As a product of matrices they would be one equation, in which no edge has an entry of its own.
    """
    with jax.named_scope(f"layer{i}"):
        carried = lax.broadcast_in_dim(h, w.shape, (0,)) * w
        return lax.reduce(carried, np.float32(0), lax.add, (0,)) + b


OUTPUTS: dict[str, Callable[[Array], Array]] = {
    "logistic": lax.logistic,
    "identity": lambda a: a,
    "softmax": jax.nn.softmax,
}


def xor() -> Lesson:
    """Return the lesson of XOR: 1 where exactly one of two inputs is 1.

    Returns:
      The lesson, of a 2-4-3-1 network.

    >>> xor().t[:, 0]
    array([1., 0., 1., 0.], dtype=float32)
    """
    x = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], np.float32)
    t = np.array([[1], [0], [1], [0]], np.float32)
    return Lesson("xor", x, t, (2, 4, 3, 1), "tanh", "logistic", 1.0, 1000, ("x1", "x2"), ("y",))


def moons() -> Lesson:
    """Return the lesson of two half moons, 30 points each, that no straight line divides.

    Returns:
      The lesson, of a 2-4-3-1 network.

    >>> moons().x.shape
    (60, 2)
    """
    angle = np.linspace(0, np.pi, 30)
    upper = np.stack([np.cos(angle), np.sin(angle)], 1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], 1)
    noise = np.random.default_rng(0).normal(scale=0.1, size=(60, 2))
    x = (np.concatenate([upper, lower]) + noise).astype(np.float32)
    t = np.repeat(np.array([[0], [1]], np.float32), 30, axis=0)
    order = np.arange(60).reshape(2, 30).T.ravel()  # one of each in turn
    return Lesson(
        "two moons", x[order], t[order], (2, 4, 3, 1), "tanh", "logistic", 1.0, 2000, ("x1", "x2"),
        ("y",),
    )  # fmt: skip


def lesson_of(config: Config, rate: float | None = None, seed: int = 0) -> Lesson:
    """Return the lesson of a config's data and network.

    Args:
      config: of an MLP with at most 60 edges.
      rate: the learning rate; if None, the one of six with the lowest loss at the end.
      seed: of the first weights with which the six are tried.

    Returns:
      The lesson. Its notes say what of the config it leaves out.

    Raises:
      InputError: the network is not an MLP, or has too many edges.

    >>> from fbp.config_file import load_config
    >>> from pathlib import Path
    >>> lesson_of(load_config(Path("configs/digits_mlp.toml")))
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: the network 64-256-10 has 18,944 edges, and a page shows at most 60: \
with 64 inputs none can
    """
    from fbp.data import Dataset
    from fbp.sweep import load_problem
    from fbp.train import Objective

    if not isinstance(config.network, MLP):
        kind = type(config.network).__name__.lower()
        raise InputError(
            f"a page shows the edges of an MLP, and network.kind is {kind}: give "
            'network.kind = "mlp"'
        )
    problem = load_problem(config)
    data = problem.data
    if not isinstance(data, Dataset) or not isinstance(problem.loss, Objective):
        raise InputError("a page shows a data set by its name and the loss of its task")
    inputs = int(np.prod(data.feature_shape))
    is_class = data.task == "classification"
    widths = (inputs, *config.network.widths, problem.loss.outputs)
    check_edges(widths)
    targets = np.eye(data.classes, dtype=np.float32)[data.train.y] if is_class else data.train.y
    lesson = Lesson(
        name=data.name.rsplit("/", 1)[-1],
        x=data.train.x.reshape(len(data.train), inputs),
        t=np.asarray(targets, np.float32).reshape(len(data.train), -1),
        widths=widths,
        activation=config.network.activation,
        output="softmax" if is_class else "identity",
        rate=rate or 0.0,
        steps=config.train.steps,
        inputs=tuple(data.feature_names) or tuple(f"x{i + 1}" for i in range(inputs)),
        outputs=tuple(map(str, data.target_names)),
        notes=_notes(config),
    )
    return lesson if rate else _with_best_rate(lesson, seed)


def check_edges(widths: Sequence[int]) -> None:
    """Raise if a network has more edges than a page can show."""
    edges = sum(n * m for n, m in pairwise(widths))
    if edges > MOST_EDGES:
        most = MOST_EDGES // (widths[0] + widths[-1])
        advice = f"give network.widths = [{most}]" if most else f"with {widths[0]} inputs none can"
        raise InputError(
            f"the network {'-'.join(map(str, widths))} has {edges:,} edges, and a page shows at "
            f"most {MOST_EDGES}: {advice}"
        )


def descend(lesson: Lesson, weights: Weights, rate: Any, steps: int) -> tuple[Weights, Array]:
    """Take steps of plain gradient descent by the mean of all examples.

    Returns:
      The last weights, and all of them before each step, stacked.
    """

    def step(weights, _):
        _, grads = value_and_grad(lesson.mean_loss)(weights)
        return jax.tree.map(lambda w, g: w - rate * g, weights, grads), weights

    return lax.scan(step, weights, length=steps)


def _with_best_rate(lesson: Lesson, seed: int) -> Lesson:
    """Return the lesson at the rate of `RATES` with the lowest loss at the end."""
    weights = lesson.draw(jax.random.key(seed))

    def train(rate):
        now = weights
        for x, t in zip(lesson.x[:SLOW_STEPS], lesson.t[:SLOW_STEPS], strict=True):
            grads = grad(lesson.loss)(now, jnp.asarray(x), jnp.asarray(t))
            now = jax.tree.map(lambda w, g: w - rate * g, now, grads)
        return descend(lesson, now, rate, lesson.steps)[0]

    last = jax.jit(lambda rates: lax.map(train, rates))(jnp.array(RATES))
    losses = jax.vmap(lesson.mean_loss)(last)
    best = int(np.nanargmin(np.where(np.isfinite(losses), losses, np.inf)))
    tried = ", ".join(f"{rate:g}" for rate in RATES)
    note = f"the learning rate {RATES[best]:g} has the lowest loss at the end, of {tried}"
    return replace(lesson, rate=RATES[best], notes=(*lesson.notes, note))


def _notes(config: Config) -> tuple[str, ...]:
    optimizer = getattr(config.optimizer, "name", "another optimizer")
    return (
        f"plain gradient descent by all training examples at once, where the config has "
        f"{optimizer} by batches of {config.train.batch_size}",
    )
