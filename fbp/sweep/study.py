"""A study: the trials of one combination of the axes' values, which share a program."""

from collections.abc import Sequence
from dataclasses import dataclass

from fbp.config import Config
from fbp.config_file import variants_of
from fbp.data import Dataset
from fbp.errors import InputError
from fbp.sweep.grid import Trial, trials_of
from fbp.sweep.problem import SweepProblem, check_gradient, load_problem
from fbp.verify import Agreement


@dataclass(frozen=True)
class Study:
    """Trials that differ in numbers alone.

    Attributes:
      config: the config of these trials, without axes.
      problem: their data and network.
      trials: they have numbers that no other study's have.
    """

    config: Config
    problem: SweepProblem
    trials: Sequence[Trial]


def studies_of(config: Config, first: SweepProblem | None = None) -> list[Study]:
    """List the studies of a sweep, one for each combination of its axes' values.

    Args:
      config: what to compare.
      first: the problem of the first one, if it is loaded already.

    Returns:
      The studies, the last axis varying fastest.

    Raises:
      InputError: the values of an axis make no problem, or one that is compared by another metric.

    >>> from pathlib import Path
    >>> from fbp.config_file import load_config
    >>> studies = studies_of(load_config(Path("configs/digits_mlp.toml"), ["sweep.seeds = 2"]))
    >>> [len(study.trials) for study in studies]
    [26]
    """
    studies: list[Study] = []
    loaded: dict[object, Dataset] = {} if first is None else {config.data: first.dataset}
    for variant in variants_of(config):
        data, sweep = variant.config.data, variant.config.sweep
        problem = load_problem(variant.config, loaded.get(data))
        loaded[data] = problem.dataset
        number = sum(len(study.trials) for study in studies)
        studies.append(Study(variant.config, problem, trials_of(sweep, variant.values, number)))
    if len({study.problem.metric for study in studies}) > 1:
        raise InputError("sweep.axes: tables of both tasks cannot be compared: give train.metric")
    return studies


def check_gradients(studies: Sequence[Study]) -> Agreement:
    """Compare the gradients of every network and data set of a sweep with `jax.grad`'s.

    Returns:
      The largest difference, see `check_gradient`.

    Raises:
      InputError: one of them is wrong.

    >>> from pathlib import Path
    >>> from fbp.config_file import load_config
    >>> check_gradients(studies_of(load_config(Path("configs/digits_mlp.toml")))).agrees
    True
    """
    problems = {(c.config.network, c.config.data): c.problem for c in studies}
    return max(map(check_gradient, problems.values()), key=lambda check: check.max_ulps)
