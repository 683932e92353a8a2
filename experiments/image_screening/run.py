"""Which learning rate teaches a network to tell pictures apart, and how soon?

- Clothes (Fashion-MNIST, ten kinds): an MLP and a small convolutional network with Adam at every
  rate, and how long each rate needs to a target. The best rate of each network, by the validation
  accuracy, is then trained for longer, with a rate that falls to zero along a cosine, and tested
  once.
- Faces against other pictures: 200 images of 25x25 pixels, each told by a network that has not
  seen it.

Source: Xiao, Rasul and Vollgraf, Fashion-MNIST (2017), arXiv 1708.07747; the table of benchmarks
in its repository: test accuracy 0.876 to 0.919 for networks with two convolutions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from experiments.image_screening.screening import Screened, screen
from experiments.image_screening.training import Curve, convolutional, curves
from fbp.data import Dataset, load
from fbp.laboratory import Check, Outcome
from fbp.laboratory.experiment import Cell
from fbp.nn import Layer, mlp
from fbp.report.statistics import Interval, bootstrap_interval
from fbp.train import evaluate, objective_of
from fbp.train.trials import train_trials

PUBLISHED = "0.876 to 0.919 (two convolutions)"


@dataclass(frozen=True)
class Settings:
    """The pictures, the networks, the rates, and how long they are trained.

    Attributes:
      dataset: of images, for `fbp.data.load`.
      networks: those that are compared, CNN and others of MLP.
      channels: of each convolution.
      width: hidden units of the MLP, and of the convolutional network's last hidden layer.
      learning_rates: of Adam.
      seeds: runs at each rate, of 0, 1, ...
      steps, batch_size, evaluate_every: of a run that compares rates; steps is a multiple.
      target: the validation accuracy that is waited for.
      long_steps: of the runs at the best rate.
      least: the test accuracy that the convolutional network has to reach.
      faces: whether faces are told from other pictures as well.
      face_steps, face_batch_size, folds: of that cross-validation.
    """

    dataset: str
    networks: tuple[str, ...]
    channels: tuple[int, ...]
    width: int
    learning_rates: tuple[float, ...]
    seeds: int
    steps: int
    batch_size: int
    evaluate_every: int
    target: float
    long_steps: int
    least: float
    faces: bool
    face_steps: int
    face_batch_size: int
    folds: int


def run(settings: Settings) -> Outcome:
    """Compare the rates, test the best ones, and screen the faces."""
    dataset = load(settings.dataset, image=True)
    networks = {
        "MLP": mlp((settings.width, dataset.classes)),
        "CNN": convolutional(settings.channels, settings.width, dataset.classes),
    }
    networks = {name: networks[name] for name in settings.networks}
    measured = {
        name: curves(
            network,
            dataset,
            settings.learning_rates,
            settings.seeds,
            steps=settings.steps,
            batch_size=settings.batch_size,
            evaluate_every=settings.evaluate_every,
        )
        for name, network in networks.items()
    }
    best = {name: _best_rate(of_network) for name, of_network in measured.items()}
    tests = {name: _test(networks[name], dataset, best[name], settings) for name in networks}
    accuracy, published = tests["CNN"][0], PUBLISHED if settings.dataset == "fashion_mnist" else "-"
    checks = [Check(f"test accuracy, {dataset.name}, CNN", published, accuracy, low=settings.least)]
    rows = [
        row
        for name in measured
        for row in _rows(name, measured[name], best[name], tests[name], settings)
    ]
    figures = {"figure": _figure(measured, settings)}
    if settings.faces:
        screened = screen(
            settings.channels,
            settings.width,
            settings.learning_rates,
            settings.seeds,
            steps=settings.face_steps,
            batch_size=settings.face_batch_size,
            folds=settings.folds,
        )
        checks += _face_checks(screened)
        figures["faces"] = _roc_figure(screened)
    return Outcome(tuple(checks), tuple(rows), figures)


def _best_rate(of_network: Sequence[Curve]) -> float:
    """Return the rate of the highest validation accuracy after the last step, mean over seeds."""
    rates = sorted({curve.rate for curve in of_network})
    return max(rates, key=lambda rate: np.mean(_last(of_network, rate)))


def _last(of_network: Sequence[Curve], rate: float) -> list[float]:
    return [curve.accuracies[-1] for curve in of_network if curve.rate == rate]


def _test(network: Layer, dataset: Dataset, rate: float, settings: Settings) -> Interval:
    """Test accuracy after longer training: mean and interval over seeds."""
    objective = objective_of(dataset)
    schedule = optax.cosine_decay_schedule(rate, settings.long_steps)
    _, params = train_trials(
        network,
        objective,
        lambda _: optax.adam(schedule),
        {"seed": jnp.arange(settings.seeds)},
        jax.device_put((dataset.train.x, dataset.train.y)),
        steps=settings.long_steps,
        batch_size=settings.batch_size,
        measure=lambda state: state.params,
    )
    measure = jax.jit(jax.vmap(partial(evaluate, network.apply, objective), (0, None, None)))
    measures = measure(params, *jax.device_put((dataset.test.x, dataset.test.y)))
    return bootstrap_interval(np.asarray(measures["accuracy"], np.float64))


def _rows(
    name: str, of_network: Sequence[Curve], best: float, test: Interval, settings: Settings
) -> Iterator[Mapping[str, Cell]]:
    for rate in settings.learning_rates:
        reached = [curve.reaches(settings.target) for curve in of_network if curve.rate == rate]
        steps, seconds = np.mean(reached, axis=0)
        mean, low, high = test
        yield {
            "network": name,
            "learning rate": rate,
            "validation accuracy": f"{np.mean(_last(of_network, rate)):.3f}",
            f"steps to {settings.target:g}": f"{steps:.0f}" if np.isfinite(steps) else "never",
            f"seconds to {settings.target:g}": f"{seconds:.1f}" if np.isfinite(steps) else "never",
            "test accuracy after longer training": f"{mean:.3f} [{low:.3f}, {high:.3f}]"
            if rate == best
            else None,
        }


def _face_checks(screened: Screened) -> Iterator[Check]:
    accuracy, low, high = screened.accuracy
    interval = f"accuracy, faces (interval {low:.3f} to {high:.3f})"
    yield Check(interval, "0.5 by chance", accuracy, low=0.9)
    area = float(roc_auc_score(screened.is_face, screened.probability))
    yield Check("area under the ROC curve, faces", "0.5 by chance", area, low=0.95)


def _figure(curves: Mapping[str, Sequence[Curve]], settings: Settings) -> Figure:
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    accuracy, waiting = figure.subplots(2, 1, sharex=True)
    for (name, of_network), marker in zip(curves.items(), "os", strict=False):
        means = [np.mean(_last(of_network, rate)) for rate in settings.learning_rates]
        accuracy.plot(settings.learning_rates, means, marker=marker, label=name)
        dots = [(curve.rate, curve.reaches(settings.target)[0]) for curve in of_network]
        (line,) = waiting.plot(*np.transpose(dots), marker, label=name)
        accuracy.plot(
            [curve.rate for curve in of_network],
            [curve.accuracies[-1] for curve in of_network],
            marker,
            color=line.get_color(),
            markersize=3,
            alpha=0.4,
        )
    accuracy.axhline(settings.target, color="black", linestyle="--", linewidth=1, label="target")
    accuracy.set_ylabel(f"validation accuracy\nafter {settings.steps:,} steps")
    waiting.set_ylabel(f"steps to an accuracy\nof {settings.target:g}")
    waiting.set(xscale="log", ylim=(0, 1.05 * settings.steps), xlabel="learning rate (Adam)")
    accuracy.legend(frameon=False)
    for axes in (accuracy, waiting):
        axes.grid(alpha=0.3)
    return figure


def _roc_figure(screened: Screened) -> Figure:
    figure = Figure(figsize=(4.2, 4.0), layout="constrained")
    axes = figure.subplots()
    false, true, _ = roc_curve(screened.is_face, screened.probability)
    axes.step(false, true, where="post")
    axes.plot([0, 1], [0, 1], color="black", linestyle=":", linewidth=1)
    axes.set(xlabel="other pictures called faces", ylabel="faces found", aspect="equal")
    axes.grid(alpha=0.3)
    return figure
