"""The trials of one combination of the axes' values: they share a program."""

from collections.abc import Sequence
from dataclasses import dataclass

from fbp.config import Config
from fbp.config_file import variants_of
from fbp.data import Dataset
from fbp.errors import InputError
from fbp.sweep.grid import Trial, trials_of
from fbp.sweep.problem import Problem, check_gradient, problem_of
from fbp.verify import Agreement


@dataclass(frozen=True)
class Cohort:
    """Trials that differ in numbers alone.

    Attributes:
      config: the config of these trials, without axes.
      problem: their data and network.
      trials: they have numbers that no other cohort's have.
    """

    config: Config
    problem: Problem
    trials: Sequence[Trial]


def cohorts_of(config: Config, first: Problem | None = None) -> list[Cohort]:
    """The cohorts of a sweep, one for each combination of its axes' values.

    Args:
      config: what to compare.
      first: the problem of the first one, if it is there already.

    Raises InputError where the values of an axis make no problem, or one that is compared by
    another metric.
    """
    cohorts: list[Cohort] = []
    loaded: dict[object, Dataset] = {} if first is None else {config.data: first.dataset}
    for variant in variants_of(config):
        own = variant.config
        problem = problem_of(own, loaded.get(own.data))
        loaded[own.data] = problem.dataset
        number = sum(len(cohort.trials) for cohort in cohorts)
        cohorts.append(Cohort(own, problem, trials_of(own.sweep, variant.values, number)))
    if len({cohort.problem.metric for cohort in cohorts}) > 1:
        raise InputError("sweep.axes: tables of both tasks cannot be compared: give train.metric")
    return cohorts


def check_gradients(cohorts: Sequence[Cohort]) -> Agreement:
    """`check_gradient` for every network and data set of a sweep: the largest difference.

    Raises InputError where one is wrong.
    """
    problems = {(c.config.network, c.config.data): c.problem for c in cohorts}
    return max(map(check_gradient, problems.values()), key=lambda check: check.max_ulps)
