"""Does the best learning rate stay where it is as a network grows wider?

In the standard parametrisation it falls with the width; in muP it stays, so that a rate tuned on
a narrow network can be used for a wide one.

Source: Yang et al., Tensor programs V: tuning large neural networks via zero-shot hyperparameter
transfer (2021), arXiv 2203.03466; the sensitivity to the rate is that of Wortsman et al.,
Small-scale proxies for large-scale transformer training instabilities (2023), arXiv 2309.14322.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.transfer.parametrization import (
    Parametrization,
    activations,
    maximal_update,
    standard,
)
from fbp.data import Dataset, load
from fbp.laboratory import Check, Outcome
from fbp.train import initial_state, objective_of
from fbp.train.batches import batch_indices
from fbp.train.objective import mean_loss
from fbp.train.scan_steps import Examples, scan_steps
from fbp.train.step import loss_and_grads_fn, make_update
from fbp.train.trials import train_trials

STANDARD, MUP = "standard", "muP"
Losses = Float[np.ndarray, " rates"]
Coordinates = dict[str, Float[np.ndarray, " times"]]


@dataclass(frozen=True)
class Settings:
    """The networks, the rates, and how long each is trained.

    Attributes:
      data: the data set.
      examples: the first so many training rows are used.
      widths: of the hidden layers, growing; the first is muP's base width.
      log2_rates: the rates' exponents: the first, and the one after the last.
      seeds: runs of each rate and width.
      steps, batch_size: of each run.
      last_steps: a run's loss is the mean over its last so many steps.
      least_standard_shift: octaves that the standard best rate has to move by.
      coordinate_steps: steps after which activations are compared.
      coordinate_log2_rate: at this rate.
      coordinate_seeds: networks over which they are averaged.
      at_once: trials side by side.
    """

    data: str
    examples: int
    widths: tuple[int, ...]
    log2_rates: tuple[int, int]
    seeds: int
    steps: int
    batch_size: int
    last_steps: int
    least_standard_shift: float
    coordinate_steps: int
    coordinate_log2_rate: int
    coordinate_seeds: int
    at_once: int


def run(settings: Settings) -> Outcome:
    """Train every width at every rate in both parametrizations."""
    dataset = load(settings.data)
    methods: dict[str, Callable[[int], Parametrization]] = {
        STANDARD: lambda width: standard(width, dataset.classes),
        MUP: lambda width: maximal_update(width, dataset.classes, settings.widths[0]),
    }
    curves = {
        (name, width): _curve(settings, dataset, method(width))
        for name, method in methods.items()
        for width in settings.widths
    }
    coordinates = {
        (name, width): _coordinates(settings, dataset, method(width))
        for name, method in methods.items()
        for width in settings.widths
    }
    exponents = np.arange(*settings.log2_rates)
    best = {key: int(exponents[np.argmin(losses)]) for key, losses in curves.items()}
    sensitivity = {key: _sensitivity(losses) for key, losses in curves.items()}
    rows = [
        {
            "width": width,
            **{f"log2 of best rate, {name}": best[name, width] for name in methods},
            **{f"sensitivity, {name}": sensitivity[name, width] for name in methods},
            **{f"best loss, {name}": float(np.min(curves[name, width])) for name in methods},
            **{
                f"change of {layer}, {name}": float(coordinates[name, width][layer][-1])
                for layer in ("second", "outputs")
                for name in methods
            },
        }
        for width in settings.widths
    ]
    return Outcome(
        _checks(settings, best, sensitivity, coordinates),
        tuple(rows),
        {
            "figure": _curves_figure(settings, exponents, curves),
            "coordinates": _coordinates_figure(settings, coordinates),
        },
    )


def _training(settings: Settings, dataset: Dataset) -> Examples:
    """Rows whose pixels have mean 0 and variance 1 over all of them."""
    x, y = dataset.train.x[: settings.examples], dataset.train.y[: settings.examples]
    return jax.device_put(((x - np.mean(x)) / np.std(x), y))


def _curve(settings: Settings, dataset: Dataset, way: Parametrization) -> Losses:
    """For each rate, the loss at the end; the start's where it is larger, or not finite."""
    exponents = np.arange(*settings.log2_rates)
    seeds, powers = np.meshgrid(np.arange(settings.seeds), exponents)
    losses, _ = train_trials(
        way.network,
        objective_of(dataset),
        lambda trial: way.adam(trial["rate"]),
        {"seed": jnp.asarray(seeds.ravel()), "rate": jnp.asarray(2.0 ** powers.ravel())},
        _training(settings, dataset),
        steps=settings.steps,
        batch_size=settings.batch_size,
        measure=lambda state: state.step,
        at_once=settings.at_once,
    )
    losses = np.asarray(losses, np.float64).reshape(len(exponents), settings.seeds, -1)
    last = np.mean(losses[..., -settings.last_steps :], axis=-1)
    first = np.mean(losses[..., 0])
    return np.mean(np.where(last < first, last, first), axis=-1)


