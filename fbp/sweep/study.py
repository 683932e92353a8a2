"""A study: the trials of one combination of the axes' values, which share a program."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fbp.config import Config, Imported, OptunaSearch
from fbp.config_file import variants_of
from fbp.data import Dataset
from fbp.errors import InputError
from fbp.flops import flops
from fbp.records import COLUMNS
from fbp.report.measures import Measures
from fbp.sweep.grid import Trial, trials_of
from fbp.sweep.parallelism import Parallelism
from fbp.sweep.problem import check_gradient, first_batch, load_problem, name_of, with_settings
from fbp.train.checks import check_runs, check_sizes
from fbp.train.engine import Engine, engine_of, init_of, plain_loss
from fbp.train.extra_args import update_alone
from fbp.train.objective import Objective
from fbp.train.optimizer import optimizer_of
from fbp.train.problem import Problem
from fbp.train.recorder import recorded_update
from fbp.train.user_code import running
from fbp.verify import Agreement


@dataclass(frozen=True)
class Study:
    """Trials that differ in numbers alone.

    Attributes:
      config: the config of these trials, without axes.
      problem: their data and network.
      trials: they have numbers that no other study's have.
      notes: what a reader should know of the problem.
      parallelism: how they run, if that is settled; otherwise it is chosen when they start.
    """

    config: Config
    problem: Problem
    trials: Sequence[Trial]
    notes: Sequence[str] = ()
    parallelism: Parallelism | None = None

    @property
    def engine(self) -> Engine:
        """The functions of one of its trials."""
        optimizer, train = optimizer_of(self.config, self.problem), self.config.train
        record = recorded_update if train.record else None
        return engine_of(self.problem, optimizer, train.memory_budget, record)

    @cached_property
    def step_flops(self) -> float:
        """The floating-point operations of a trial's step, as XLA counts a forward pass.

        A gradient counts as three forward passes.
        """
        params, carried = jax.eval_shape(init_of(self.problem), jax.random.key(0))
        batch = jax.eval_shape(lambda: first_batch(self.problem, self.config.train.batch_size))
        loss = lambda params, carried, *rest: plain_loss(self.problem, carried)(params, *rest)
        return 3 * flops(loss, params, carried, batch, jax.random.key(0))

    @property
    def is_users(self) -> bool:
        """Whether any of its functions is the user's."""
        config = self.problem.config
        if config is None or config.problem is not None or config.loss or config.metrics:
            return True
        return isinstance(config.network, Imported) or isinstance(config.optimizer, Imported)


