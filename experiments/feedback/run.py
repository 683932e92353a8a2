"""Does a network learn if the error travels back through other weights than it came by?

On 8x8 digits, tanh 64-100-100-10: backpropagation (BP), feedback alignment (FA), feedback weights
with the signs of the weights (uSF, frSF, brSF), direct feedback alignment (DFA), and meProp, which
leaves the k largest entries of each cotangent. Every method is an edit of `fbp.gallery`; network,
optimizer and batches are the same. Beside the accuracy stands the angle between a method's
gradient and that of backpropagation, on the training set, after training.

Source: Lillicrap et al., arXiv 1411.0247; Liao, Leibo and Poggio, arXiv 1510.05067; Nøkland, arXiv
1609.01596; Sun et al., arXiv 1706.06197.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fbp
from fbp import gallery, nn
from fbp.laboratory import Check, Outcome

PUBLISHED = {
    "BP": 0.977,
    "FA": 0.970,
    "uSF": 0.975,
    "frSF": 0.977,
    "DFA": 0.975,
    "meProp": 0.980,
}
"""Measured with PyTorch on the same data, network and optimizer, by others."""
ALIGNED = ("FA", "DFA")

Gradient = Callable[[jax.Array, Any, jax.Array, jax.Array], Any]


@dataclass(frozen=True)
class Settings:
    """The methods, the network, and how it is trained.

    Attributes:
      methods: of `fbp.gallery`, by their names in the papers.
      widths: of the hidden layers.
      learning_rate, momentum, batch_size, epochs: of SGD.
      seeds: of weights, feedback weights and batches; the split is the same.
      k: the entries of each cotangent that meProp leaves.
      test_share: of the data.
      least: the mean test accuracy that every method has to reach.
      angle: in degrees, the largest of FA and DFA in the first layer after training.
    """

    methods: tuple[str, ...]
    widths: tuple[int, ...]
    learning_rate: float
    momentum: float
    batch_size: int
    epochs: int
    seeds: int
    k: int
    test_share: float
    least: float
    angle: float


def run(settings: Settings) -> Outcome:
    """Train by each method, test, and measure the angles."""
    data = split(settings.test_share)
    measured = {name: train(name, settings, *data) for name in settings.methods}
    checks = [
        Check(
            f"test accuracy, {name}, mean of {settings.seeds} seeds",
            str(PUBLISHED.get(name, "-")),
            float(accuracies[:, -1].mean()),
            low=settings.least,
        )
        for name, (accuracies, _) in measured.items()
    ]
    checks += [
        Check(
            f"angle to the gradient, first layer, {name}, degrees",
            "below 90 (Lillicrap et al. 2016)",
            float(measured[name][1][:, 0].mean()),
            high=settings.angle,
        )
        for name in ALIGNED
        if name in measured
    ]
    rows = [
        {
            "method": name,
            "accuracy": float(accuracies[:, -1].mean()),
            "standard deviation": float(accuracies[:, -1].std()),
            **{f"angle, layer {i}": float(x) for i, x in enumerate(angles.mean(0))},
        }
        for name, (accuracies, angles) in measured.items()
    ]
    return Outcome(tuple(checks), tuple(rows), {"figure": figure(measured)})


def split(test_share: float) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return the digits, from 0 to 1, for training and for the test."""
    x, y = load_digits(return_X_y=True)
    parts = train_test_split(
        x.astype(np.float32) / 16, y.astype(np.int32), test_size=test_share, random_state=0
    )
    x_train, x_test, y_train, y_test = map(jnp.asarray, parts)
    return x_train, y_train, x_test, y_test


def network_of(widths: tuple[int, ...]) -> nn.Layer:
    """Return dense layers with tanh between them."""
    hidden = [layer for width in widths for layer in (nn.dense(width), nn.tanh())]
    return nn.serial(*hidden, nn.dense(10))


