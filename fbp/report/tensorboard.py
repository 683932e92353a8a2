"""Write a run's records as TensorBoard events: a directory per trial, a scalar per column."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fbp.errors import InputError
from fbp.report.measures import measures_of
from fbp.report.run_directory import read_run
from fbp.report.trials import Record, TrialHistory, trials, value_text

PARTS = {"train": "training", "eval": "validation", "test": "test"}


def write_events(run: Path, directory: Path) -> Path:
    """Write a run's trials where `tensorboard --logdir` finds them; return the directory.

    Each trial has a directory named by its setting and seed, in it `training/loss`,
    `validation/loss`, `validation/accuracy` or `validation/r2`, and `test/...` against the step,
    and its hyperparameters for the HParams page. The time of an event is when it was written,
    since records have none.

    Args:
      run: the directory that `fbp sweep` wrote.
      directory: of the events, new or empty: a second writing would double every curve.

    Raises:
      InputError: the run is missing or damaged, the directory holds something or cannot be
        written to, or tensorboardX is not installed.
    """
    tensorboardx = _tensorboardx()
    content = read_run(run)
    columns = measures_of(content.summary).columns
    try:
        if directory.exists() and any(directory.iterdir()):
            raise InputError(f"{directory}: holds something: give a new directory")
        for trial in tqdm(
            trials(content.records, columns), desc="tensorboard", unit="trial", disable=None
        ):
            with tensorboardx.SummaryWriter(str(directory / trial_directory(trial))) as events:
                _write_trial(events, trial, columns)
    except OSError as error:
        raise InputError(f"{directory}: {error.strerror}: give another directory") from error
    return directory


def trial_directory(trial: TrialHistory) -> str:
    """Name the directory of a trial, in order of their numbers: `003 learning_rate=0.1 seed=1`."""
    setting = " ".join(f"{name}={value_text(value)}" for name, value in trial.setting)
    return f"{trial.number:03d} {setting} seed={trial.seed}".replace("/", "_")


def scalars(row: Record, columns: Sequence[str] = ("loss", "accuracy", "r2")) -> dict[str, float]:
    """Return the numbers of a record: `{"validation/loss": 0.3, ...}`.

    >>> scalars({"kind": "eval", "step": 10, "loss": 0.3, "accuracy": None})
    {'validation/loss': 0.3}
    """
    part = PARTS[row["kind"]]
    return {f"{part}/{s}": row[s] for s in columns if row.get(s) is not None}


def _write_trial(events: Any, trial: TrialHistory, columns: Sequence[str]) -> None:
    rows = [*trial.training, *trial.evals, *([] if trial.test is None else [trial.test])]
    for row in rows:
        for tag, value in scalars(row, columns).items():
            events.add_scalar(tag, value, row["step"])
    for summary in _tensorboardx().summary.hparams(*_hyperparameters(trial, columns)):
        events.file_writer.add_summary(summary)


def _hyperparameters(
    trial: TrialHistory, columns: Sequence[str]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Return names and values of what was set, and the names of what to show beside them."""
    values = {name: v if isinstance(v, int | float | str) else str(v) for name, v in trial.setting}
    shown = scalars(trial.evals[-1], columns) if trial.evals else {}
    return values | {"seed": trial.seed}, shown


def _tensorboardx() -> Any:
    try:
        import tensorboardX
    except ModuleNotFoundError as error:
        if error.name != "tensorboardX":
            raise
        raise InputError(
            "TensorBoard events are written with tensorboardX, which is not installed: "
            "pip install 'fbp-jax[tensorboard]'"
        ) from error
    return tensorboardX
