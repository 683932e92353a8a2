"""Which trials a sweep has: every setting with every seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fbp.config import Sweep


@dataclass(frozen=True)
class Trial:
    """One training run of a sweep.

    Attributes:
      number: its place in the sweep, from 0.
      seed: what its parameters, batches and dropout are drawn from.
      hyperparameters: its rate, and what else is swept, by name.
    """

    number: int
    seed: int
    hyperparameters: Mapping[str, float]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Grid:
    """All trials as arrays, for a compiled program."""

    seed: Int[Array, " trials"]
    hyperparameters: dict[str, Float[Array, " trials"]]


def trials_of(sweep: Sweep) -> list[Trial]:
    """Every combination of rate, other hyperparameters and seed; the seed varies fastest.

    >>> [(t.hyperparameters["learning_rate"], t.seed) for t in trials_of(Sweep((0.1, 1.0), 2))]
    [(0.1, 0), (0.1, 1), (1.0, 0), (1.0, 1)]
    """
    axes = {"learning_rate": sweep.learning_rates, **sweep.hyperparameters}
    combinations = product(product(*axes.values()), range(sweep.seeds))
    return [
        Trial(number, seed, dict(zip(axes, values, strict=True)))
        for number, (values, seed) in enumerate(combinations)
    ]


def grid_of(trials: Sequence[Trial]) -> Grid:
    """The trials as arrays, in their order."""
    names = trials[0].hyperparameters
    return Grid(
        seed=jnp.asarray([trial.seed for trial in trials], jnp.int32),
        hyperparameters={
            name: jnp.asarray(np.array([trial.hyperparameters[name] for trial in trials]), float)
            for name in names
        },
    )
