"""The trials of a sweep: every setting with every seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fbp.config import GridSearch, Halving, OptunaSearch, Sweep, Values, values_of
from fbp.sweep.sampling import sample_settings
from fbp.train.optimizer import RATE_OF


@dataclass(frozen=True)
class Trial:
    """One training run of a sweep.

    Attributes:
      number: its index in the sweep, from 0.
      seed: what its parameters, batches and dropout are drawn from.
      hyperparameters: its rate, and what else the optimizer's numbers are, by name.
      axes: its values of the axes, by key.
    """

    number: int
    seed: int
    hyperparameters: Mapping[str, float]
    axes: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def setting(self) -> Mapping[str, float | str]:
        """All hyperparameters and axes in which it may differ from another trial of its seed."""
        return {**self.hyperparameters, **self.axes}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Grid:
    """All trials as arrays, for a compiled program."""

    seed: Int[Array, " trials"]
    hyperparameters: dict[str, Float[Array, " trials"]]


def trials_of(
    sweep: Sweep, axes: Mapping[str, float | str] | None = None, first: int = 0
) -> list[Trial]:
    """List every setting with every seed; the seed varies fastest.

    Args:
      sweep: settings are every combination of its rates and other hyperparameters, or those
        that its search draws; with Optuna, first values stand for what it will say.
      axes: the values of the sweep's axes that these trials have.
      first: number of the first trial.

    >>> [(t.hyperparameters["learning_rate"], t.seed) for t in trials_of(Sweep((0.1, 1.0), 2))]
    [(0.1, 0), (0.1, 1), (1.0, 0), (1.0, 1)]
    """
    combinations = product(_settings(sweep), range(sweep.seeds))
    return [
        Trial(number, seed, setting, axes or {})
        for number, (setting, seed) in enumerate(combinations, start=first)
    ]


def grid_of(trials: Sequence[Trial]) -> Grid:
    """Return the trials as arrays, in their order."""
    names = trials[0].hyperparameters
    return Grid(
        seed=jnp.asarray([trial.seed for trial in trials], jnp.int32),
        hyperparameters={
            name: jnp.asarray(np.array([trial.hyperparameters[name] for trial in trials]), float)
            for name in names
        },
    )


def swept_values(sweep: Sweep) -> dict[str, Values]:
    """Return the values of everything that is traced in a trial, by name."""
    factors = {RATE_OF + pattern: values for pattern, values in sweep.rates.items()}
    return {"learning_rate": sweep.learning_rate, **sweep.hyperparameters, **factors}


def _settings(sweep: Sweep) -> list[dict[str, float]]:
    search, values = sweep.search, swept_values(sweep)
    if isinstance(search, GridSearch) or (isinstance(search, Halving) and search.trials is None):
        combinations = product(*map(values_of, values.values()))
        return [dict(zip(values, combination, strict=True)) for combination in combinations]
    if isinstance(search, OptunaSearch):
        first = {name: values_of(listed)[0] for name, listed in values.items()}
        return [first] * search.trials
    return sample_settings(values, search.trials or 0, search.seed)
