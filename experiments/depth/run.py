"""Which learning rate still trains a deep network, and how deep may it be?

Networks of 1 to 64 hidden layers, plain, with layer normalisation, with residual connections, and
with both, are trained at every rate. Beside them the gradient of wide random networks, layer by
layer, is held against what mean-field theory predicts: a factor chi a layer, below one where it
vanishes, above one where it explodes.

Sources: He et al., Deep residual learning for image recognition (2016), arXiv 1512.03385, for what
residual connections do; Schoenholz et al., Deep information propagation (2017), arXiv 1611.01232,
and Poole et al. (2016), arXiv 1606.05340, for chi; Glorot and Bengio (2010) for vanishing
gradients.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float64
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.depth import signal
from experiments.depth.networks import network
from fbp.data import Dataset, load
from fbp.laboratory import Check, Outcome
from fbp.laboratory.experiment import Cell
from fbp.train import evaluate, objective_of
from fbp.train.objective import mean_loss
from fbp.train.trials import train_trials

TOLERANCE = 0.03
BEST_OF_ALL = "residual, normalised"
Signal = tuple[str, float]


@dataclass(frozen=True)
class Settings:
    """The networks, the rates, and the random networks whose gradient is measured.

    Attributes:
      dataset: of images, for `fbp.data.load`.
      kinds: of plain; normalised; residual; residual, normalised.
      depths: numbers of hidden blocks, ascending.
      width: units of a hidden layer.
      learning_rates: of plain stochastic gradient descent, ascending.
      seeds: runs at each rate, of 0, 1, ...
      steps, batch_size: of each run.
      trained: the validation accuracy that counts as trained.
      gains: for each activation the variances of the weights, times the inputs.
      signal_depth, signal_width, signal_seeds: of the random networks.
    """

    dataset: str
    kinds: tuple[str, ...]
    depths: tuple[int, ...]
    width: int
    learning_rates: tuple[float, ...]
    seeds: int
    steps: int
    batch_size: int
    trained: float
    gains: Mapping[str, tuple[float, ...]]
    signal_depth: int
    signal_width: int
    signal_seeds: int


class Trained(NamedTuple):
    """Mean accuracy by rate; a first network, and what training at the best rate made of it."""

    accuracies: Float64[np.ndarray, " rates"]
    before: Any
    after: Any


def run(settings: Settings) -> Outcome:
    """Measure the gradients of random networks, then train networks of every kind and depth."""
    signals = {
        (name, gain): (
            signal.measured(
                name,
                gain,
                settings.signal_depth,
                settings.signal_width,
                settings.signal_seeds,
            ),
            signal.predicted(name, gain, settings.signal_depth),
        )
        for name, gains in settings.gains.items()
        for gain in gains
    }
    dataset = load(settings.dataset)
    trained = {
        kind: [_train(dataset, kind, depth, settings) for depth in settings.depths]
        for kind in settings.kinds
    }
    gradients = {
        kind: _gradients(dataset, kind, trained[kind][-1], settings) for kind in settings.kinds
    }
    deepest = {kind: _deepest(trained[kind], settings) for kind in settings.kinds}
    checks = [*_signal_checks(signals), *_depth_checks(deepest, settings)]
    rows = tuple(_rows(trained, settings))
    figures = {
        "figure": _accuracy_figure(trained, settings),
        "gradients": _gradient_figure(signals, gradients, settings),
    }
    return Outcome(tuple(checks), rows, figures)


def _train(dataset: Dataset, kind: str, depth: int, settings: Settings) -> Trained:
    """One kind of network of one depth at every rate."""
    objective = objective_of(dataset)
    layers = network(kind, settings.width, depth, objective.outputs)
    train, validation = (
        jax.device_put((split.x, split.y)) for split in (dataset.train, dataset.validation)
    )
    rates, seeds = len(settings.learning_rates), settings.seeds
    trials = {
        "seed": jnp.tile(jnp.arange(seeds), rates),
        "learning_rate": jnp.repeat(jnp.asarray(settings.learning_rates), seeds),
    }
    _, params = train_trials(
        layers,
        objective,
        lambda trial: optax.sgd(trial["learning_rate"]),
        trials,
        train,
        steps=settings.steps,
        batch_size=settings.batch_size,
        measure=lambda state: state.params,
        at_once=rates * seeds,
    )
    measure = jax.jit(jax.vmap(partial(evaluate, layers.apply, objective), (0, None, None)))
    measures = measure(params, *validation)
    accuracies = np.asarray(measures["accuracy"], np.float64).reshape(rates, seeds).mean(axis=1)
    init_key, _, _ = jax.random.split(jax.random.key(0), 3)
    first, _ = layers.init(init_key, (settings.batch_size, *dataset.feature_shape))
    last = jax.tree.map(lambda leaf: leaf[accuracies.argmax() * seeds], params)
    return Trained(accuracies, first, last)


def _gradients(
    dataset: Dataset, kind: str, trained: Trained, settings: Settings
) -> tuple[Float64[np.ndarray, " depth"], Float64[np.ndarray, " depth"]]:
    """Return the norm of the gradient of each block's weights, before training and after."""
    objective = objective_of(dataset)
    layers = network(kind, settings.width, settings.depths[-1], objective.outputs)
    loss_fn = mean_loss(layers.apply, objective)
    x, y = jax.device_put((dataset.train.x, dataset.train.y))

    @jax.jit
    def norms(params: Any, x: Array, y: Array) -> Array:
        of = signal.layer_norms(lambda p: loss_fn(p, (x, y), jax.random.key(0)), params)
        return of["dense"]["kernel"]

    before, after = (norms(params, x, y) for params in (trained.before, trained.after))
    return np.asarray(before, np.float64), np.asarray(after, np.float64)


