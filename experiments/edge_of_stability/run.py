"""Where does the sharpness settle when a network is trained with its whole training set?

The sharpness is the largest eigenvalue of the loss's Hessian. It rises during training until the
optimizer is about to become unstable, and then stays there, for a learning rate eta at

- gradient descent:      2 / eta
- Polyak momentum b:     (2 + 2b) / eta
- Nesterov momentum b:   (2 + 2b) / ((1 + 2b) eta)
- Adam: (2 + 2b) / ((1 - b) eta) = 38 / eta for b = 0.9, where the Hessian H is preconditioned as
  P^-1/2 H P^-1/2 with P = sqrt(second moment) + epsilon.

Sources: Cohen et al., Gradient descent on neural networks typically occurs at the edge of
stability (2021), arXiv 2103.00065; Cohen et al., Adaptive gradient methods at the edge of
stability (2022), arXiv 2207.14484. The network is theirs, narrower: tanh, squared error.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from matplotlib.figure import Figure

import fbp
from experiments.edge_of_stability.lanczos import largest_eigenvalue
from fbp.data import load
from fbp.laboratory import Check, Outcome
from fbp.nn import activation, dense, serial

Weights = Float[Array, " weights"]
Loss = Callable[[Weights], Float[Array, ""]]

MOMENTUM = 0.9
SECOND_MOMENT = 0.99
EPSILON = 1e-7


@dataclass(frozen=True)
class Training:
    """One training run.

    Attributes:
      optimizer: a key of `METHODS`.
      learning_rate: eta.
      steps: its length.
    """

    optimizer: str
    learning_rate: float
    steps: int


@dataclass(frozen=True)
class Settings:
    """The problem, and the runs.

    Attributes:
      dataset: its name.
      examples: how many of its training rows are used, all of them at each step.
      hidden: widths of the hidden layers.
      every: steps between two measurements of the sharpness.
      products: with the Hessian, for a measurement; it begins where the one before ended.
      seeds: of the weights; every run is made with each.
      runs: what is trained.
    """

    dataset: str
    examples: int
    hidden: tuple[int, ...]
    every: int
    products: int
    seeds: tuple[int, ...]
    runs: tuple[Training, ...]


class Method(NamedTuple):
    """An optimizer.

    Attributes:
      make: learning rate -> optax transformation.
      edge: the sharpness times the learning rate at which it becomes unstable.
      low, high: the band for sharpness / threshold, as a median over the last quarter of a run.
      scale: the optimizer's state -> P^-1/2, by which the Hessian is multiplied on both sides.
    """

    make: Callable[[float], optax.GradientTransformation]
    edge: float
    low: float
    high: float
    scale: Callable[[Any], Weights | float] = lambda _: 1.0


class Measured(NamedTuple):
    """What a run was like: steps, and the loss and sharpness x rate / edge at each of them."""

    steps: np.ndarray
    losses: np.ndarray
    shares: np.ndarray


def _adam_scale(state: Any) -> Weights:
    moments = state[0]
    second = moments.nu / (1 - SECOND_MOMENT**moments.count)
    return (jnp.sqrt(second) + EPSILON) ** -0.5


METHODS = {
    "gradient descent": Method(optax.sgd, 2.0, 0.98, 1.10),
    "Polyak momentum": Method(lambda rate: optax.sgd(rate, MOMENTUM), 2 + 2 * MOMENTUM, 0.97, 1.08),
    "Nesterov momentum": Method(
        lambda rate: optax.sgd(rate, MOMENTUM, nesterov=True),
        (2 + 2 * MOMENTUM) / (1 + 2 * MOMENTUM),
        0.97,
        1.08,
    ),
    "Adam": Method(
        lambda rate: optax.adam(rate, MOMENTUM, SECOND_MOMENT, EPSILON),
        (2 + 2 * MOMENTUM) / (1 - MOMENTUM),
        0.90,
        1.10,
        _adam_scale,
    ),
}


def run(settings: Settings) -> Outcome:
    """Train each, and hold the sharpness of the last quarter against the threshold."""
    measured = {
        (training, seed): _train(settings, training, seed)
        for training in settings.runs
        for seed in settings.seeds
    }
    return Outcome(
        tuple(_check(*key, training_run) for key, training_run in measured.items()),
        tuple(_row(*key, training_run) for key, training_run in measured.items()),
        {"figure": _figure(measured)},
    )


def _train(settings: Settings, training: Training, seed: int) -> Measured:
    """Train on the full training set at each step; compile all between two measurements."""
    method = METHODS[training.optimizer]
    weights, loss_fn = _problem(settings, seed)
    tx = method.make(training.learning_rate)

    def step(state, _):
        weights, opt_state = state
        loss, gradient = fbp.value_and_grad(loss_fn)(weights)
        updates, opt_state = tx.update(gradient, opt_state, weights)
        return (optax.apply_updates(weights, updates), opt_state), loss

    @jax.jit
    def advance(state):
        state, losses = jax.lax.scan(step, state, length=settings.every)
        return state, losses[-1]

    @jax.jit
    def measure(state, start: Weights):
        weights, opt_state = state
        scale = method.scale(opt_state)

        def product(vector: Weights) -> Weights:
            (image,) = fbp.hvp(loss_fn, (weights,), (scale * vector,))
            return scale * image

        return largest_eigenvalue(product, start, settings.products)

    def history() -> Iterator[tuple[int, float, float]]:
        state, top = (weights, tx.init(weights)), jnp.ones_like(weights)
        for step in range(settings.every, training.steps + 1, settings.every):
            state, loss = advance(state)
            sharpness, top = measure(state, top)
            yield step, float(loss), float(sharpness)

    steps, losses, sharpness = map(np.array, zip(*history(), strict=True))
    return Measured(steps, losses, sharpness * training.learning_rate / method.edge)


def _problem(settings: Settings, seed: int) -> tuple[Weights, Loss]:
    """Weights of variance 1 / (3 inputs), and half the squared error, of one-hot targets."""
    data = load(settings.dataset)
    rows = slice(settings.examples)
    x, y = jnp.asarray(data.train.x[rows]), jax.nn.one_hot(data.train.y[rows], data.classes)
    narrow = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "normal")
    hidden = [
        layer
        for width in settings.hidden
        for layer in (dense(width, kernel_init=narrow), activation(jnp.tanh))
    ]
    network = serial(*hidden, dense(data.classes, kernel_init=narrow))
    params, _ = network.init(jax.random.key(seed), x.shape)
    weights, unravel = ravel_pytree(params)

    def loss_fn(weights: Weights) -> Float[Array, ""]:
        errors = network.apply(unravel(weights), x) - y
        return jnp.sum(errors**2) / (2 * len(x))

    return weights, loss_fn


def _settled(training_run: Measured) -> np.ndarray:
    """Sharpness x rate / edge in the last quarter of a run."""
    return training_run.shares[-(len(training_run.shares) // 4) :]


def _check(training: Training, seed: int, training_run: Measured) -> Check:
    method = METHODS[training.optimizer]
    return Check(
        f"sharpness / threshold, {training.optimizer}, rate {training.learning_rate:g}, "
        f"seed {seed}, median of the last quarter",
        "1",
        float(np.median(_settled(training_run))),
        method.low,
        method.high,
    )


def _row(training: Training, seed: int, training_run: Measured) -> dict[str, float | int | str]:
    low, high = np.quantile(_settled(training_run), [0.25, 0.75])
    return {
        "optimizer": training.optimizer,
        "rate": training.learning_rate,
        "seed": seed,
        "steps": training.steps,
        "first sharpness / threshold": float(training_run.shares[0]),
        "last quarter: lower quartile": float(low),
        "upper quartile": float(high),
        "last loss": float(training_run.losses[-1]),
    }


def _figure(measured: dict[tuple[Training, int], Measured]) -> Figure:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    first_seed = min(seed for _, seed in measured)
    for (training, seed), training_run in measured.items():
        if seed == first_seed:
            label = f"{training.optimizer}, rate {training.learning_rate:g}"
            axes.plot(training_run.steps, training_run.shares, label=label, linewidth=1)
    axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set(xlabel="step", ylabel="sharpness / threshold", xlim=0, ylim=0)
    axes.legend(frameon=False, loc="lower right")
    return figure
