"""The config of a run: frozen dataclasses, one for each table of a TOML file.

`fbp.config_file` reads them. A value out of range is an InputError that names the key. See
`configs/` for examples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

import numpy as np

from fbp.errors import InputError
from fbp.structure import require, require_one_of

_ADAM = ("b1", "b2", "eps", "eps_root")
OPTIMIZERS = {
    "sgd": ("momentum", "nesterov"),
    "adam": (*_ADAM, "nesterov"),
    "adamw": (*_ADAM, "nesterov", "weight_decay"),
    "nadam": _ADAM,
    "radam": (*_ADAM, "threshold"),
    "adabelief": _ADAM,
    "yogi": ("b1", "b2", "eps"),
    "lamb": (*_ADAM, "weight_decay"),
    "lion": ("b1", "b2", "weight_decay"),
    "rmsprop": ("decay", "eps", "initial_scale", "momentum", "centered", "nesterov"),
    "adagrad": ("eps", "initial_accumulator_value"),
}
FLAGS = ("centered", "nesterov")
Activation = Literal["relu", "gelu", "silu", "tanh", "sigmoid", "elu", "softplus"]


@dataclass(frozen=True)
class Data:
    """`[data]`: what `fbp.data.load` takes."""

    name: str
    directory: str | None = None
    target: str | None = None
    seed: int = 0
    image: bool = False
    task: Literal["classification", "regression", "classes", "numbers"] | None = None


@dataclass(frozen=True)
class MLP:
    """`[network]` with `kind = "mlp"`: hidden dense layers of these widths, then the output."""

    widths: tuple[int, ...]
    activation: Activation = "relu"

    def __post_init__(self):
        _require_sizes("widths", self.widths)


@dataclass(frozen=True)
class CNN:
    """`[network]` with `kind = "cnn"`: convolutions of these channels, then an MLP."""

    channels: tuple[int, ...]
    widths: tuple[int, ...]
    activation: Activation = "relu"

    def __post_init__(self):
        _require_sizes("channels", self.channels)
        _require_sizes("widths", self.widths)


@dataclass(frozen=True)
class Transformer:
    """`[network]` with `kind = "transformer"`: blocks over the rows of an image, or features."""

    width: int
    depth: int
    heads: int

    def __post_init__(self):
        for name in ("width", "depth", "heads"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.width % self.heads == 0, "heads", self.heads, "a divisor of width")


@dataclass(frozen=True)
class RNN:
    """`[network]` with `kind = "rnn"`: recurrent layers over the rows of an image, or features."""

    widths: tuple[int, ...]
    cell: Literal["lstm", "gru"] = "lstm"

    def __post_init__(self):
        require(len(self.widths) > 0, "widths", list(self.widths), "at least one width")
        _require_sizes("widths", self.widths)


NETWORKS = {"mlp": MLP, "cnn": CNN, "transformer": Transformer, "rnn": RNN}
Network = MLP | CNN | Transformer | RNN


@dataclass(frozen=True)
class Optimizer:
    """`[optimizer]`: an optax optimizer by its name, and the hyperparameters that stay fixed."""

    name: str
    hyperparameters: Mapping[str, float | bool] = field(default_factory=dict)

    def __post_init__(self):
        require_one_of("name", self.name, OPTIMIZERS)
        for key, value in self.hyperparameters.items():
            where = f"hyperparameters.{key}"
            require_one_of(where, key, OPTIMIZERS[self.name])
            if key in FLAGS:
                require(isinstance(value, bool), where, value, "true or false")
            else:
                fits = not isinstance(value, bool) and 0 <= value < inf
                require(fits, where, value, "a number that is not negative")


@dataclass(frozen=True)
class Train:
    """`[train]`: how each trial is trained.

    Attributes:
      steps: number of gradients.
      batch_size: training examples for each gradient.
      evaluate_every: steps between two evaluations on the validation set.
      schedule: the rate's shape over the steps: `constant`; `cosine` or `linear` to zero; `wsd`
        (warmup, stable, decay), constant but for a linear fall to zero over the last fifth;
        `one_cycle`, a cosine up from 1/25 over the first 0.3 and a cosine down to 1/250,000.
      warmup_steps: steps over which the rate rises linearly from zero first; `one_cycle` already
        has a rise.
      clip_norm: the global norm that a gradient may have; a larger one is scaled down.
      accumulate: gradients averaged into one update.
      metric: what trials are compared by on the validation set: `accuracy`, `r2` or `loss`.
        Default: `accuracy` for classification, `r2` for regression.
      target: the metric's value that counts as reached.
    """

    steps: int
    batch_size: int
    evaluate_every: int
    schedule: Literal["constant", "cosine", "linear", "wsd", "one_cycle"] = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = None
    accumulate: int = 1
    metric: Literal["accuracy", "r2", "loss"] | None = None
    target: float | None = None

    def __post_init__(self):
        for name in ("steps", "batch_size", "evaluate_every", "accumulate"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        in_run = 0 <= self.warmup_steps < self.steps
        require(in_run, "warmup_steps", self.warmup_steps, "from 0 to less than steps")
        rises_twice = self.schedule == "one_cycle" and self.warmup_steps > 0
        require(not rises_twice, "warmup_steps", self.warmup_steps, "0 with one_cycle")
        if self.clip_norm is not None:
            require(0 < self.clip_norm < inf, "clip_norm", self.clip_norm, "positive")


@dataclass(frozen=True)
class LogGrid:
    """`count` values from `low` to `high`, evenly spaced in their logarithms."""

    low: float
    high: float
    count: int

    def __post_init__(self):
        require(0 < self.low < inf, "low", self.low, "a positive number")
        require(self.low < self.high < inf, "high", self.high, "a number larger than low")
        require(self.count >= 2, "count", self.count, "at least 2")

    @property
    def values(self) -> tuple[float, ...]:
        """The values, ascending.

        >>> LogGrid(low=0.01, high=1.0, count=3).values
        (0.01, 0.1, 1.0)
        """
        return tuple(float(f"{x:.6g}") for x in np.geomspace(self.low, self.high, self.count))


@dataclass(frozen=True)
class Range:
    """Any value from `low` to `high`, each as likely as another on the scale."""

    low: float
    high: float
    scale: Literal["log", "linear"] = "log"

    def __post_init__(self):
        lowest = 0 if self.scale == "linear" else np.nextafter(0, 1)
        require(lowest <= self.low < inf, "low", self.low, "positive, or 0 on a linear scale")
        require(self.low < self.high < inf, "high", self.high, "a number larger than low")


Values = LogGrid | Range | tuple[float, ...]


@dataclass(frozen=True)
class GridSearch:
    """`search = { kind = "grid" }`: every combination of the values is trained."""


@dataclass(frozen=True)
class RandomSearch:
    """`search = { kind = "random", trials = 20 }`: combinations are drawn quasi-randomly.

    Attributes:
      trials: how many are drawn; each is trained with every seed, and under every combination
        of the axes, so that these are compared on the same draws.
      seed: what is drawn.
    """

    trials: int
    seed: int = 0

    def __post_init__(self):
        require(self.trials >= 1, "trials", self.trials, "at least 1")


@dataclass(frozen=True)
class Halving:
    """`search = { kind = "halving", eta = 3 }`: successive halving.

    All settings are trained for a few steps, the best 1/eta of them for eta times as many, and
    so on; the last ones are trained for `train.steps`.

    Attributes:
      eta: one setting in `eta` is promoted, by its mean on the validation set.
      trials: how many combinations are drawn, as by `random`; without it the grid is trained.
      seed: what is drawn.
    """

    eta: int = 3
    trials: int | None = None
    seed: int = 0

    def __post_init__(self):
        require(self.eta >= 2, "eta", self.eta, "at least 2")
        require(self.trials is None or self.trials >= 1, "trials", self.trials, "at least 1")


SEARCHES = {"grid": GridSearch, "random": RandomSearch, "halving": Halving}
Search = GridSearch | RandomSearch | Halving


@dataclass(frozen=True)
class Sweep:
    """`[sweep]`: what differs between trials, and how they are run.

    Attributes:
      learning_rate: the rates, a list or `{ low, high, count }`; `{ low, high }` where they are
        drawn.
      seeds: number of seeds; each setting is trained once with each of 0, 1, ...
      hyperparameters: values for other numbers of the optimizer, listed as the rates are.
      axes: lists of values for any other key of the config but the steps and what is measured,
        such as `axes.train.batch_size = [32, 64]` or `axes.network.widths = [[16], [64]]`. An
        axis replaces its key. Every combination is a separate program.
      search: which settings are trained, and for how long.
      trials: how they are run: `vmap`, all side by side; `map`, one after another or `batch_size`
        at a time; `seed`, those of one seed, `batch_size` at a time, which share their batches,
        one seed after another; `loop`, the compiled trial called for one after another. Each
        divides the trials over all devices. `auto` takes the fastest, see `fbp.sweep.autotuning`.
      divergence_factor: a trial whose training loss is not finite, or exceeds this many times
        its validation loss before the first step, has diverged and is stopped.
    """

    learning_rate: Values
    seeds: int
    hyperparameters: Mapping[str, Values] = field(default_factory=dict)
    trials: Literal["auto", "vmap", "seed", "map", "loop"] = "auto"
    batch_size: int = 1
    divergence_factor: float = 100.0
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    search: Search = field(default_factory=GridSearch)

    def __post_init__(self):
        drawn = getattr(self.search, "trials", None) is not None
        _require_values("learning_rate", self.learning_rate, drawn, lambda x: x > 0, "positive")
        for name, values in self.hyperparameters.items():
            where = f"hyperparameters.{name}"
            _require_values(where, values, drawn, lambda x: x >= 0, "not negative")
        require(self.seeds >= 1, "seeds", self.seeds, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        above_one = 1 < self.divergence_factor < inf
        require(above_one, "divergence_factor", self.divergence_factor, "larger than 1")

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The rates, as they are given or as the grid has them; of a range, its ends."""
        return values_of(self.learning_rate)