def _deepest(trained: list[Trained], settings: Settings) -> int:
    """Return the greatest depth at which some rate trains; 0 if none does."""
    reach = [max(of.accuracies) >= settings.trained for of in trained]
    return max((d for d, r in zip(settings.depths, reach, strict=True) if r), default=0)


def _signal_checks(signals: Mapping[Signal, tuple]) -> Iterator[Check]:
    for (name, gain), (measured, predicted) in signals.items():
        factor, expected = (float(of[0] ** (1 / (len(of) - 1))) for of in (measured, predicted))
        yield Check(
            f"factor of the squared gradient a layer, {name}, gain {gain:g}",
            f"{expected:.4g} (mean-field theory)",
            factor,
            expected * (1 - TOLERANCE),
            expected * (1 + TOLERANCE),
        )


def _depth_checks(deepest: Mapping[str, int], settings: Settings) -> Iterator[Check]:
    most = settings.depths[-1]
    below = f"less than {most}: plain networks fail beyond some depth (He et al. 2016)"
    yield Check("deepest that trains, plain", below, deepest["plain"], high=most - 1)
    yield Check(f"deepest that trains, {BEST_OF_ALL}", str(most), deepest[BEST_OF_ALL], low=most)


def _rows(trained: Mapping[str, list[Trained]], settings: Settings) -> Iterator[dict[str, Cell]]:
    for kind, of_kind in trained.items():
        for depth, of in zip(settings.depths, of_kind, strict=True):
            good = [
                rate
                for rate, accuracy in zip(settings.learning_rates, of.accuracies, strict=True)
                if accuracy >= settings.trained
            ]
            yield {
                "network": kind,
                "depth": depth,
                "best rate": settings.learning_rates[int(of.accuracies.argmax())],
                "its accuracy": f"{of.accuracies.max():.3f}",
                "rates that train": f"{min(good):g} to {max(good):g}" if good else "none",
            }


def _accuracy_figure(trained: Mapping[str, list[Trained]], settings: Settings) -> Figure:
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    columns = 2
    panels = figure.subplots(-(-len(trained) // columns), columns, squeeze=False)
    for axes, (kind, of_kind) in zip(panels.flat, trained.items(), strict=False):
        accuracies = np.array([of.accuracies for of in of_kind])
        axes.imshow(accuracies, vmin=0, vmax=1, cmap="viridis", aspect="auto", origin="lower")
        for (row, column), accuracy in np.ndenumerate(accuracies):
            if accuracy >= settings.trained:
                axes.plot(column, row, "k.", markersize=4)
        axes.set_title(kind, fontsize=10)
        axes.set_xticks(range(len(settings.learning_rates)), _ticks(settings.learning_rates))
        axes.set_yticks(range(len(settings.depths)), [str(d) for d in settings.depths])
    for axes in panels[-1]:
        axes.set_xlabel("learning rate (SGD)")
    for axes in panels[:, 0]:
        axes.set_ylabel("hidden layers")
    label = f"validation accuracy (dot: {settings.trained:.0%} or more)"
    figure.colorbar(panels.flat[0].images[0], ax=panels, label=label)
    return figure


def _ticks(rates: tuple[float, ...]) -> list[str]:
    """Label the powers of ten, and leave the others blank."""
    is_power_of_ten = [abs(np.log10(rate) - round(np.log10(rate))) < 1e-6 for rate in rates]
    return [
        f"$10^{{{round(np.log10(rate))}}}$" if w else ""
        for rate, w in zip(rates, is_power_of_ten, strict=True)
    ]


def _gradient_figure(
    signals: Mapping[Signal, tuple], gradients: Mapping[str, tuple], settings: Settings
) -> Figure:
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    random, deep = figure.subplots(2, 1)
    for number, ((name, gain), (measured, predicted)) in enumerate(signals.items()):
        layers, color = np.arange(1, len(measured) + 1), f"C{number}"
        random.plot(layers, measured, "os^vDP"[number % 6], color=color, markersize=3)
        random.plot(layers, predicted, color=color, label=f"{name}, gain {gain:g}")
    random.xaxis.set_major_locator(MaxNLocator(integer=True))
    random.set(
        ylabel="squared gradient / that of the last layer", xlabel="layer (of random networks)"
    )
    for number, (kind, (before, after)) in enumerate(gradients.items()):
        layers, color = np.arange(1, len(before) + 1), f"C{number}"
        deep.plot(layers, before, color=color, linestyle="--", label=f"{kind}, before")
        deep.plot(layers, after, color=color, label="after training")
    deep.set(
        xlabel=f"layer (of networks of {settings.depths[-1]} layers)",
        ylabel="gradient norm of the weights",
    )
    for axes in (random, deep):
        axes.set(yscale="log")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
