"""Optuna as a search: it says what to try, some settings at a time, and is told what came of them.

A batch of settings is a study of its own, and all of them share a program. What Optuna said is not
saved: it is asked again for every batch, and told what the records say, which gives the same
settings.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from fbp.config import Config, OptunaSearch, Range, Sweep, Values, values_of
from fbp.errors import InputError
from fbp.hosts import on_first_process
from fbp.records import read_records
from fbp.report.summary import outcomes
from fbp.report.trials import trials
from fbp.sweep.grid import swept_values
from fbp.sweep.runner import Runner
from fbp.sweep.sampling import rounded
from fbp.sweep.study import Study


def check_installed(config: Config) -> None:
    """Raise InputError for a search that takes Optuna, where it is not installed."""
    if isinstance(config.sweep.search, OptunaSearch) and find_spec("optuna") is None:
        raise InputError("sweep.search takes optuna: pip install 'fbp-jax[optuna]'")


def in_batches(config: Config, studies: Sequence[Study]) -> Sequence[Study]:
    """Return a study for each batch of settings that Optuna is asked for; else the studies."""
    search = config.sweep.search
    if not isinstance(search, OptunaSearch):
        return studies
    (study,) = studies
    size = search.ask * config.sweep.seeds
    starts = range(0, len(study.trials), size)
    return [replace(study, trials=study.trials[start : start + size]) for start in starts]


def ask_for_settings(config: Config, runner: Runner, batch: int) -> None:
    """Ask Optuna for the settings of a batch and those before it; of other searches, nothing.

    The batches before it are recorded.
    """
    sweep = config.sweep
    if not isinstance(sweep.search, OptunaSearch) or runner.asked > batch:
        return
    told = on_first_process(_recorded, runner, batch, sweep.seeds)
    asked = on_first_process(asked_settings, sweep, told)
    studies = list(runner.studies)
    for number, settings in enumerate(asked):
        of_batch = studies[number].trials
        drawn = [
            replace(trial, hyperparameters=settings[index // sweep.seeds])
            for index, trial in enumerate(of_batch)
        ]
        studies[number] = replace(studies[number], trials=drawn)
    runner.studies, runner.asked = studies, batch + 1


def asked_settings(sweep: Sweep, told: Sequence[Sequence[float]]) -> list[list[dict[str, float]]]:
    """Return the settings of each batch: those that Optuna has been told of, and the next one.

    Args:
      sweep: what is searched.
      told: of each batch that is trained, a number for each setting; more is better.
    """
    import optuna  # pyright: ignore[reportMissingImports]

    search: Any = sweep.search
    spaces = {name: _space(optuna, values) for name, values in swept_values(sweep).items()}
    batches: list[list[dict[str, float]]] = []
    with _quiet(optuna):
        sampler = optuna.samplers.TPESampler(seed=search.seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for number in range(len(told) + 1):
            count = min(search.ask, search.trials - number * search.ask)
            asked = [study.ask(spaces) for _ in range(count)]
            batches.append([{k: rounded(v) for k, v in trial.params.items()} for trial in asked])
            if number < len(told):
                for trial, outcome in zip(asked, told[number], strict=True):
                    study.tell(trial, outcome)
    return batches


def _recorded(runner: Runner, batch: int, seeds: int) -> list[list[float]]:
    """Return the mean over seeds of each setting of the batches before one, as it is recorded."""
    histories = trials(read_records(runner.directory), runner.measures.columns)
    numbers = [history.number for history in histories]
    by_number = dict(zip(numbers, outcomes(histories, runner.measures), strict=True))
    told = []
    for study in runner.studies[:batch]:
        values = [by_number[trial.number] for trial in study.trials]
        told.append([sum(values[i : i + seeds]) / seeds for i in range(0, len(values), seeds)])
    return told


def _space(optuna: Any, values: Values) -> Any:
    if isinstance(values, Range):
        log = values.scale == "log"
        return optuna.distributions.FloatDistribution(values.low, values.high, log=log)
    return optuna.distributions.CategoricalDistribution(values_of(values))


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Keep Optuna from logging each of its trials: the sweep has a status of its own."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
