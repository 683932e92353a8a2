"""Does a range test of a few hundred steps find the learning rate that a sweep finds?

One short run with a growing rate, and the rate that each of the common tools reads off its
curve, beside the rate that does best when every rate is trained in full.

Source: Smith, Cyclical learning rates for training neural networks (2017), arXiv 1506.01186; the
rules are those of torch-lr-finder, Lightning and fastai, see fbp/train/range_test.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float
from matplotlib.figure import Figure

from fbp.data import Dataset, load
from fbp.laboratory import Check, Outcome
from fbp.nn import Layer, mlp
from fbp.train import evaluate, objective_of
from fbp.train.range_test import (
    RangeTest,
    descent,
    lightning,
    minimum,
    range_tests,
    sliding_window,
    steep,
    steepest,
    valley,
)
from fbp.train.scan_steps import Examples
from fbp.train.trials import train_trials

RULES = {
    "torch-lr-finder, steepest": steepest,
    "Lightning": lightning,
    "fastai, valley": valley,
    "fastai, steep": steep,
    "fastai, slide": sliding_window,
    "fastai, minimum": minimum,
    "fbp, descent": descent,
}
CHECKED = "torch-lr-finder, steepest"
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "Adam": optax.adam,
    "SGD, momentum 0.9": lambda rate: optax.sgd(rate, momentum=0.9),
}
Suggestions = dict[str, Float[np.ndarray, " seeds"]]


@dataclass(frozen=True)
class Settings:
    """What is trained, by the range test and by the sweep.

    Attributes:
      data: the data set, a classification.
      examples: the first so many training rows are used.
      width: of the hidden layer.
      batch_size: of both.
      seeds: runs of both.
      log10_test: a range test's first and last rate, as exponents.
      test_steps: steps of a range test.
      log10_sweep: the sweep's lowest and highest rate, as exponents, for each optimizer.
      rates: of the sweep, evenly spread over the exponents.
      sweep_steps: steps of each run of the sweep.
      at_once: runs of the sweep side by side.
    """

    data: str
    examples: int
    width: int
    batch_size: int
    seeds: int
    log10_test: tuple[float, float]
    test_steps: int
    log10_sweep: tuple[tuple[float, float], ...]
    rates: int
    sweep_steps: int
    at_once: int


def run(settings: Settings) -> Outcome:
    """Test and sweep the rates of each optimizer."""
    dataset = load(settings.data)
    network = mlp([settings.width, dataset.classes])
    split = dataset.train
    training = jax.device_put((split.x[: settings.examples], split.y[: settings.examples]))
    best, tests, suggestions = {}, {}, {}
    for (name, optimizer), exponents in zip(OPTIMIZERS.items(), settings.log10_sweep, strict=True):
        rates = np.logspace(*exponents, settings.rates)
        scores = _sweep(settings, network, dataset, training, optimizer, rates)
        best[name] = float(rates[np.argmax(scores)])
        tests[name] = range_tests(
            network,
            objective_of(dataset),
            optimizer,
            training,
            batch_size=settings.batch_size,
            seeds=range(settings.seeds),
            low=10 ** settings.log10_test[0],
            high=10 ** settings.log10_test[1],
            steps=settings.test_steps,
        )
        suggestions[name] = {
            rule: np.array([suggest(test.rates, test.losses) for test in tests[name]])
            for rule, suggest in RULES.items()
        }
    rows = [
        {
            "optimizer": name,
            "best rate of the sweep": best[name],
            "rule": rule,
            "suggestion, median": float(np.median(suggested)),
            "lowest": float(np.min(suggested)),
            "highest": float(np.max(suggested)),
            "decades from the best": _decades(suggested, best[name]),
        }
        for name in OPTIMIZERS
        for rule, suggested in suggestions[name].items()
    ]
    checks = tuple(
        Check(
            f"log10 of the steepest's median over the sweep's best rate, {name}",
            "0 (Smith 2017)",
            _decades(suggestions[name][CHECKED], best[name]),
            -0.5,
            0.5,
        )
        for name in OPTIMIZERS
    )
    return Outcome(checks, tuple(rows), {"figure": _figure(tests, suggestions, best)})


def _decades(suggested: Float[np.ndarray, " seeds"], best: float) -> float:
    return float(np.log10(np.median(suggested) / best))


def _sweep(
    settings: Settings,
    network: Layer,
    dataset: Dataset,
    training: Examples,
    optimizer: Callable[..., optax.GradientTransformation],
    rates: Float[np.ndarray, " rates"],
) -> Float[np.ndarray, " rates"]:
    """Return the validation accuracy of each constant rate, mean over the seeds."""
    objective = objective_of(dataset)
    x, y = jax.device_put((dataset.validation.x, dataset.validation.y))
    rate, seed = (index.ravel() for index in np.indices((len(rates), settings.seeds)))

    def accuracy(state):
        return evaluate(network.apply, objective, state.params, x, y)["accuracy"]

    _, accuracies = train_trials(
        network,
        objective,
        lambda trial: optimizer(trial["rate"]),
        {"rate": jnp.asarray(rates, jnp.float32)[rate], "seed": jnp.asarray(seed)},
        training,
        steps=settings.sweep_steps,
        batch_size=settings.batch_size,
        measure=accuracy,
        at_once=settings.at_once,
    )
    return np.asarray(accuracies).reshape(len(rates), settings.seeds).mean(axis=1)


def _figure(
    tests: dict[str, tuple[RangeTest, ...]],
    suggestions: dict[str, Suggestions],
    best: dict[str, float],
) -> Figure:
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    panels = figure.subplots(1, len(tests), sharey=True)
    start = np.mean([test.losses[0] for runs in tests.values() for test in runs])
    for axes, (name, runs) in zip(panels, tests.items(), strict=True):
        half = 10**0.5
        axes.axvspan(best[name] / half, best[name] * half, color="0.9", linewidth=0)
        for test in runs:
            axes.plot(test.rates, test.smoothed, color="0.5", linewidth=0.8)
        heights = np.linspace(0.08, 0.5, len(RULES)) * start
        for (rule, suggested), marker, height in zip(
            suggestions[name].items(), "osD^v*P", heights, strict=True
        ):
            (line,) = axes.plot(
                np.median(suggested), height, marker, markersize=6, label=rule, linestyle="none"
            )
            low, high = suggested.min(), suggested.max()
            axes.hlines(height, low, high, color=line.get_color(), linewidth=1)
        axes.set(xscale="log", xlabel="learning rate", ylim=(0, 1.3 * start))
        axes.set_title(name, fontsize="medium")
    panels[0].set_ylabel("training loss, smoothed, nats")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    return figure
