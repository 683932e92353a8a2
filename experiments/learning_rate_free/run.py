"""How far behind a tuned optimizer are those that have no learning rate to tune?

Every learning-rate-free optimizer of optax.contrib with its defaults, beside Adam (constant and
cosine) and SGD with momentum, whose rates are chosen on validation, on several small workloads.
Time is counted in steps to a validation accuracy near the best tuned optimizer's.

Source: Kasimbeg et al., How far away are truly hyperparameter-free learning algorithms? (2025),
arXiv 2505.24005; the score and its profile are those of Dahl et al., Benchmarking neural network
training algorithms (2023), arXiv 2306.07179.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.learning_rate_free.methods import LEARNING_RATE_FREE, TUNED, Make, evaluated
from experiments.learning_rate_free.profiles import (
    fastest_of_studies,
    performance_profile,
    profile_score,
)
from fbp.data import load
from fbp.laboratory import Check, Outcome
from fbp.nn import mlp
from fbp.train import evaluate, objective_of
from fbp.train.trials import train_trials

Times = Float[np.ndarray, "methods workloads"]

TICKS = (0, 2, 4, 6, 8, 10, 20, 50, 90)


@dataclass(frozen=True)
class Workload:
    """A network and its training.

    Attributes:
      data: the data set, a classification.
      examples: the first so many training rows are used.
      width: of the hidden layer.
      steps, batch_size: of each run.
    """

    data: str
    examples: int
    width: int
    steps: int
    batch_size: int


@dataclass(frozen=True)
class Settings:
    """The workloads, and how tuned optimizers are tuned.

    Attributes:
      workloads: what is trained.
      methods: the learning-rate-free optimizers to compare; all where none is named.
      log10_adam, log10_sgd: lowest and highest rate tried, as exponents.
      rates: rates tried, evenly spread over the exponents.
      seeds: runs of each method and rate.
      times: measurements of a run.
      measured: the first so many validation and test rows are measured.
      target: share of the best tuned optimizer's validation accuracy that is to be reached.
      at_once: runs side by side.
    """

    workloads: tuple[Workload, ...]
    log10_adam: tuple[float, float]
    log10_sgd: tuple[float, float]
    rates: int
    seeds: int
    times: int
    measured: int
    target: float
    at_once: int
    methods: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A method on a workload, at its best rate: accuracies of each seed and time."""

    validation: Float[np.ndarray, "seeds times"]
    test: Float[np.ndarray, "seeds times"]
    rate: float | None

    @property
    def chosen_by(self) -> float:
        """Validation accuracy at the end, mean over the seeds."""
        return float(np.mean(self.validation[:, -1]))

    @property
    def reported(self) -> float:
        """Test accuracy at the end, mean over the seeds."""
        return float(np.mean(self.test[:, -1]))


def run(settings: Settings) -> Outcome:
    """Train every method on every workload."""
    free = settings.methods or tuple(LEARNING_RATE_FREE)
    makes = {name: LEARNING_RATE_FREE[name] for name in free} | TUNED
    workloads = settings.workloads
    runs = {
        (name, workload): _train(settings, workload, name, make)
        for workload in workloads
        for name, make in makes.items()
    }
    tuned = {
        w: max((runs[name, w] for name in TUNED), key=lambda run: run.chosen_by) for w in workloads
    }
    gaps = {name: [tuned[w].reported - runs[name, w].reported for w in workloads] for name in makes}
    times = np.array(
        [
            [_steps_to(settings.target * tuned[w].chosen_by, w, runs[name, w]) for w in workloads]
            for name in makes
        ]
    )
    scores = dict(zip(makes, profile_score(times), strict=True))
    order = sorted(makes, key=lambda name: np.mean(gaps[name]))
    rows = [
        {
            "method": name,
            **{f"test accuracy, {w.data}": runs[name, w].reported for w in workloads},
            **{f"rate, {w.data}": runs[name, w].rate for w in workloads},
            "behind the best tuned, mean": float(np.mean(gaps[name])),
            "AlgoPerf-style score": float(scores[name]),
        }
        for name in order
    ]
    return Outcome(
        _checks(runs, gaps, free, workloads),
        tuple(rows),
        {
            "figure": _gaps_figure(gaps, order, workloads),
            "profile": _profile_figure(times, list(makes), scores),
        },
    )