def studies_of(config: Config, problem: Problem | None = None) -> list[Study]:
    """List the studies of a sweep, one for each combination of its axes' values.

    Args:
      config: what to compare.
      problem: what to train, in place of what the config says. One that `load_problem` made of
        a config is that of the first study, and those of the others are loaded.

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
    by_caller = problem is not None and problem.config is None
    loaded: dict[str, Any] = {}
    if problem is not None and problem.config is not None:
        loaded[repr(problem.config.data)] = problem.data
    if by_caller:
        _check_axes(config)
    studies: list[Study] = []
    for variant in variants_of(config):
        if by_caller and problem is not None:
            current = with_settings(variant.config, problem)
            check_sizes(current, variant.config.train.batch_size, name_of(current))
        else:
            key = repr(variant.config.data)
            current = load_problem(variant.config, loaded.get(key))
            loaded[key] = current.data
        number = sum(len(study.trials) for study in studies)
        trials = trials_of(variant.config.sweep, variant.values, number)
        for study in _by_optimizer(Study(variant.config, current, trials)):
            studies.append(replace(study, notes=[*study.notes, *_notes(study)]))
    if len({study.problem.metric_name for study in studies}) > 1:
        raise InputError("sweep.axes: tables of both tasks cannot be compared: give train.metric")
    return studies


def _by_optimizer(study: Study) -> list[Study]:
    """Return the study; where the user's optimizer must know its numbers, one of each setting.

    `optax.warmup_cosine_decay_schedule` asks whether the rate is zero, which a traced one cannot
    tell.
    """
    optimizer, first = study.problem.optimizer, study.trials[0].hyperparameters
    if optimizer is None or isinstance(study.config.sweep.search, OptunaSearch):
        return [study]

    def trace(numbers: Any, params: Any) -> Any:
        tx = optimizer_of(study.config, study.problem)(numbers)
        return update_alone(tx, params, tx.init(params), params)

    params, _ = jax.eval_shape(init_of(study.problem), jax.random.key(0))
    try:
        with running("optimizer"):
            jax.eval_shape(trace, dict.fromkeys(first, jnp.zeros(())), params)
        return [study]
    except InputError as error:
        if not isinstance(error.__cause__, jax.errors.JAXTypeError):
            return [study]
        note = f"traced, {str(error).rstrip('.')}: each setting makes a program of its own"
    by_setting: dict[Any, list[Trial]] = {}
    for trial in study.trials:
        by_setting.setdefault(tuple(trial.hyperparameters.items()), []).append(trial)
    return [
        replace(
            study,
            problem=replace(study.problem, optimizer=_fixed(optimizer, dict(numbers))),
            trials=trials,
            notes=(note,),
        )
        for numbers, trials in by_setting.items()
    ]


def _fixed(
    optimizer: Callable[..., optax.GradientTransformation], numbers: Mapping[str, float]
) -> Callable[..., optax.GradientTransformation]:
    return lambda **traced: optimizer(**{name: numbers[name] for name in traced})


def _notes(study: Study) -> Sequence[str]:
    """Return what a reader should know; InputError where the user's functions cannot be trained."""
    problem, config = study.problem, study.config
    notes = list(problem.data.notes) if isinstance(problem.data, Dataset) else []
    if study.is_users:
        batch = first_batch(problem, config.train.batch_size)
        notes += check_runs(problem, study.engine, batch, study.trials[0].hyperparameters)
    return notes


def _check_axes(config: Config) -> None:
    """Raise InputError for an axis of what the caller's problem has itself."""
    for key in config.sweep.axes:
        table = key.split(".")[0]
        if table not in ("train", "optimizer"):
            raise InputError(
                f"sweep.axes.{key}: the {table} is that of the Problem: sweep it as a number of "
                "the optimizer, or give the problem by [problem] import = ..."
            )


def measures_of_study(study: Study) -> Measures:
    """Return what is measured of a study's trials."""
    problem = study.problem
    metric, score = problem.metric_name, None
    if isinstance(problem.loss, Objective) and problem.metrics is None:
        columns = ("loss", problem.loss.score)
        higher = problem.is_better_higher
        return Measures(problem.task, metric, higher, problem.loss.score, columns)
    state = study.engine.state_shapes(study.trials[0].hyperparameters)
    metrics = list(jax.eval_shape(study.engine.measure, state, problem.parts["validation"]))
    others = [name for name in metrics if name != "loss"]
    if others:
        score = metric if metric != "loss" else others[0]
    columns = (*metrics, *_recorded_aux(study, state))
    taken = sorted({*columns} & {*COLUMNS, *study.trials[0].setting})
    if taken:
        raise InputError(
            f"{', '.join(taken)}: a column of the records is called so already: give what is "
            "measured another name"
        )
    return Measures(
        problem.task, metric, problem.is_better_higher, score, tuple(dict.fromkeys(columns))
    )


def _recorded_aux(study: Study, state: Any) -> Any:
    """Return the names of the numbers that the loss returns beside itself."""
    if not study.problem.has_aux:
        return ()
    batch = first_batch(study.problem, study.config.train.batch_size)
    update = study.engine.update(study.trials[0].hyperparameters)
    return jax.eval_shape(update, state, batch)[1]


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
    problems = {repr((s.config.network, s.config.data, s.config.problem)): s for s in studies}
    checks = [check_gradient(s.problem, s.config.train.batch_size) for s in problems.values()]
    rounding = tuple(dict.fromkeys(leaf for check in checks for leaf in check.rounding))
    return replace(max(checks, key=lambda check: check.max_ulps), rounding=rounding)