def values_of(values: Values) -> tuple[float, ...]:
    """Return the values of a list or a grid; of a range, its ends.

    >>> values_of(LogGrid(0.1, 10.0, 3)), values_of(Range(0.1, 10.0))
    ((0.1, 1.0, 10.0), (0.1, 10.0))
    """
    if isinstance(values, Range):
        return values.low, values.high
    return values.values if isinstance(values, LogGrid) else values


@dataclass(frozen=True)
class Config:
    """A whole run: data, network, optimizer, training, and what is compared."""

    name: str
    data: Data
    network: Network
    optimizer: Optimizer
    train: Train
    sweep: Sweep

    def __post_init__(self):
        numbers = [key for key in OPTIMIZERS[self.optimizer.name] if key not in FLAGS]
        for key in self.sweep.hyperparameters:
            where = f"sweep.hyperparameters.{key}"
            require_one_of(where, key, numbers)
            if key in self.optimizer.hyperparameters:
                raise InputError(f"{where}: also in optimizer.hyperparameters: give it once")


def _require_sizes(name: str, sizes: tuple[int, ...]) -> None:
    for i, size in enumerate(sizes):
        require(size >= 1, f"{name}[{i}]", size, "at least 1")


def _require_values(
    name: str, values: Values, drawn: bool, fits: Callable[[float], bool], expected: str
) -> None:
    if isinstance(values, Range) and not drawn:
        raise InputError(
            f"{name}: a range without count has no values: give a count, or a search that draws, "
            "as search = { kind = 'random', trials = 20 }"
        )
    listed = values_of(values)
    require(len(listed) > 0, name, list(listed), "at least one number")
    for i, value in enumerate(listed):
        require(fits(value) and value < inf, f"{name}[{i}]", value, expected)
    require(len(set(listed)) == len(listed), name, list(listed), "without repetition")