def _train(settings: Settings, workload: Workload, name: str, make: Make) -> Run:
    dataset = load(workload.data)
    objective, network = objective_of(dataset), mlp([workload.width, dataset.classes])
    train, validation, test = (
        jax.device_put((split.x[:rows], split.y[:rows]))
        for split, rows in (
            (dataset.train, workload.examples),
            (dataset.validation, settings.measured),
            (dataset.test, settings.measured),
        )
    )

    def accuracies(state):
        params = evaluated(name, state)
        measure = lambda part: evaluate(network.apply, objective, params, *part)["accuracy"]
        return measure(validation), measure(test)

    rates = _rates(settings, name)
    rate, seed = (index.ravel() for index in np.indices((len(rates), settings.seeds)))
    _, results = train_trials(
        network,
        objective,
        lambda trial: make(trial, workload.steps),
        {"rate": jnp.asarray(rates, jnp.float32)[rate], "seed": jnp.asarray(seed)},
        train,
        steps=workload.steps,
        batch_size=workload.batch_size,
        measure=accuracies,
        measure_every=workload.steps // settings.times,
        at_once=settings.at_once,
    )
    grid = (len(rates), settings.seeds, settings.times)
    on_validation, on_test = (np.asarray(each, np.float64).reshape(grid) for each in results)
    best = int(np.argmax(on_validation[..., -1].mean(axis=1)))
    return Run(on_validation[best], on_test[best], float(rates[best]) if name in TUNED else None)


def _rates(settings: Settings, name: str) -> Float[np.ndarray, " rates"]:
    if name not in TUNED:
        return np.ones(1)
    exponents = settings.log10_adam if name.startswith("adam") else settings.log10_sgd
    return np.logspace(*exponents, settings.rates)


def _steps_to(target: float, workload: Workload, run: Run) -> float:
    """Return the steps to the target, median over the seeds; infinite where it is missed."""
    seeds, times = run.validation.shape
    steps = workload.steps // times * np.arange(1, times + 1)
    reached = np.where(run.validation >= target, steps, np.inf).min(axis=1)
    return fastest_of_studies(reached.reshape(seeds, 1))


def _checks(runs, gaps, free, workloads) -> tuple[Check, ...]:
    chosen = max(free, key=lambda name: np.mean([runs[name, w].chosen_by for w in workloads]))
    return (
        Check(
            "test accuracy: best tuned - learning-rate-free, median of the methods",
            "lags (Kasimbeg et al. 2025)",
            float(np.median([np.mean(gaps[name]) for name in free])),
            low=0.0,
        ),
        Check(
            f"test accuracy: best tuned - the best learning-rate-free on validation ({chosen})",
            "slightly (Kasimbeg et al. 2025)",
            float(np.mean(gaps[chosen])),
            -0.02,
            0.02,
        ),
    )


def _gaps_figure(gaps, order, workloads) -> Figure:
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    positions = np.arange(len(order))
    for i, (workload, marker) in enumerate(zip(workloads, "osD^v", strict=False)):
        points = [100 * gaps[name][i] for name in order]
        axes.plot(points, positions, marker, markersize=5, label=workload.data)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(positions, order)
    for label, name in zip(axes.get_yticklabels(), order, strict=True):
        label.set_fontweight("bold" if name in TUNED else "normal")
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(-2, 110)
    axes.set_xticks(TICKS, [str(tick) for tick in TICKS])
    axes.grid(axis="x", alpha=0.3)
    axes.set(xlabel="test accuracy behind the best tuned optimizer, points")
    axes.legend(frameon=False)
    return figure


def _profile_figure(times: Times, names, scores) -> Figure:
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    taus = np.linspace(1, 4, 301)
    shares = performance_profile(times, taus)
    order = sorted(range(len(names)), key=lambda i: -scores[names[i]])
    image = axes.imshow(
        shares[order],
        aspect="auto",
        extent=(1, 4, len(names) - 0.5, -0.5),
        cmap="Blues",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    axes.set_yticks(range(len(names)), [f"{names[i]}  {scores[names[i]]:.2f}" for i in order])
    axes.set(xlabel="steps to the target / those of the fastest method")
    figure.colorbar(image, label="share of workloads")
    return figure
