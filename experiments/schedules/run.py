"""Does a decaying learning rate do better than a constant one, and over a wider range of peaks?

Adam, with the rate at a share of its peak that changes over the steps:

- constant;
- cosine: from 1 down to 0 as half a cosine;
- warmup-stable-decay: up in the first 5 % of the steps, down in the last 20 %;
- one-cycle: up from 1/25 in the first 30 % of the steps, then down to nearly 0.

Source: Loshchilov and Hutter, SGDR (2017), arXiv 1608.03983, for the cosine; Smith and Topin,
Super-convergence (2018), arXiv 1708.07120, for one-cycle; Hu et al., MiniCPM (2024), arXiv
2404.06395, for warmup-stable-decay.
"""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.schedules.basin import decades_above
from experiments.schedules.shares import shares
from fbp.config import Train
from fbp.data import load
from fbp.laboratory import Check, Outcome
from fbp.nn import mlp
from fbp.report.statistics import Interval, bootstrap_interval
from fbp.train import evaluate, objective_of
from fbp.train.trials import train_trials

CONSTANT, COSINE, WSD, ONE_CYCLE = "constant", "cosine", "warmup-stable-decay", "one-cycle"
NAMES = (CONSTANT, COSINE, WSD, ONE_CYCLE)
Scores = Float[np.ndarray, "schedules rates seeds"]


@dataclass(frozen=True)
class Settings:
    """What is trained, for how long, and at which peaks.

    Attributes:
      data: the data set, a classification.
      examples: the first so many training rows are used.
      width: of the hidden layer.
      log10_rates: the lowest and the highest peak, as exponents.
      rates: peaks between them, evenly spread over the exponents.
      seeds: runs of each peak and schedule.
      steps, batch_size: of each run.
      within: a rate is good when its accuracy is this near to that of the best constant rate, as
        a share of it.
      least_gap: between the intervals of a decaying schedule's best peak and the best constant.
      at_once: trials side by side.
    """

    data: str
    examples: int
    width: int
    log10_rates: tuple[float, float]
    rates: int
    seeds: int
    steps: int
    batch_size: int
    within: float
    least_gap: float
    at_once: int


def shapes(steps: int) -> Float[np.ndarray, "schedules steps"]:
    """Return the rate of every step as a share of its peak, for each schedule."""
    plain = Train(steps, batch_size=1, evaluate_every=1)
    plans = {
        CONSTANT: plain,
        COSINE: replace(plain, schedule="cosine"),
        WSD: replace(plain, schedule="wsd", warmup_steps=steps // 20),
        ONE_CYCLE: replace(plain, schedule="one_cycle"),
    }
    return np.array([shares(plans[name]) for name in NAMES], np.float32)


def run(settings: Settings) -> Outcome:
    """Train every schedule at every peak, choose on validation, report on test."""
    rates = np.logspace(*settings.log10_rates, settings.rates)
    validation, test = _train(settings, rates)
    means = validation.mean(axis=-1)
    best = {name: int(np.argmax(means[i])) for i, name in enumerate(NAMES)}
    chosen = {name: (i, best[name]) for i, name in enumerate(NAMES)}
    intervals = {name: bootstrap_interval(validation[at]) for name, at in chosen.items()}
    bar = (1 - settings.within) * intervals[CONSTANT][0]
    widths = {name: decades_above(bar, rates, means[i]) for i, name in enumerate(NAMES)}
    rows = [
        {
            "schedule": name,
            "best peak": float(rates[best[name]]),
            "validation accuracy": _words(intervals[name]),
            "test accuracy": _words(bootstrap_interval(test[chosen[name]])),
            "good peaks, decades": widths[name],
            "within the same share of its own best": decades_above(
                (1 - settings.within) * intervals[name][0], rates, means[i]
            ),
        }
        for i, name in enumerate(NAMES)
    ]
    return Outcome(
        _checks(settings, intervals, widths),
        tuple(rows),
        {"figure": _figure(rates, validation, bar)},
    )


def _train(settings: Settings, rates: Float[np.ndarray, " rates"]) -> tuple[Scores, Scores]:
    dataset = load(settings.data)
    objective = objective_of(dataset)
    split = dataset.train
    training = jax.device_put((split.x[: settings.examples], split.y[: settings.examples]))
    network = mlp([settings.width, dataset.classes])
    table = jnp.asarray(shapes(settings.steps))
    grid = (len(NAMES), len(rates), settings.seeds)
    schedule, rate, seed = (index.ravel() for index in np.indices(grid))

    def adam(trial):
        return optax.adam(lambda step: trial["rate"] * table[trial["schedule"], step])

    _, params = train_trials(
        network,
        objective,
        adam,
        {
            "schedule": jnp.asarray(schedule),
            "rate": jnp.asarray(rates, jnp.float32)[rate],
            "seed": jnp.asarray(seed),
        },
        training,
        steps=settings.steps,
        batch_size=settings.batch_size,
        measure=lambda state: state.params,
        at_once=settings.at_once,
    )

    @partial(jax.jit, static_argnums=0)
    def accuracies(part):
        split = getattr(dataset, part)
        measure = partial(evaluate, network.apply, objective, x=split.x, y=split.y)
        return jax.lax.map(lambda each: measure(each)["accuracy"], params)

    validation, test = (
        np.asarray(accuracies(part), np.float64).reshape(grid) for part in ("validation", "test")
    )
    return validation, test


def _checks(settings, intervals, widths) -> tuple[Check, ...]:
    return tuple(
        check
        for name in (COSINE, WSD, ONE_CYCLE)
        for check in (
            Check(
                f"validation accuracy: lower bound of the best {name} - upper bound of the best "
                "constant",
                "decay does better",
                intervals[name][1] - intervals[CONSTANT][2],
                low=settings.least_gap,
            ),
            Check(
                f"decades of good peaks, {name} / constant",
                "decay widens the basin",
                widths[name] / widths[CONSTANT],
                low=1.0,
            ),
        )
    )


def _words(interval: Interval) -> str:
    mean, low, high = interval
    return f"{mean:.4f} ({low:.4f} to {high:.4f})"


def _figure(rates, validation: Scores, bar: float) -> Figure:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, scores, marker in zip(NAMES, validation, "osD^", strict=True):
        mean, low, high = np.array([bootstrap_interval(each) for each in scores]).T
        (line,) = axes.plot(rates, mean, marker=marker, markersize=4, label=name)
        axes.fill_between(rates, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.axhline(bar, color="black", linewidth=0.8, linestyle=":")
    axes.set(
        xscale="log",
        xlabel="peak learning rate",
        ylabel="validation accuracy",
        ylim=(bar - 0.12, np.max(validation) + 0.01),
    )
    axes.legend(frameon=False)
    return figure
