"""Does a search over the shapes of schedules find one that beats a tuned cosine?

A schedule is knots with straight lines between them: a thousand are drawn and trained as one
program, the best are varied and trained with their variants on other seeds, and so on. The last of
them are trained on more seeds, and the best of those is the shape. A cosine has its peak and its
warmup chosen by a grid on the same seeds. Choices are made on validation; both are then held
against each other on test and on seeds that chose nothing.

Source: Luo et al., A multi-power law for loss curve prediction across learning rate schedules
(2025), arXiv 2503.12811: of language models, a schedule that is optimized beats the cosine; it
resembles warmup-stable-decay.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.schedule_shapes.shape import (
    best_of,
    drawn_knots,
    through_knots,
    varied_knots,
    warm_cosine,
)
from fbp.data import Dataset, load
from fbp.laboratory import Check, Outcome
from fbp.nn import mlp
from fbp.report.statistics import Interval, bootstrap_interval
from fbp.train import evaluate, objective_of
from fbp.train.trials import train_trials

Rates = Float[np.ndarray, "candidates steps"]
Scores = Float[np.ndarray, "parts candidates seeds"]  # losses on validation and test


@dataclass(frozen=True)
class Settings:
    """What is trained, and how schedules are searched for.

    Attributes:
      data: the data set, a classification.
      width: of the hidden layer.
      steps, batch_size: of each run.
      knots: of a schedule.
      log2_peaks: the lowest and the highest peak, as exponents, of both searches.
      drawn: schedules drawn at first, one seed each.
      generations: how often the best are varied.
      parents: the best of a generation, which the next one begins with.
      variants: of each parent.
      generation_seeds: runs of each schedule of a generation.
      finalists: so many of the last generation are trained again.
      cosine_peaks: peaks of the cosine's grid, evenly spread over the exponents.
      warmups: of the cosine's grid, as shares of the steps.
      seeds: runs of each finalist and of each cosine.
      fresh_seeds: runs of the two that are chosen, on other seeds.
      measured: losses are those of the first so many validation and test rows.
      least_gain: of the difference's interval, the lower bound that is asked for.
    """

    data: str
    width: int
    steps: int
    batch_size: int
    knots: int
    log2_peaks: tuple[float, float]
    drawn: int
    generations: int
    parents: int
    variants: int
    generation_seeds: int
    finalists: int
    cosine_peaks: int
    warmups: tuple[float, ...]
    seeds: int
    fresh_seeds: int
    measured: int
    least_gain: float


def run(settings: Settings) -> Outcome:
    """Search for a shape, tune a cosine, and hold them against each other on fresh seeds."""
    losses_of = partial(_losses, settings, load(settings.data))
    finalists, runs, first = _searched(settings, losses_of)
    cosines = _cosines(settings)
    again, _ = losses_of(
        np.concatenate([finalists, cosines]), first_seed=first, seeds=settings.seeds
    )
    of_shape, of_cosine = np.split(again, [len(finalists)])
    shape, cosine = finalists[best_of(of_shape, 1)[0]], cosines[best_of(of_cosine, 1)[0]]
    _, fresh = losses_of(
        np.stack([shape, cosine]), first_seed=first + settings.seeds, seeds=settings.fresh_seeds
    )
    gain = bootstrap_interval(fresh[1] - fresh[0])
    rows = (
        _row("shape", _tried(settings), runs + of_shape.size, of_shape, fresh[0], shape),
        _row("cosine", len(cosines), of_cosine.size, of_cosine, fresh[1], cosine),
    )
    return Outcome(
        (_check(settings, gain),), rows, {"figure": _figure(finalists, shape, cosine, fresh)}
    )


def _searched(settings: Settings, losses_of: Callable[..., Scores]) -> tuple[Rates, int, int]:
    """Draw schedules and vary the best again and again; return the last, the runs it took, and the
    first seed that chose none of them."""
    lines = jax.vmap(partial(through_knots, steps=settings.steps))
    rates_of = lambda knots: np.asarray(lines(jnp.asarray(knots, jnp.float32)))
    knots = drawn_knots(0, settings.drawn, settings.knots, settings.log2_peaks)
    losses, _ = losses_of(rates_of(knots), first_seed=0, seeds=1)
    runs, first = losses.size, 1
    for generation in range(settings.generations):
        parents = knots[best_of(losses, settings.parents)]
        knots = np.concatenate([parents, varied_knots(generation, parents, settings.variants)])
        losses, _ = losses_of(rates_of(knots), first_seed=first, seeds=settings.generation_seeds)
        runs, first = runs + losses.size, first + settings.generation_seeds
    return rates_of(knots[best_of(losses, settings.finalists)]), runs, first


def _tried(settings: Settings) -> int:
    return settings.drawn + settings.generations * settings.parents * settings.variants


def _cosines(settings: Settings) -> Rates:
    peaks = 2.0 ** np.linspace(*settings.log2_peaks, settings.cosine_peaks)
    warmup, peak = (axis.ravel() for axis in np.meshgrid(settings.warmups, peaks))
    cosine = jax.vmap(partial(warm_cosine, steps=settings.steps))
    return np.asarray(cosine(jnp.asarray(warmup, jnp.float32), jnp.asarray(peak, jnp.float32)))


def _losses(
    settings: Settings, dataset: Dataset, rates: Rates, first_seed: int, seeds: int
) -> Scores:
    """Train every schedule on every seed, as one program; the losses on validation and test."""
    network, objective = mlp([settings.width, dataset.classes]), objective_of(dataset)
    parts = [
        jax.device_put((part.x[: settings.measured], part.y[: settings.measured]))
        for part in (dataset.validation, dataset.test)
    ]

    def measure(state):
        return jnp.stack(
            [evaluate(network.apply, objective, state.params, *part)["loss"] for part in parts]
        )

    grid = (len(rates), seeds)
    schedule, seed = (index.ravel() for index in np.indices(grid))
    _, losses = train_trials(
        network,
        objective,
        lambda trial: optax.adam(lambda step: trial["rates"][step]),
        {"rates": jnp.asarray(rates)[schedule], "seed": jnp.asarray(first_seed + seed)},
        jax.device_put((dataset.train.x, dataset.train.y)),
        steps=settings.steps,
        batch_size=settings.batch_size,
        measure=measure,
    )
    return np.asarray(losses, np.float64).T.reshape(len(parts), *grid)


def _check(settings: Settings, gain: Interval) -> Check:
    _, low, high = gain
    return Check(
        f"test loss on fresh seeds: cosine - shape, lower bound (upper {high:.4f})",
        "an optimized schedule beats the cosine (Luo et al. 2025, language models)",
        low,
        low=settings.least_gain,
    )


def _row(name, settings_tried, runs, chosen, losses, rates):
    return {
        "schedule": name,
        "settings tried": settings_tried,
        "runs that chose": runs,
        "validation loss that chose": float(np.nanmin(chosen.mean(axis=-1))),
        "test loss, fresh seeds": _words(bootstrap_interval(losses)),
        "peak": float(rates.max()),
        "step of the peak": int(rates.argmax()) + 1,
        "last rate / peak": float(rates[-1] / rates.max()),
    }


def _words(interval: Interval) -> str:
    mean, low, high = interval
    return f"{mean:.4f} ({low:.4f} to {high:.4f})"


def _figure(finalists: Rates, shape, cosine, fresh) -> Figure:
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(finalists.T, color="gray", alpha=0.2, linewidth=0.7)
    for rates, name in ((shape, "shape"), (cosine, "cosine")):
        left.plot(rates, linewidth=2, label=name)
    left.set(xlabel="step", ylabel="learning rate")
    left.legend(frameon=False)
    right.hist(fresh[1] - fresh[0], bins=20)
    right.axvline(0, color="black", linewidth=0.8)
    right.set(xlabel="test loss of a fresh seed: cosine - shape", ylabel="seeds")
    return figure
