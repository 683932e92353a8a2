"""Does the bound of convex optimization predict how a schedule moves the best learning rate?

Training a network is not convex. Still the bound of convex optimization for the last step of a
schedule is asked for the peaks at which it is least. Its two constants come from the best constant
rate, which is measured; those of the decaying schedules are predicted from it and from their
shapes, and then measured.

Source: Schaipp et al., The surprising agreement between convex optimization theory and
learning-rate scheduling for large model training (2025), arXiv 2501.18965: language models of 124
and 210 million parameters, AdamW.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.convex_bound.basin_floor import lowest
from experiments.convex_bound.bound import best_peak, bound
from experiments.schedules.shares import shares
from fbp.config import Train
from fbp.data import load
from fbp.laboratory import Check, Outcome
from fbp.nn import mlp
from fbp.report.statistics import bootstrap_interval
from fbp.train import evaluate, objective_of
from fbp.train.trials import train_trials

CONSTANT = "constant"
DECAYING = ("cosine", "linear", "warmup-stable-decay, 20 %", "warmup-stable-decay, 60 %")
Losses = Float[np.ndarray, "schedules rates seeds"]
Shares = Mapping[str, Float[np.ndarray, " steps"]]


@dataclass(frozen=True)
class Settings:
    """What is trained, for how long, and at which peaks.

    Attributes:
      data: the data set, a classification.
      width: of the hidden layer.
      log2_rates: the lowest and the highest peak, as exponents.
      rates: peaks between them, evenly spread over the exponents.
      seeds: runs of each peak and schedule.
      steps, batch_size: of each run.
      warmup: steps in which the rate rises, of every schedule.
      measured: the loss is that of the first so many validation rows.
      within: octaves that a predicted best peak may be away from the measured one.
      at_once: trials side by side.
    """

    data: str
    width: int
    log2_rates: tuple[float, float]
    rates: int
    seeds: int
    steps: int
    warmup: int
    batch_size: int
    measured: int
    within: float
    at_once: int


def shapes(steps: int, warmup: int) -> dict[str, Float[np.ndarray, " steps"]]:
    """Return the rate of every step as a share of its peak, by the schedule's name."""
    plain = Train(steps, batch_size=1, evaluate_every=1, warmup_steps=warmup)
    wsd = replace(plain, schedule="wsd")
    plans = {
        CONSTANT: plain,
        "cosine": replace(plain, schedule="cosine"),
        "linear": replace(plain, schedule="linear"),
        "warmup-stable-decay, 20 %": replace(wsd, decay_share=0.2),
        "warmup-stable-decay, 60 %": replace(wsd, decay_share=0.6),
    }
    return {name: shares(plan) for name, plan in plans.items()}


def run(settings: Settings) -> Outcome:
    """Train every schedule at every peak; predict the best peaks from that of the constant rate."""
    exponents = np.linspace(*settings.log2_rates, settings.rates)
    table = shapes(settings.steps, settings.warmup)
    losses = _train(settings, table, exponents)
    means = {name: each.mean(axis=-1) for name, each in zip(table, losses, strict=True)}
    measured = {name: lowest(exponents, each) for name, each in means.items()}
    spreads = {name: _spread(exponents, each) for name, each in zip(table, losses, strict=True)}
    unit = measured[CONSTANT] - np.log2(best_peak(table[CONSTANT]))
    predicted = {name: float(unit + np.log2(best_peak(share))) for name, share in table.items()}
    rows = [
        {
            "schedule": name,
            "log2 of the best peak, measured": measured[name],
            "interval": spreads[name],
            "predicted": predicted[name],
            "predicted - measured, octaves": predicted[name] - measured[name],
            "lowest loss": float(np.min(means[name])),
            "loss at the predicted peak": float(np.interp(predicted[name], exponents, means[name])),
            "loss at the best constant rate": float(
                np.interp(measured[CONSTANT], exponents, means[name])
            ),
        }
        for name in table
    ]
    return Outcome(
        _checks(settings, predicted, measured),
        tuple(rows),
        {"figure": _figure(exponents, means, table, predicted, unit)},
    )


def _train(settings: Settings, shares: Shares, exponents) -> Losses:
    dataset = load(settings.data)
    network, objective = mlp([settings.width, dataset.classes]), objective_of(dataset)
    held_out = dataset.validation
    measured = jax.device_put((held_out.x[: settings.measured], held_out.y[: settings.measured]))
    table = jnp.asarray(np.stack([*shares.values()]), jnp.float32)
    grid = (len(shares), len(exponents), settings.seeds)
    schedule, rate, seed = (index.ravel() for index in np.indices(grid))

    def adam(trial):
        return optax.adam(lambda step: trial["rate"] * table[trial["schedule"], step])

    _, losses = train_trials(
        network,
        objective,
        adam,
        {
            "schedule": jnp.asarray(schedule),
            "rate": jnp.asarray(2.0**exponents, jnp.float32)[rate],
            "seed": jnp.asarray(seed),
        },
        jax.device_put((dataset.train.x, dataset.train.y)),
        steps=settings.steps,
        batch_size=settings.batch_size,
        measure=lambda state: evaluate(network.apply, objective, state.params, *measured)["loss"],
        at_once=settings.at_once,
    )
    losses = np.asarray(losses, np.float64).reshape(grid)
    return np.where(np.isfinite(losses), losses, np.nanmax(losses[np.isfinite(losses)]))


def _spread(exponents, losses: Float[np.ndarray, "rates seeds"]) -> str:
    """Return the interval of the best peaks of the seeds by themselves, in words."""
    _, low, high = bootstrap_interval([lowest(exponents, each) for each in losses.T])
    return f"{low:.2f} to {high:.2f}"


def _checks(settings: Settings, predicted, measured) -> tuple[Check, ...]:
    return tuple(
        Check(
            f"best peak, {name}: predicted / measured, octaves",
            "0 (Schaipp et al. 2025, language models)",
            predicted[name] - measured[name],
            -settings.within,
            settings.within,
        )
        for name in DECAYING
    )


def _figure(exponents, means, shares: Shares, predicted, unit: float) -> Figure:
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    lowest_of_all = min(float(np.min(each)) for each in means.values())
    for name, share in shares.items():
        (line,) = left.plot(2.0**exponents, means[name], "o-", markersize=3, label=name)
        left.axvline(2.0 ** predicted[name], color=line.get_color(), linewidth=0.8, linestyle=":")
        right.plot(2.0**exponents, bound(share, 2.0 ** (exponents - unit)), color=line.get_color())
    left.set(
        xscale="log",
        xlabel="peak learning rate",
        ylabel="validation loss",
        ylim=(0.95 * lowest_of_all, 2 * lowest_of_all),
    )
    right.set(xlabel="peak learning rate", ylabel="bound, in units of D G", yscale="log")
    left.legend(frameon=False, fontsize=7, loc="upper center")
    return figure
