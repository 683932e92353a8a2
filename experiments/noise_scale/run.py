"""Does the noise of the gradient tell beyond which batch size more examples stop helping?

Small batches need the fewest examples to reach a loss, large ones the fewest steps. In between lies
the critical batch size, which needs twice the least of both. It is measured by training with plain
gradient descent to one loss with many batch sizes, each at its own best rate, and predicted by the
gradient noise scale that `fbp.train.recorder` measures along one training with large batches.

Source: McCandlish et al., An empirical model of large-batch training (2018), arXiv 1812.06162.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments.noise_scale.batch_sizes import (
    Hyperbola,
    fit_hyperbola,
    steps_to,
    trace_and_square,
)
from fbp.data import Dataset, load
from fbp.laboratory import Check, Outcome
from fbp.nn import Layer, mlp
from fbp.recording import Recording
from fbp.train import evaluate, objective_of, train
from fbp.train.recorder import Recorder
from fbp.train.trials import train_trials


@dataclass(frozen=True)
class Settings:
    """What is trained, to which loss, with which batches, and what is recorded.

    Attributes:
      data: the data set, a classification.
      width: of the hidden layer.
      target: the training loss that is to be reached.
      batch_sizes: those that are compared, growing.
      log2_rates: the lowest and the highest rate, as exponents.
      rates: rates tried with each size, evenly spread over the exponents.
      seeds: runs of each rate and size.
      most_steps: of a run with very large batches; those with batches of B have
        1 + `reference` / B times as many.
      reference: see `most_steps`.
      times: measurements of a run.
      measured: the loss is that of the first so many training rows.
      recorded_batch_size: of the runs whose noise is recorded.
      records: steps that are recorded, evenly spread until the target.
      factor: what the prediction may be wrong by.
      at_once: trials side by side.
    """

    data: str
    width: int
    target: float
    batch_sizes: tuple[int, ...]
    log2_rates: tuple[float, float]
    rates: int
    seeds: int
    most_steps: int
    reference: int
    times: int
    measured: int
    recorded_batch_size: int
    records: int
    factor: float
    at_once: int


@dataclass(frozen=True)
class Fastest:
    """The rate with the fewest steps to the target, and these steps, mean over the seeds."""

    log2_rate: float
    steps: float
    at_an_edge: bool


def run(settings: Settings) -> Outcome:
    """Measure the critical batch size, and predict it from the noise."""
    dataset = load(settings.data)
    network = mlp([settings.width, dataset.classes])
    fastest = {size: _fastest(settings, dataset, network, size) for size in settings.batch_sizes}
    sizes = np.array(settings.batch_sizes)
    steps = np.array([fastest[size].steps for size in settings.batch_sizes])
    fitted = fit_hyperbola(sizes, steps)
    at, noise = _noise(settings, dataset, network, fastest[settings.batch_sizes[-1]])
    predicted = float(np.mean(noise))
    rows = [
        {
            "batch size": size,
            "log2 of the best rate": each.log2_rate,
            "at an edge of the rates": "yes" if each.at_an_edge else "no",
            "steps to the target": each.steps,
            "examples": each.steps * size,
            "steps, fitted": float(fitted.steps(np.array([size]))[0]),
        }
        for size, each in fastest.items()
    ]
    return Outcome(
        _checks(settings, fitted, predicted),
        tuple(rows),
        {"figure": _figure(settings, fastest, fitted, at, noise)},
    )


def _steps(settings: Settings, size: int) -> int:
    """Return the steps of a run, which `times` divides."""
    most = settings.most_steps * (1 + settings.reference / size)
    return settings.times * int(np.ceil(most / settings.times))


def _fastest(settings: Settings, dataset: Dataset, network: Layer, size: int) -> Fastest:
    """Train with every rate; return the one with the fewest steps to the target."""
    objective, training = objective_of(dataset), (dataset.train.x, dataset.train.y)
    measured = jax.device_put(tuple(part[: settings.measured] for part in training))
    exponents = np.linspace(*settings.log2_rates, settings.rates)
    rate, seed = (i.ravel() for i in np.indices((settings.rates, settings.seeds)))
    steps = _steps(settings, size)
    every = steps // settings.times
    _, losses = train_trials(
        network,
        objective,
        lambda trial: optax.sgd(trial["rate"]),
        {"rate": jnp.asarray(2.0**exponents, jnp.float32)[rate], "seed": jnp.asarray(seed)},
        jax.device_put(training),
        steps=steps,
        batch_size=size,
        measure=lambda state: evaluate(network.apply, objective, state.params, *measured)["loss"],
        measure_every=every,
        at_once=settings.at_once,
    )
    losses = np.asarray(losses, np.float64).reshape(settings.rates, settings.seeds, -1)
    times = every * np.arange(1, settings.times + 1)
    reached = steps_to(settings.target, times, losses).mean(axis=1)
    best = int(np.argmin(reached))
    edge = best in (0, settings.rates - 1)
    return Fastest(float(exponents[best]), float(reached[best]), edge)


def _noise(
    settings: Settings, dataset: Dataset, network: Layer, fastest: Fastest
) -> tuple[Float[np.ndarray, " records"], Float[np.ndarray, " records"]]:
    """Record trainings with large batches until the target; return steps, and the noise scale.

    The noise scale is that of the whole gradient, from the means over the seeds.
    """
    every = max(round(fastest.steps / settings.records), 1)
    recordings = [
        train(
            network,
            dataset,
            optax.sgd(2.0**fastest.log2_rate),
            key=jax.random.key(seed),
            steps=every * max(round(fastest.steps / every), 1),
            batch_size=settings.recorded_batch_size,
            evaluate_every=every,
            record=Recorder(noise_scale=True, last=0),
            progress=False,
        ).recording
        for seed in range(settings.seeds)
    ]
    parts = [_whole(recording, settings.recorded_batch_size) for recording in recordings]
    trace, square = np.mean(parts, axis=0)
    return np.asarray(recordings[0].steps), trace / square


def _whole(recording: Recording, batch_size: int) -> Float[np.ndarray, "2 records"]:
    """Return tr(S) and |G|^2 of the whole gradient: the sums of those of the parameters."""
    norms, scales = (recording.measures[name] for name in ("gradient_norm", "noise_scale"))
    return np.sum(
        [trace_and_square(norms[layer], scales[layer], batch_size) for layer in norms], axis=0
    )


def _checks(settings: Settings, fitted: Hyperbola, predicted: float) -> tuple[Check, ...]:
    return (
        Check(
            f"critical batch size ({fitted.critical:.3g}) / noise scale ({predicted:.3g})",
            "about 1 (McCandlish et al. 2018)",
            fitted.critical / predicted,
            1 / settings.factor,
            settings.factor,
        ),
    )


def _figure(
    settings: Settings, fastest: Mapping[int, Fastest], fitted: Hyperbola, at, noise
) -> Figure:
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    sizes = np.array([*fastest])
    steps = np.array([each.steps for each in fastest.values()])
    fine = np.geomspace(sizes[0], sizes[-1], 100)
    left.plot(steps, steps * sizes, "o")
    left.plot(fitted.steps(fine), fitted.steps(fine) * fine, "-", color="black", linewidth=0.8)
    for size, step in zip(sizes, steps, strict=True):
        left.annotate(f"  {size}", (step, step * size), fontsize=7)
    left.set(
        xscale="log",
        yscale="log",
        xlabel=f"steps to a loss of {settings.target:g}",
        ylabel="examples",
    )
    left.xaxis.set_minor_formatter(NullFormatter())
    left.set_xticks(steps, [f"{step:.0f}" for step in steps])
    right.plot(at, noise, "o-", markersize=3, label="noise scale")
    right.axhline(fitted.critical, color="black", linewidth=0.8, label="critical batch size")
    right.axhline(np.mean(noise), linestyle=":", label="mean of the noise scale")
    right.set(xlabel="step", ylabel="batch size", yscale="log")
    right.legend(frameon=False, fontsize=7)
    return figure