def loss_of(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Return the mean cross-entropy."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, y))


def gradient_of(name: str, network: nn.Layer, feedback: Any, key: jax.Array, k: int) -> Gradient:
    """Return a method's gradient, a function of (step's key, params, x, y)."""
    loss = lambda params, x, y: loss_of(network.apply(params, x), y)
    if name == "DFA":
        direct = gallery.direct_feedback_alignment(network.apply, loss_of, key)
        return lambda _, params, x, y: direct(params, x, y)
    edits = {
        "BP": lambda _: fbp.RULES,
        "FA": lambda _: fbp.RULES | gallery.feedback_alignment(feedback),
        "uSF": lambda _: fbp.RULES | gallery.uniform_sign_feedback(),
        "frSF": lambda _: fbp.RULES | gallery.fixed_random_sign_feedback(feedback),
        "brSF": lambda key: fbp.RULES | gallery.batch_random_sign_feedback(key),
        "meProp": lambda _: fbp.RULES | gallery.meprop(k),
    }
    return lambda key, *args: fbp.grad(loss, rules=edits[name](key))(*args)


def train(
    name: str, settings: Settings, x: jax.Array, y: jax.Array, x_test: jax.Array, y_test: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """Return test accuracies [seed, epoch], and the angles [seed, layer] after the last."""
    network = network_of(settings.widths)
    tx = optax.sgd(settings.learning_rate, settings.momentum)
    batches = len(x) // settings.batch_size

    def one_seed(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        of_weights, of_feedback, of_batches = jax.random.split(key, 3)
        params, _ = network.init(of_weights, (-1, x.shape[1]))
        feedback, _ = network.init(of_feedback, (-1, x.shape[1]))
        gradient = gradient_of(name, network, feedback, of_feedback, settings.k)

        def step(state: tuple, batch: tuple) -> tuple:
            params, opt_state = state
            key, rows = batch
            grads = gradient(key, params, x[rows], y[rows])
            updates, opt_state = tx.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        def epoch(state: tuple, key: jax.Array) -> tuple:
            order = jax.random.permutation(key, len(x))[: batches * settings.batch_size]
            rows = order.reshape(batches, settings.batch_size)
            state, _ = jax.lax.scan(step, state, (jax.random.split(key, batches), rows))
            right = jnp.argmax(network.apply(state[0], x_test), axis=-1) == y_test
            return state, jnp.mean(right)

        keys = jax.random.split(of_batches, settings.epochs)
        (params, _), accuracies = jax.lax.scan(epoch, (params, tx.init(params)), keys)
        plain = gradient_of("BP", network, feedback, key, settings.k)(key, params, x, y)
        angles = gallery.angles(gradient(key, params, x, y), plain)
        kernels = [layer["kernel"] for layer in angles.values() if "kernel" in layer]
        return accuracies, jnp.stack(kernels)

    keys = jax.random.split(jax.random.key(0), settings.seeds)
    accuracies, angles = jax.jit(lambda keys: jax.lax.map(one_seed, keys))(keys)
    return np.asarray(accuracies), np.asarray(angles)


def figure(measured: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Draw accuracies by epoch, and angles by layer."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (name, (accuracies, angles)) in enumerate(measured.items()):
        epochs = np.arange(1, accuracies.shape[1] + 1)
        left.plot(epochs, accuracies.mean(0), color=f"C{i}", label=name)
        right.plot(np.arange(angles.shape[1]), angles.mean(0), "o-", color=f"C{i}", label=name)
    left.set(xlabel="epoch", ylabel="test accuracy", ylim=(0.85, 1))
    right.axhline(90, color="black", linewidth=0.8, linestyle=":")
    right.set(xlabel="layer", ylabel="angle to the gradient, degrees", ylim=(-3, 95))
    right.set_xticks(range(angles.shape[1]))
    left.legend(frameon=False, fontsize="small", ncols=2)
    return figure
