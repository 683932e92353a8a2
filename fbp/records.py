"""What a run leaves on the disk, written as it is made.

A run's directory holds

- `config.toml`: the run's config, byte for byte if nothing was set on the command line;
- `environment.json`: versions, devices, git commit, time and command;
- `records.jsonl`: one JSON object a line, one line a measurement, written as soon as it is
  made: an interrupted run leaves all that it measured;
- `summary.json`: written last; a run without it was interrupted.

Columns of `records.jsonl`. Every row has

- `kind`: `train` (mean loss over the steps since the trial's last row), `eval` (a measurement
  of the validation set), `diverged` (the trial was stopped) or `test` (the winner's trials, once);
- `trial`: number of the trial, from 0;
- `learning_rate`, and every other swept hyperparameter under its name;
- `seed`: what the trial's parameters, batches and dropout are drawn from;
- `step`: gradients made so far.

`train` has `loss`; `eval` and `test` have `loss`, and `accuracy` or `r2`; `eval` has `split`,
which is `validation`. Losses are cross-entropy in nats, or squared error where the target's
variance on the training set is 1. A number that is not finite is null.
"""

import errno
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from fbp.errors import InputError

CONFIG, ENVIRONMENT, RECORDS, SUMMARY = (
    "config.toml",
    "environment.json",
    "records.jsonl",
    "summary.json",
)
Row = Mapping[str, Any]


def check_free(directory: Path, overwrite: bool) -> None:
    """Raises InputError unless `create_run` may use the directory.

    >>> check_free(Path("fbp"), overwrite=False)
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: fbp: holds files that are not a run's: give another directory
    """
    with _writing(directory):
        present = {path.name for path in directory.iterdir()} if directory.exists() else set()
    if not present:
        return
    if RECORDS not in present:
        raise InputError(f"{directory}: holds files that are not a run's: give another directory")
    if not overwrite:
        raise InputError(f"{directory}: holds a run already: give another, or --overwrite")


def create_run(directory: Path, config: str, *, overwrite: bool = False) -> None:
    """A new run's directory, with its config and its environment.

    Raises InputError where the directory holds a run already (unless `overwrite`, which removes
    that run's own files and nothing else), holds other files, or cannot be written.

    >>> import tempfile
    >>> run = Path(tempfile.mkdtemp()) / "run"
    >>> create_run(run, "name = 'demo'")
    >>> sorted(path.name for path in run.iterdir())
    ['config.toml', 'environment.json', 'records.jsonl']
    """
    check_free(directory, overwrite)
    with _writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for made in (SUMMARY, RECORDS, "report.html", "figures/*.png"):
            for path in directory.glob(made):
                path.unlink()
        (directory / CONFIG).write_text(config, encoding="utf-8")
        (directory / ENVIRONMENT).write_text(_json(environment()) + "\n", encoding="utf-8")
        (directory / RECORDS).touch()


def append_records(directory: Path, rows: Iterable[Row]) -> None:
    """Add rows to a run's records, and hand them to the operating system before returning.

    Raises InputError where they cannot be written; what was written before stays readable.
    """
    lines = "".join(_json(row) + "\n" for row in rows)
    with _writing(directory), (directory / RECORDS).open("a", encoding="utf-8") as file:
        file.write(lines)


def write_summary(directory: Path, summary: Mapping[str, Any]) -> None:
    """Write a run's summary: the run is then complete. Raises InputError where it cannot."""
    with _writing(directory):
        (directory / SUMMARY).write_text(json.dumps(_finite(summary), indent=2) + "\n")


def read_records(directory: Path) -> list[dict[str, Any]]:
    """A run's records; a last row that was cut off is left out.

    >>> import tempfile
    >>> run = Path(tempfile.mkdtemp())
    >>> append_records(run, [{"kind": "train", "loss": float("nan")}])
    >>> read_records(run)
    [{'kind': 'train', 'loss': None}]
    """
    whole = (directory / RECORDS).read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in whole]


def environment() -> dict[str, Any]:
    """What a run's numbers may depend on beside its config."""
    import jax

    devices = jax.devices()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("fbp-jax", "jax", "jaxlib", "optax")},
        },
        "git_commit": _git_commit(),
        "device": {"kind": devices[0].device_kind, "count": len(devices)},
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
    }


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = (
            "free some space; what was recorded before stays readable"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "give a directory that can be written to"
        )
        raise InputError(f"{directory}: {error.strerror}: {advice}") from error


def _json(row: Any) -> str:
    return json.dumps(_finite(row), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _git_commit() -> str | None:
    """The commit of fbp's own source, `+` for local changes; None if it is installed without."""
    describe = ["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    git = ["git", "-C", str(Path(__file__).parent), *describe]
    try:
        found = subprocess.run(git, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