def _sensitivity(losses: Losses) -> float:
    """How much worse than the best a rate drawn from the grid is, in nats (Wortsman et al.)."""
    return float(np.mean(losses) - np.min(losses))


def _coordinates(settings: Settings, dataset: Dataset, way: Parametrization) -> Coordinates:
    """Mean absolute change of each layer's activations since the start, after each step."""
    training = _training(settings, dataset)
    probe = training[0][: settings.batch_size]
    loss_and_grads = loss_and_grads_fn(mean_loss(way.network.apply, objective_of(dataset)))
    tx = way.adam(2.0**settings.coordinate_log2_rate)
    update = make_update(loss_and_grads, tx)

    def one(seed):
        init_key, order_key, step_key = jax.random.split(jax.random.key(seed), 3)
        params, _ = way.network.init(init_key, probe.shape)
        state = initial_state(params, tx, step_key)
        steps, batch_size = settings.coordinate_steps, settings.batch_size
        order = batch_indices(order_key, 0, steps, len(training[0]), batch_size)
        start = activations(params, probe)

        def watched(state, batch):
            state, _ = update(state, batch)
            now = activations(state.params, probe)
            return state, {name: jnp.mean(jnp.abs(now[name] - start[name])) for name in now}

        return scan_steps(watched, state, training, order)[1]

    every = jax.jit(lambda seeds: jax.lax.map(one, seeds))(jnp.arange(settings.coordinate_seeds))
    return {name: np.mean(np.asarray(size), axis=0) for name, size in every.items()}


def _checks(settings, best, sensitivity, coordinates) -> tuple[Check, ...]:
    widths = settings.widths

    def moved(name):
        exponents = [best[name, width] for width in widths]
        return float(max(exponents) - min(exponents))

    def growth(name, layer):
        sizes = [coordinates[name, width][layer][-1] for width in widths]
        return float(np.polyfit(np.log2(widths), np.log2(sizes), 1)[0])

    def fastest(name):
        return max(growth(name, layer) for layer in ("second", "outputs"))

    narrow, wide = sensitivity[MUP, widths[0]], sensitivity[MUP, widths[-1]]
    steps = settings.coordinate_steps
    after = f"growth of the change in {steps} steps, fastest layer, octaves per octave of width"
    return (
        Check(
            "shift of the best rate over the widths, muP, octaves",
            "stays (Yang et al. 2021)",
            moved(MUP),
            high=1.0,
        ),
        Check(
            "shift of the best rate over the widths, standard, octaves",
            "falls (Yang et al. 2021)",
            moved(STANDARD),
            low=settings.least_standard_shift,
        ),
        Check(
            "sensitivity to the rate, muP, widest / narrowest",
            "falls (Wortsman et al. 2023)",
            wide / narrow,
            high=1.0,
        ),
        Check(f"{after}, muP", "0 (Yang et al. 2021)", fastest(MUP), -0.15, 0.15),
        Check(f"{after}, standard", "grows (Yang et al. 2021)", fastest(STANDARD), low=0.3),
    )


def _curves_figure(settings: Settings, exponents, curves) -> Figure:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    colors = _colors(len(settings.widths))
    for axes, name in zip(panels, (STANDARD, MUP), strict=True):
        for width, color in zip(settings.widths, colors, strict=True):
            losses = curves[name, width]
            at = int(np.argmin(losses))
            axes.plot(exponents, losses, color=color, label=f"{width}")
            axes.plot(exponents[at], losses[at], "o", color=color, markersize=5)
        axes.set_title(f"{name} parametrisation" if name == STANDARD else name, fontsize="medium")
        axes.set_xlabel("log2 of the learning rate")
    panels[0].set_ylabel("training loss at the end, nats")
    panels[1].legend(title="width", frameon=False, fontsize="small")
    return figure


def _coordinates_figure(settings: Settings, coordinates) -> Figure:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    times = range(settings.coordinate_steps)
    colors = _colors(len(times))
    for axes, name in zip(panels, (STANDARD, MUP), strict=True):
        for time, color in zip(times, colors, strict=True):
            sizes = [coordinates[name, width]["outputs"][time] for width in settings.widths]
            axes.plot(settings.widths, sizes, "o-", markersize=3, color=color, label=f"{time + 1}")
        axes.set(xscale="log", yscale="log", xlabel="width", xticks=settings.widths)
        axes.set_xticks(settings.widths, [str(width) for width in settings.widths])
        axes.xaxis.minorticks_off()
        axes.set_title(f"{name} parametrisation" if name == STANDARD else name, fontsize="medium")
    panels[0].set_ylabel("mean absolute change of an output")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        title="after step",
        loc="outside right center",
        frameon=False,
        fontsize="small",
    )
    return figure


def _colors(number: int):
    return matplotlib.colormaps["viridis"](np.linspace(0, 0.85, number))
