"""At which learning rate does a network learn who speaks?

- Japanese Vowels: nine men say two vowels, 270 utterances to train on and 370 to test on. A GRU
  reads the frames of 12 cepstra one after another; an MLP gets the mean, the standard deviation,
  the first and the last frame.
- Voices: the prompts of a telephone exchange in six voices; an MLP gets the mean and the spread
  of 40 log-mel bands over 0.4 s. Prompts, not pieces of prompts, are held out.

The rate is chosen by the loss on a sixth of the training utterances; the network is then trained
anew on all of them at this rate, and tested once.

Source: Kudo, Toyama and Shimbo, Multidimensional curve classification using passing-through
regions, Pattern Recognition Letters 20 (1999): accuracy 0.941 on the same parts, 0.962 for a hidden
Markov model of five states.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float64
from matplotlib.figure import Figure

from experiments.speech.networks import pooled, reader, utterances
from experiments.speech.segments import voices
from fbp.data import Dataset, Split
from fbp.laboratory import Check, Outcome
from fbp.laboratory.experiment import Cell
from fbp.nn import mlp
from fbp.report.statistics import bootstrap_interval
from fbp.train import evaluate, objective_of
from fbp.train.trials import train_trials

ONE_SPEAKER = ("en_US_f_Allison", "es_MX_f_Allison")
LABELS = {
    "MLP": ("vowels, MLP", "o"),
    "GRU": ("vowels, GRU", "s"),
    "voices": ("six voices, MLP", "^"),
}


@dataclass(frozen=True)
class Settings:
    """Which networks, which rates, and how long they are trained with Adam.

    Attributes:
      networks: those that are compared on Japanese Vowels, of MLP and GRU.
      voices: whether the six voices, whose files are Debian's, are told apart as well.
      learning_rates: the rates.
      seeds: runs at each rate, of 0, 1, ...
      width: hidden units, or features of the GRU's state.
      steps: gradients of a run.
      batch_size: utterances for each.
      voice_batch_size: pieces of prompts for each.
    """

    networks: tuple[str, ...]
    voices: bool
    learning_rates: tuple[float, ...]
    seeds: int
    width: int
    steps: int
    batch_size: int
    voice_batch_size: int


@dataclass(frozen=True)
class Selected:
    """Measures on the validation part by rate and seed, and the test of the best rate."""

    losses: Float64[np.ndarray, "rates seeds"]
    accuracies: Float64[np.ndarray, "rates seeds"]
    best: int
    tests: Float64[np.ndarray, " seeds"]


def run(settings: Settings) -> Outcome:
    """Choose a rate for each network, and test each at its best rate."""
    frames = utterances()
    inputs = {"MLP": pooled(frames), "GRU": frames}
    selected = {name: _choose(name, inputs[name], settings) for name in settings.networks}
    better = min(selected, key=lambda name: selected[name].losses.mean(axis=1).min())
    checks = [
        Check(
            f"test accuracy, Japanese Vowels: {better}, which validates best",
            "0.941; 0.962 (hidden Markov model)",
            float(selected[better].tests.mean()),
            low=0.97,
        )
    ]
    if settings.voices:
        dataset = voices()
        selected["voices"] = _choose("voices", dataset, settings)
        checks.append(_voices_check(dataset, selected["voices"]))
    rows = [row for name, of in selected.items() for row in _rows(name, of, settings)]
    return Outcome(tuple(checks), tuple(rows), {"figure": _figure(selected, settings)})


def _voices_check(dataset: Dataset, selected: Selected) -> Check:
    """One speaker made two of the recordings: can more be told apart than the speakers?"""
    alike = [dataset.target_names.index(voice) for voice in ONE_SPEAKER]
    shares = np.bincount(dataset.test.y) / len(dataset.test)
    only_speakers = float(1 - shares[alike].min())
    return Check(
        "test accuracy, pieces of six voices",
        f"{only_speakers:.3f}, were the five speakers told apart and nothing else",
        float(selected.tests.mean()),
        low=only_speakers,
    )


def _choose(name: str, dataset: Dataset, settings: Settings) -> Selected:
    """Train at every rate, then at the best one on the validation part as well."""
    train, validation, test = dataset.train, dataset.validation, dataset.test
    rates = settings.learning_rates
    losses, accuracies = _train(name, dataset, train, validation, rates, settings)
    best = int(np.nan_to_num(losses, nan=np.inf).mean(axis=1).argmin())
    both = Split(np.concatenate([train.x, validation.x]), np.concatenate([train.y, validation.y]))
    _, tests = _train(name, dataset, both, test, rates[best : best + 1], settings)
    return Selected(losses, accuracies, best, tests[0])


def _train(
    name: str,
    dataset: Dataset,
    training: Split,
    measured: Split,
    rates: tuple[float, ...],
    settings: Settings,
) -> tuple[Float64[np.ndarray, "rates seeds"], Float64[np.ndarray, "rates seeds"]]:
    """Loss and accuracy on another part after training, by rate and seed."""
    objective = objective_of(dataset)
    widths = (settings.width, dataset.classes)
    network = reader(*widths) if name == "GRU" else mlp(widths)
    seeds = jnp.arange(settings.seeds)
    _, params = train_trials(
        network,
        objective,
        lambda trial: optax.adam(trial["learning_rate"]),
        {
            "seed": jnp.tile(seeds, len(rates)),
            "learning_rate": jnp.repeat(jnp.asarray(rates), len(seeds)),
        },
        jax.device_put((training.x, training.y)),
        steps=settings.steps,
        batch_size=settings.voice_batch_size if name == "voices" else settings.batch_size,
        measure=lambda state: state.params,
    )
    measure = jax.jit(jax.vmap(partial(evaluate, network.apply, objective), (0, None, None)))
    measures = measure(params, *jax.device_put((measured.x, measured.y)))
    shape = (len(rates), settings.seeds)
    loss, accuracy = (
        np.asarray(measures[key], np.float64).reshape(shape) for key in ("loss", "accuracy")
    )
    return loss, accuracy


def _rows(name: str, selected: Selected, settings: Settings) -> Iterator[Mapping[str, Cell]]:
    for i, rate in enumerate(settings.learning_rates):
        row = {
            "network": name,
            "learning rate": f"{rate:.3g}",
            "validation loss (nats)": f"{selected.losses[i].mean():.3f}",
            "validation accuracy": f"{selected.accuracies[i].mean():.3f}",
            "test accuracy": None,
        }
        if i == selected.best:
            mean, low, high = bootstrap_interval(selected.tests)
            row["test accuracy"] = f"{mean:.3f} [{low:.3f}, {high:.3f}]"
        yield row


def _figure(selected: Mapping[str, Selected], settings: Settings) -> Figure:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    rates = np.array(settings.learning_rates)
    for number, (name, of) in enumerate(selected.items()):
        means = of.losses.mean(axis=1)
        errors = (means - of.losses.min(axis=1), of.losses.max(axis=1) - means)
        label, marker = LABELS[name]
        shift = 1.04 ** (number - 1)
        (line, *_) = axes.errorbar(
            rates * shift, means, errors, marker=marker, markersize=4, capsize=2, label=label
        )
        axes.plot(
            rates[of.best] * shift,
            means[of.best],
            "*",
            markersize=15,
            markerfacecolor="none",
            color=line.get_color(),
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="learning rate (Adam)",
        ylabel="validation loss (nats)",
        ylim=(1e-3, 20),
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure
