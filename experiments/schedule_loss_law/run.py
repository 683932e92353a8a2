"""Does a law fitted to two learning-rate schedules predict the loss under others?

The multi-power law says what the loss is at every step from the learning rates until then. It is
fitted to the curves of a constant rate and of a cosine, and then asked for the curves of three
schedules that it has not seen:

- warmup-stable-decay: the peak for four fifths of the steps, then straight down;
- linear: straight down all the time;
- two-stage: the peak for 60 % of the steps, then at once the last rate.

Source: Luo et al., A multi-power law for loss curve prediction across learning rate schedules
(2025), arXiv 2503.12811: language models of 25 to 400 million parameters.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.schedule_loss_law.law import Curve, Law, fit, predict
from experiments.schedules.shares import shares
from fbp.config import Train
from fbp.data import load
from fbp.laboratory import Check, Outcome
from fbp.nn import mlp
from fbp.train import evaluate, objective_of
from fbp.train.trials import train_trials

FITTED = ("constant", "cosine")
UNSEEN = ("warmup-stable-decay", "linear", "two-stage")
STABLE = 0.6  # of the steps, the first stage of the two
Losses = Float[np.ndarray, " windows"]


@dataclass(frozen=True)
class Settings:
    """What is trained, for how long, and how its loss is smoothed.

    Attributes:
      data: the data set, a classification.
      width: of the hidden layer.
      peak: the highest learning rate of every schedule.
      steps, batch_size: of each run.
      warmup: steps in which the rate rises.
      first: the law speaks of the loss from this step on.
      end: the last rate as a share of the peak; the constant rate has none.
      measured: the loss is that of the first so many validation rows.
      measure_every: steps between measurements.
      window: measurements in a row whose mean is the smoothed loss.
      seeds: runs over which it is averaged.
      within: the relative error that a prediction may have.
      at_once: trials side by side.
    """

    data: str
    width: int
    peak: float
    steps: int
    warmup: int
    first: int
    batch_size: int
    end: float
    measured: int
    measure_every: int
    window: int
    seeds: int
    within: float
    at_once: int


def shapes(steps: int, warmup: int, end: float) -> dict[str, Float[np.ndarray, " steps"]]:
    """Return the rate of every step as a share of its peak, by the schedule's name."""
    plain = Train(steps, batch_size=1, evaluate_every=1, warmup_steps=warmup)
    plans = {
        "constant": plain,
        "cosine": replace(plain, schedule="cosine", end_value=end),
        "warmup-stable-decay": replace(plain, schedule="wsd", end_value=end),
        "linear": replace(plain, schedule="linear", end_value=end),
    }
    rates = {name: shares(plan) for name, plan in plans.items()}
    low = np.arange(steps) >= STABLE * steps
    return rates | {"two-stage": np.where(low, end, rates["constant"])}


def run(settings: Settings) -> Outcome:
    """Train under every schedule, fit the law to two of them, predict the others."""
    rates = shapes(settings.steps, settings.warmup, settings.end)
    halves = {
        name: _curves(settings, rates[name], losses)
        for name, losses in zip(rates, _train(settings, rates), strict=True)
    }
    curves = {
        name: replace(first, losses=(first.losses + second.losses) / 2)
        for name, (first, second) in halves.items()
    }
    law = fit([curves[name] for name in FITTED])
    predictions = {name: predict(law, curve) for name, curve in curves.items()}
    errors = {name: predictions[name] / curves[name].losses - 1 for name in curves}
    rows = [
        {
            "schedule": name,
            "": "fitted" if name in FITTED else "predicted",
            "last loss": float(curves[name].losses[-1]),
            "mean error": float(np.mean(np.abs(errors[name]))),
            "largest error": float(np.max(np.abs(errors[name]))),
            "error at the end": float(errors[name][-1]),
            "from the nearest fitted curve": _distance(curves, name),
            "half of the seeds from the others": _difference(*halves[name]),
        }
        for name in curves
    ]
    return Outcome(
        _checks(settings, errors), tuple(rows), {"figure": _figure(curves, predictions, law)}
    )


