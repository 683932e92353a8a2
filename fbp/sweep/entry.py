"""`run`: a sweep in one call, of a config or of a problem."""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tomli_w

from fbp.config import Config
from fbp.config_file import config_of, problem_config, read_tables
from fbp.errors import InputError
from fbp.hosts import on_first_process
from fbp.records import (
    CONFIG,
    check_available,
    create_run,
    is_complete,
    is_run,
    locked,
    read_environment,
    read_summary,
)
from fbp.shipped import config_path
from fbp.structure import parse_toml, to_toml_values
from fbp.sweep.capacity import check_memory
from fbp.sweep.optuna_search import check_installed
from fbp.sweep.recorded import sweep_studies
from fbp.sweep.source import SweepSource
from fbp.sweep.study import Study, check_gradients, studies_of
from fbp.train.problem import Batches, Problem


def run(
    what: Config | str | Path | Mapping[str, Any] | Problem,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    name: str = "sweep",
    train: Mapping[str, Any] | None = None,
    sweep: Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
    part: str | None = None,
) -> dict[str, Any]:
    """Train every trial of a sweep, record what is measured, and summarize it.

    Args:
      what: the path of a TOML file, its tables, a `Config`; or a `Problem`, of which `train` and
        `sweep` say what is compared.
      out: directory of the run; `runs/NAME` by default.
      resume: continue the run in the directory, if there is one, bit for bit as if it had not been
        interrupted. A complete run's summary is returned.
      overwrite: replace the run in the directory.
      name: of the run, with a `Problem`.
      train: with a `Problem`, the table `[train]` of a config: `steps`, `batch_size`, ...
      sweep: with a `Problem`, the table `[sweep]` of a config: `learning_rate`, `seeds`, ...
      settings: what to set beside a file, as `--set` does, such as `train.steps = 100`.
      part: train this part of the trials alone, such as `3/16`, counted from 0: other processes
        train the others, and `fbp.sweep.merge` makes one run of them.

    Returns:
      The summary, which is also in the directory; of a part, what it took.

    Raises:
      InputError: something does not fit, and nothing was trained; a gradient is wrong; or what is
        measured cannot be written.

    >>> import tempfile
    >>> import jax.numpy as jnp, optax
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)
    >>> line = Problem(
    ...     data={"train": (x, 3 * x), "validation": (x, 3 * x)},
    ...     init=lambda key: jax.random.normal(key),
    ...     loss=lambda w, batch, key: jnp.mean((w * batch[0] - batch[1]) ** 2),
    ...     optimizer=optax.sgd,
    ... )
    >>> summary = run(
    ...     line, out=tempfile.mkdtemp() + "/line",
    ...     train={"steps": 20, "batch_size": 16, "evaluate_every": 10},
    ...     sweep={"learning_rate": [0.01, 0.5], "seeds": 2},
    ... )
    >>> summary["best"]["learning_rate"]
    0.5
    """
    source = source_of(what, name=name, train=train, sweep=sweep, settings=settings)
    directory = Path("runs") / source.config.name if out is None else Path(out)
    if part is not None:
        return _run_part(source, directory, part, resume, overwrite)
    if on_first_process(is_done, source, directory, resume, overwrite):
        return on_first_process(read_summary, directory)
    return run_in(source, directory, overwrite=overwrite)


def _run_part(
    source: SweepSource, directory: Path, part: str, resume: bool, overwrite: bool
) -> dict[str, Any]:
    from fbp.sweep.part import part_of, run_part

    if overwrite:
        raise InputError(
            "overwrite would remove what the other parts wrote: give another directory"
        )
    return run_part(source, directory, *part_of(part), resume=resume)


