"""The config of a run: frozen dataclasses, one for each table of a TOML file.

`fbp.config_file` reads them. A value out of range is an InputError that names the key. See
`configs/` for examples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf, prod
from typing import Any, Literal

import numpy as np

from fbp.byte_size import parse_bytes
from fbp.errors import InputError, require, require_one_of
from fbp.optimizers import FLAGS, OPTIMIZERS, REFUSED, SCHEDULE_FREE, WRAPPERS

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


@dataclass(frozen=True)
class Imported:
    """`import = "module:name"` in place of a table's other keys: something that a module has.

    Attributes:
      path: the module, as Python imports it from the working directory, and a name in it.
      arguments: the table's other keys, which it is called with.
    """

    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        module, _, name = self.path.partition(":")
        names = (*module.split("."), *name.split("."))
        fits = all(part.isidentifier() for part in names)
        require(fits, "import", self.path, "a module and a name in it, such as my_models:resnet")


NETWORKS = {"mlp": MLP, "cnn": CNN, "transformer": Transformer, "rnn": RNN}
Network = MLP | CNN | Transformer | RNN


@dataclass(frozen=True)
class Optimizer:
    """`[optimizer]`: an optax optimizer by its name, and the hyperparameters that stay fixed.

    Attributes:
      name: of `optax` or `optax.contrib`.
      hyperparameters: numbers and flags that it takes.
      base: the optimizer that `schedule_free`, `mechanize` and `sam` wrap; `sgd` if none is.
      rates: for the parameters whose path (`1_dense/kernel`) a pattern (`1_dense/*`) matches, by
        how much their rate is multiplied.
    """

    name: str
    hyperparameters: Mapping[str, float | bool] = field(default_factory=dict)
    base: str | None = None
    rates: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        if self.name in REFUSED:
            raise InputError(f"name: {self.name} cannot be swept: {REFUSED[self.name]}")
        require_one_of("name", self.name, OPTIMIZERS)
        if self.base is not None:
            require(self.name in WRAPPERS, "base", self.base, f"left out: {self.name} wraps none")
            require_one_of("base", self.base, [name for name in OPTIMIZERS if name not in WRAPPERS])
        for key, value in self.hyperparameters.items():
            where = f"hyperparameters.{key}"
            require_one_of(where, key, self.keys)
            if key in FLAGS:
                require(isinstance(value, bool), where, value, "true or false")
            else:
                fits = not isinstance(value, bool) and 0 <= value < inf
                require(fits, where, value, "a number that is not negative")
        for pattern, factor in self.rates.items():
            require(0 <= factor < inf, f"rates.{pattern}", factor, "a number that is not negative")

    @property
    def keys(self) -> tuple[str, ...]:
        """The hyperparameters beside the rate, those of the optimizer that it wraps included."""
        wrapped = OPTIMIZERS[self.base or "sgd"] if self.name in WRAPPERS else ()
        return tuple(dict.fromkeys((*OPTIMIZERS[self.name], *wrapped)))


MOST_SETTINGS = 100_000  # values, seeds and measurements: each is a row, and a trial in memory
SHAPES = {
    "decay_share": ("wsd",),
    "end_value": ("cosine", "linear", "wsd"),
    "exponent": ("cosine",),
    "peak_at": ("one_cycle",),
}
"""Numbers that shape a schedule, and the schedules that have them."""
SHAPE_RANGES = {
    "decay_share": (0.0, 1.0, "from 0 to 1"),
    "end_value": (0.0, 1.0, "from 0 to 1"),
    "exponent": (1e-3, 1e3, "a positive number"),
    "peak_at": (1e-3, 1 - 1e-3, "between 0 and 1"),
}


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
      decay_share: share of the steps over which `wsd` falls, 0.2 by default.
      end_value: to what share of the peak `cosine`, `linear` and `wsd` fall, 0 by default.
      exponent: of the cosine, 1 by default.
      peak_at: share of the steps after which `one_cycle` is at its peak, 0.3 by default.
      warmup_steps: steps over which the rate rises linearly from zero first; `one_cycle` already
        has a rise.
      clip_norm: the global norm that a gradient may have; a larger one is scaled down.
      accumulate: gradients averaged into one update.
      metric: what trials are compared by on the validation set: `accuracy`, `r2`, `loss` or one
        of the problem's metrics. Default: `accuracy` for classification, `r2` for regression.
      higher_is_better: whether a higher metric is; known of `accuracy`, `r2` and `loss`.
      target: the metric's value that counts as reached.
      memory: temporary memory that the gradient of one trial may need at most, as text with a unit:
        `8 GiB`; as little is computed again as fits, see `fbp.value_and_grad`. Trials side by side
        need as many times that.
      record: whether the last step before each evaluation is recorded, layer by layer; the other
        steps are compiled as without it. See `fbp.train.recorder`.
    """

    steps: int
    batch_size: int
    evaluate_every: int
    schedule: Literal["constant", "cosine", "linear", "wsd", "one_cycle"] = "constant"
    warmup_steps: int = 0
    clip_norm: float | None = None
    accumulate: int = 1
    metric: str | None = None
    target: float | None = None
    higher_is_better: bool | None = None
    decay_share: float | None = None
    end_value: float | None = None
    exponent: float | None = None
    peak_at: float | None = None
    memory: str | None = None
    record: bool = False

    def __post_init__(self):
        for name in ("steps", "batch_size", "evaluate_every", "accumulate"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
            require(getattr(self, name) < 2**31, name, getattr(self, name), "less than 2^31")
        within_limit = self.steps / self.evaluate_every <= MOST_SETTINGS
        expected = (
            f"{self.steps / MOST_SETTINGS:.3g} or more, so that trials are measured less often"
        )
        require(within_limit, "evaluate_every", self.evaluate_every, expected)
        in_run = 0 <= self.warmup_steps < self.steps
        require(in_run, "warmup_steps", self.warmup_steps, "from 0 to less than steps")
        rises_twice = self.schedule == "one_cycle" and self.warmup_steps > 0
        require(not rises_twice, "warmup_steps", self.warmup_steps, "0 with one_cycle")
        if self.clip_norm is not None:
            require(0 < self.clip_norm < inf, "clip_norm", self.clip_norm, "positive")
        for name, schedules in SHAPES.items():
            value = getattr(self, name)
            if value is not None:
                fits = self.schedule in schedules
                require(
                    fits, name, value, f"left out, but for the schedules {', '.join(schedules)}"
                )
                lowest, highest, expected = SHAPE_RANGES[name]
                require(lowest <= value <= highest, name, value, expected)
        if self.memory is not None:
            parse_bytes(self.memory)

    @property
    def memory_budget(self) -> int | None:
        """The bytes of temporary memory that a gradient may need."""
        return None if self.memory is None else parse_bytes(self.memory)


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
        require(self.count <= MOST_SETTINGS, "count", self.count, f"at most {MOST_SETTINGS:,}")

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
        require(self.trials <= MOST_SETTINGS, "trials", self.trials, f"at most {MOST_SETTINGS:,}")


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
        within_limit = self.trials is None or self.trials <= MOST_SETTINGS
        require(within_limit, "trials", self.trials, f"at most {MOST_SETTINGS:,}")


@dataclass(frozen=True)
class OptunaSearch:
    """`search = { kind = "optuna", trials = 64, ask = 16 }`: Optuna says what to try next.

    Its sampler (TPE) is asked for `ask` combinations, which are trained as one program, and is told
    their means on the validation set; and so on. It takes fbp-jax[optuna], and no axes.

    Attributes:
      trials: how many combinations in all; each is trained with every seed.
      ask: how many at a time.
      seed: of the sampler.
    """

    trials: int
    ask: int = 8
    seed: int = 0

    def __post_init__(self):
        require(self.trials >= 1, "trials", self.trials, "at least 1")
        require(self.trials <= MOST_SETTINGS, "trials", self.trials, f"at most {MOST_SETTINGS:,}")
        require(self.ask >= 1, "ask", self.ask, "at least 1")


SEARCHES = {
    "grid": GridSearch,
    "random": RandomSearch,
    "halving": Halving,
    "optuna": OptunaSearch,
}
Search = GridSearch | RandomSearch | Halving | OptunaSearch


@dataclass(frozen=True)
class Sweep:
    """`[sweep]`: what differs between trials, and how they are run.

    Attributes:
      learning_rate: the rates, a list or `{ low, high, count }`; `{ low, high }` where they are
        drawn.
      seeds: number of seeds; each setting is trained once with each of 0, 1, ...
      hyperparameters: values for other numbers of the optimizer, listed as the rates are.
      rates: values for the factors of `optimizer.rates`, by the pattern of their parameters.
      axes: lists of values for any other key of the config but the steps and what is measured,
        such as `axes.train.batch_size = [32, 64]` or `axes.network.widths = [[16], [64]]`. An
        axis replaces its key. Every combination is a separate program.
      search: which settings are trained, and for how long.
      trials: how they are run: `vmap`, all side by side; `map`, one after another or `batch_size`
        at a time; `seed`, those of one seed, `batch_size` at a time, which share their batches,
        one seed after another; `loop`, the compiled trial called for one after another. Each
        divides the trials over all devices. `auto` takes the fastest, see `fbp.sweep.autotuning`.
      divergence_factor: a trial has diverged, and is stopped, once a loss is not finite, or once
        losses lie above L + (factor - 1) |L|, where L is its validation loss before the first
        step (and |L| at least the size of the first batch's loss): its validation loss once, or
        most of its last training losses, see `fbp.sweep.divergence`.
    """

    learning_rate: Values
    seeds: int
    hyperparameters: Mapping[str, Values] = field(default_factory=dict)
    trials: Literal["auto", "vmap", "seed", "map", "loop"] = "auto"
    batch_size: int = 1
    divergence_factor: float = 100.0
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    search: Search = field(default_factory=GridSearch)
    rates: Mapping[str, Values] = field(default_factory=dict)

    def __post_init__(self):
        drawn = getattr(self.search, "trials", None) is not None
        _require_values("learning_rate", self.learning_rate, drawn, lambda x: x > 0, "positive")
        for name, values in self.hyperparameters.items():
            where = f"hyperparameters.{name}"
            _require_values(where, values, drawn, lambda x: x >= 0, "not negative")
        for pattern, values in self.rates.items():
            _require_values(f"rates.{pattern}", values, drawn, lambda x: x >= 0, "not negative")
        require(self.seeds >= 1, "seeds", self.seeds, "at least 1")
        require(self.seeds <= MOST_SETTINGS, "seeds", self.seeds, f"at most {MOST_SETTINGS:,}")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        if isinstance(self.search, OptunaSearch) and self.axes:
            raise InputError("axes: optuna takes none: give grid, random or halving")
        above_one = 1 < self.divergence_factor < inf
        require(above_one, "divergence_factor", self.divergence_factor, "larger than 1")

        drawn_count = getattr(self.search, "trials", None)
        listed = (self.learning_rate, *self.hyperparameters.values(), *self.rates.values())
        settings = drawn_count or prod(len(values_of(values)) for values in listed)
        within_limit = settings * self.seeds <= MOST_SETTINGS
        require(
            within_limit, "seeds", self.seeds, f"so that there are at most {MOST_SETTINGS:,} trials"
        )

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
    """A whole run: data, network, optimizer, training, and what is compared.

    Attributes:
      name: of the run, and of its directory in `runs` if no other is given.
      data: a data set; or what a module's function returns, see `fbp.sweep.imported`.
      network, optimizer: by their names, or imported.
      train, sweep: how each trial is trained, and what is compared.
      loss, metrics: imported, in place of those that the data set's task has.
      problem: what a module's function returns, in place of data, network, loss and metrics.

    What is None is of a problem that is given as such.
    """

    name: str
    data: Data | Imported | None
    network: Network | Imported | None
    optimizer: Optimizer | Imported | None
    train: Train
    sweep: Sweep
    loss: Imported | None = None
    metrics: Imported | None = None
    problem: Imported | None = None

    def __post_init__(self):
        _require_plain_name(self.name)
        if self.problem is not None:
            for key in ("data", "network", "loss", "metrics"):
                value = getattr(self, key)
                require(value is None, key, value, "left out: the problem has its own")
        for pattern in self.sweep.rates:
            if isinstance(self.optimizer, Optimizer) and pattern in self.optimizer.rates:
                raise InputError(f"sweep.rates.{pattern}: also in optimizer.rates: give it once")
        if not isinstance(self.optimizer, Optimizer):
            return
        numbers = [key for key in self.optimizer.keys if key not in FLAGS]
        for key in self.sweep.hyperparameters:
            where = f"sweep.hyperparameters.{key}"
            require_one_of(where, key, numbers)
            if key in self.optimizer.hyperparameters:
                raise InputError(f"{where}: also in optimizer.hyperparameters: give it once")
        scheduled = self.train.schedule != "constant"
        if self.optimizer.name in SCHEDULE_FREE and scheduled:
            raise InputError(
                f"train.schedule: must be constant for {self.optimizer.name}, whose average takes "
                f"the place of a schedule, got {self.train.schedule!r}"
            )


LONGEST_NAME = 100  # characters: file systems allow 255 bytes


def _require_plain_name(name: str) -> None:
    """Raise InputError unless a name is one plain component of a path."""
    plain = (
        not set(name) & set("/\\\0\n\r") and name.strip() == name and name not in ("", ".", "..")
    )
    fits = plain and name.isprintable() and len(name) <= LONGEST_NAME
    require(fits, "name", name[:LONGEST_NAME], "a plain name of at most 100 characters, no path")


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