def _train(
    settings: Settings, rates: Mapping[str, Float[np.ndarray, " steps"]]
) -> Float[np.ndarray, "schedules seeds measurements"]:
    dataset = load(settings.data)
    network, objective = mlp([settings.width, dataset.classes]), objective_of(dataset)
    held_out = dataset.validation
    measured = jax.device_put((held_out.x[: settings.measured], held_out.y[: settings.measured]))
    table = jnp.asarray(np.stack([*rates.values()]), jnp.float32)
    grid = (len(rates), settings.seeds)
    schedule, seed = (index.ravel() for index in np.indices(grid))
    _, losses = train_trials(
        network,
        objective,
        lambda trial: optax.adam(lambda step: settings.peak * table[trial["schedule"], step]),
        {"schedule": jnp.asarray(schedule), "seed": jnp.asarray(seed)},
        jax.device_put((dataset.train.x, dataset.train.y)),
        steps=settings.steps,
        batch_size=settings.batch_size,
        measure=lambda state: evaluate(network.apply, objective, state.params, *measured)["loss"],
        measure_every=settings.measure_every,
        at_once=settings.at_once,
    )
    return np.asarray(losses, np.float64).reshape(*grid, -1)


def _curves(
    settings: Settings,
    rates: Float[np.ndarray, " steps"],
    losses: Float[np.ndarray, "seeds measurements"],
) -> tuple[Curve, Curve]:
    """Return the smoothed curves of the even and of the odd seeds.

    A window's loss is that after the step in its middle.
    """
    begins = np.arange(
        -(-settings.first // settings.measure_every) - 1,
        losses.shape[1] - settings.window + 1,
        settings.window,
    )
    windows = begins[:, None] + np.arange(settings.window)
    times = settings.measure_every * (windows[:, settings.window // 2] + 1)

    def smoothed(part: Float[np.ndarray, "seeds measurements"]) -> Curve:
        return Curve(rates, settings.warmup, times, part.mean(axis=0)[windows].mean(axis=1))

    return smoothed(losses[::2]), smoothed(losses[1::2])


def _difference(curve: Curve, other: Curve) -> float:
    """Return how far two curves are from each other, on average, as a share of the loss."""
    return float(np.mean(np.abs(curve.losses / other.losses - 1)))


def _distance(curves: Mapping[str, Curve], name: str) -> float:
    """Return how far the fitted curve that is nearest lies from this one."""
    return min(_difference(curves[other], curves[name]) for other in FITTED if other != name)


def _checks(settings: Settings, errors: Mapping[str, Losses]) -> tuple[Check, ...]:
    published = "0.0011 to 0.0017 (Luo et al. 2025, language models)"
    return tuple(
        check
        for name in UNSEEN
        for check in (
            Check(
                f"relative error of the predicted loss, {name}, mean",
                published,
                float(np.mean(np.abs(errors[name]))),
                high=settings.within,
            ),
            Check(
                f"relative error of the predicted loss, {name}, at the end",
                "below 0.01 at every step (Luo et al. 2025)",
                float(np.abs(errors[name][-1])),
                high=settings.within,
            ),
        )
    )


def _figure(curves: Mapping[str, Curve], predictions: Mapping[str, Losses], law: Law) -> Figure:
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        (line,) = axes.plot(curve.times, curve.losses, "o", markersize=3)
        label = f"{name}, {'fitted' if name in FITTED else 'predicted'}"
        style = "--" if name in FITTED else "-"
        axes.plot(curve.times, predictions[name], style, color=line.get_color(), label=label)
    numbers = ", ".join(f"{key} {value:.3g}" for key, value in asdict(law).items())
    axes.set(xlabel="step", ylabel="validation loss, smoothed", yscale="log")
    axes.set_title(numbers, fontsize=7)
    axes.legend(frameon=False)
    return figure