def run_in(
    source: SweepSource,
    directory: Path,
    *,
    overwrite: bool = False,
    tell: Any = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Run a sweep in a directory that `is_done` has looked at.

    `tell` is called with the studies and the outcome of the gradient check, before training;
    `progress` is whether the status of the training is shown on stderr.
    """
    studies = studies_of(source.config, source.problem)
    check_memory(studies)
    check_installed(source.config)
    with contextlib.ExitStack() as alone:
        on_first_process(lambda: alone.enter_context(locked(directory)))
        check = check_gradients(studies)
        if tell is not None:
            tell(studies, check)
        else:
            on_first_process(_tell_notes, studies)
        if overwrite or not on_first_process(is_run, directory):
            on_first_process(lambda: create_run(directory, source.text, overwrite=overwrite))
        return sweep_studies(source.config, studies, directory, check, progress)


def _tell_notes(studies: Sequence[Study]) -> None:
    for note in studies[0].notes:
        print(f"note: {note}", file=sys.stderr, flush=True)


def is_done(source: SweepSource, directory: Path, resume: bool, overwrite: bool) -> bool:
    """Return whether the run is complete; InputError where this config cannot be run there."""
    if resume and overwrite:
        raise InputError("--resume keeps the run and --overwrite removes it: give one of them")
    if not (resume and is_run(directory)):
        check_available(directory, overwrite)
        return False
    _check_same_config(source, directory / CONFIG)
    if is_complete(directory):
        read_environment(directory)
        read_summary(directory)
        return True
    return False


def source_of(
    what: Config | str | Path | Mapping[str, Any] | Problem,
    *,
    name: str = "sweep",
    train: Mapping[str, Any] | None = None,
    sweep: Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
) -> SweepSource:
    """Return the config of what a caller gives, and how it is written into a run's directory."""
    if isinstance(what, Problem):
        return _of_problem(what, name, train, sweep)
    if train is not None or sweep is not None:
        raise InputError("train and sweep are for a Problem: a config has its own")
    if isinstance(what, str | Path):
        return _of_file(Path(what), settings)
    if settings:
        raise InputError("settings are for a file: change the tables")
    if isinstance(what, Config):
        from fbp.config_file import tables_of

        return _of_tables(what, tables_of(what))
    if isinstance(what, Mapping):
        return _of_tables(config_of(what, "config"), what)
    raise InputError(f"run takes a config, a path or a Problem, not a {type(what).__name__}")


def _of_file(path: Path, settings: Sequence[str]) -> SweepSource:
    tables = read_tables(path, settings)
    config = config_of(tables, str(path))
    text = tomli_w.dumps(tables) if settings else config_path(path).read_text("utf-8-sig")
    return SweepSource(config, tables, text)


def _of_tables(config: Config, tables: Mapping[str, Any]) -> SweepSource:
    plain = to_toml_values(tables)
    return SweepSource(config, plain, tomli_w.dumps(plain))


def _of_problem(
    problem: Problem,
    name: str,
    train: Mapping[str, Any] | None,
    sweep: Mapping[str, Any] | None,
) -> SweepSource:
    for key, table in (("train", train), ("sweep", sweep)):
        if not isinstance(table, Mapping):
            raise InputError(
                f"{key}: a Problem takes this table of a config too: give {key}="
                + ('{"steps": ...}' if key == "train" else '{"learning_rate": [...], "seeds": ...}')
            )
    tables = to_toml_values({"name": name, "train": _with_batch_size(problem, train or {})})
    tables["sweep"] = to_toml_values(sweep or {})
    config = problem_config(tables, name)
    return SweepSource(config, tables, tomli_w.dumps(tables), problem)


def _with_batch_size(problem: Problem, train: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table `train` with the batch size of `Batches`, which have their own."""
    source = problem.parts["train"]
    if not isinstance(source, Batches):
        return dict(train)
    if "batch_size" in train:
        raise InputError("train.batch_size: the batches of data['train'] have theirs: leave it out")
    from fbp.sweep.batches import BatchReader

    batch = BatchReader(source).read(0, 1)
    return {**train, "batch_size": int(np.shape(jax.tree.leaves(batch)[0])[1])}


def _check_same_config(source: SweepSource, path: Path) -> None:
    """Raise InputError, naming the key, where the run there is of another config."""
    recorded = parse_toml(path.read_text(encoding="utf-8-sig"), str(path))
    if _flat(recorded) == _flat(source.tables):
        return
    changed = min(key for key, _ in _items(recorded) ^ _items(source.tables))
    old, new = (_flat(tables).get(changed, "not set") for tables in (recorded, source.tables))
    raise InputError(
        f"{path}: the run there is of another config, {changed} is {old} there and {new} here: "
        "give that config, or another directory"
    )


def _items(tables: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(key, repr(value)) for key, value in _flat(tables).items()}


def _flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
