"""What a run leaves on the disk, written as it is made.

A run's directory holds

- `config.toml`: the run's config, byte for byte if nothing was set on the command line;
- `environment.json`: versions, devices, git commit, time and command, and how trials were run;
- `records.jsonl`: one JSON object a line, one line a measurement, written as soon as it is
  made: an interrupted run leaves all that it measured;
- `checkpoints`: from which an interrupted run resumes, see `fbp.sweep.progress`;
- `summary.json`: written last; a run without it was interrupted;
- `lock`: held by the process that writes here;
- `part.json`: in the directory of one part of a divided sweep, see `fbp.sweep.part`.

Columns of `records.jsonl`. Every row has

- `kind`: `train` (mean loss over the steps since the trial's last row), `eval` (a measurement
  of the validation set), `diverged` (the trial was stopped), `test` (the winner's trials, once), or
  `layers` (what the step did to each layer, where `train.record` is set);
- `trial`: number of the trial, from 0;
- `learning_rate`, and every other swept hyperparameter under its name; an axis under its key,
  such as `train.batch_size`: a number, or a string such as `cosine`, the same kind in all rows;
- `seed`: what the trial's parameters, batches and dropout are drawn from;
- `step`: gradients made so far.

`train` has `loss`; `eval` and `test` have `loss`, and `accuracy` or `r2`; `eval` has `split`,
which is `validation`; `layers` has `layers`, numbers by measure and layer, which
`fbp.recording.recordings` reads. A trial that a search has dropped has no further rows. Losses are
cross-entropy in nats, or squared error where the target's variance on the training set is 1. A
number that is not finite is null.
"""

import errno
import hashlib
import json
import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fbp.errors import InputError
from fbp.recording import LAYERS

CONFIG, ENVIRONMENT, RECORDS, SUMMARY, CHECKPOINTS, LOCK = (
    "config.toml",
    "environment.json",
    "records.jsonl",
    "summary.json",
    "checkpoints",
    "lock",
)
PART = "part.json"
UNFINISHED = ".part"
FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_DEFAULT_MATMUL_PRECISION", "JAX_ENABLE_X64")
BEFORE_RECORDS = {LOCK, *(n + end for n in (CONFIG, ENVIRONMENT) for end in ("", UNFINISHED))}
COLUMNS = ("kind", "trial", "seed", "step", "split")
"""Columns of the records that say of what a row is."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Row = Mapping[str, Any]


def check_available(directory: Path, overwrite: bool) -> None:
    """Raise InputError unless `create_run` may use the directory.

    >>> check_available(Path("fbp"), overwrite=False)
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: fbp: holds files that are not a run's: give another directory
    """
    with writing(directory):
        present = {path.name for path in directory.iterdir()} if directory.exists() else set()
    if present <= BEFORE_RECORDS:
        return
    if RECORDS not in present:
        raise InputError(f"{directory}: holds files that are not a run's: give another directory")
    if not overwrite:
        raise InputError(
            f"{directory}: holds a run already: give another, or --overwrite; --resume goes on "
            "with one that was interrupted"
        )


def create_run(directory: Path, config: str, *, overwrite: bool = False) -> None:
    """Create a new run's directory, with its config and its environment.

    Raises InputError where the directory holds a run already (unless `overwrite`, which removes
    that run's files and nothing else), holds other files, or cannot be written.

    >>> import tempfile
    >>> run = Path(tempfile.mkdtemp()) / "run"
    >>> create_run(run, "name = 'demo'")
    >>> sorted(path.name for path in run.iterdir())
    ['config.toml', 'environment.json', 'records.jsonl']
    """
    check_available(directory, overwrite)
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        _remove_checkpoints(directory)
        patterns = (SUMMARY, f"*{UNFINISHED}", RECORDS, "report.html", "figures/*.png")
        for pattern in patterns:
            for path in directory.glob(pattern):
                path.unlink()
    write_atomic(directory / CONFIG, config.encode())
    write_atomic(directory / ENVIRONMENT, (to_json(environment()) + "\n").encode())
    with writing(directory):
        (directory / RECORDS).touch()


def is_run(directory: Path) -> bool:
    """Return whether the directory holds a run, complete or not."""
    with writing(directory):
        return (directory / RECORDS).exists()


def is_complete(directory: Path) -> bool:
    """Return whether the directory holds a run that is complete."""
    with writing(directory):
        return (directory / SUMMARY).exists()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock the run against other writers; the directory is made if it is missing.

    Raises InputError where another process holds the lock. The operating system releases it
    when a process ends, however it ends.
    """
    lock = FileLock(directory / LOCK, timeout=0)
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(
                f"{directory}: another sweep is writing here: wait for it, or give another "
                "directory"
            ) from None
    try:
        yield
    finally:
        lock.release()


def append_records(directory: Path, rows: Iterable[Row]) -> None:
    """Add rows to a run's records, and hand them to the operating system before returning.

    Raises InputError where they cannot be written; what was written before stays readable.
    """
    lines = "".join(to_json(row) + "\n" for row in rows)
    with writing(directory), (directory / RECORDS).open("a", encoding="utf-8") as file:
        file.write(lines)


def sync_records(directory: Path) -> int:
    """Write a run's records through to the disk; return how many bytes they have."""
    with writing(directory), (directory / RECORDS).open("rb") as file:
        os.fsync(file.fileno())
        return file.seek(0, os.SEEK_END)


def records_digest(directory: Path, length: int | None = None) -> str:
    """Return the SHA-256 of the first `length` bytes of a run's records, of all by default."""
    with writing(directory), (directory / RECORDS).open("rb") as file:
        return hashlib.sha256(file.read(-1 if length is None else length)).hexdigest()


def check_records(directory: Path, length: int, digest: str) -> None:
    """Raise InputError unless a run's records begin with those that a checkpoint belongs to.

    Args:
      directory: the run's.
      length: how many bytes of records belong to the checkpoint.
      digest: their SHA-256.
    """
    path = directory / RECORDS
    advice = "bring back a copy, or run the sweep again, with --overwrite"
    with writing(directory):
        content = path.read_bytes()
    if len(content) < length:
        raise InputError(
            f"{path}: shortened to {len(content)} bytes, {length} belong to the last checkpoint: "
            f"{advice}"
        )
    if hashlib.sha256(content[:length]).hexdigest() != digest:
        raise InputError(f"{path}: altered before byte {length} since it was written: {advice}")
    for line in content[length:].split(b"\n")[:-1]:
        if not _is_row(line):
            raise InputError(f"{path}: what follows byte {length} is no record: {advice}")


def check_summarized(directory: Path, summary: Mapping[str, Any]) -> None:
    """Raise InputError if the records of a complete run are not those that its summary is of."""
    if summary.get("records_sha256") not in (None, records_digest(directory)):
        raise InputError(
            f"{directory / RECORDS}: altered since the run was complete: bring back a copy, or run "
            "the sweep again, with --overwrite"
        )


def _is_row(line: bytes) -> bool:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and "kind" in row


def truncate_records(directory: Path, length: int) -> None:
    """Truncate a run's records to their first `length` bytes."""
    with writing(directory):
        os.truncate(directory / RECORDS, length)


def read_part(directory: Path) -> dict[str, Any]:
    """Read what a run says of itself as a part of a divided sweep; empty where it is none.

    >>> read_part(Path("fbp"))
    {}
    """
    path = directory / PART
    return read_object(path, "run this part again") if path.exists() else {}


def read_summary(directory: Path) -> dict[str, Any]:
    """Read a run's summary; InputError where it is damaged, or its records are others now."""
    summary = read_object(directory / SUMMARY, "remove it, so that the run is summarized again")
    check_summarized(directory, summary)
    return summary


def add_to_environment(directory: Path, facts: Mapping[str, Any]) -> None:
    """Write facts into a run's environment, over those of the same names."""
    present = read_environment(directory)
    write_atomic(directory / ENVIRONMENT, (to_json({**present, **facts}) + "\n").encode())


def read_environment(directory: Path) -> dict[str, Any]:
    """Read a run's environment, as `environment` described it."""
    return read_object(directory / ENVIRONMENT, "bring back a copy, or run the sweep again")


def read_object(path: Path, advice: str) -> dict[str, Any]:
    """Read a JSON file that holds an object; InputError, with the advice, where it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({error}): {advice}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: damaged, it holds no object: {advice}")
    return content


def write_summary(directory: Path, summary: Mapping[str, Any]) -> None:
    """Write a run's summary: the run is then complete. Raises InputError where it cannot."""
    write_atomic(directory / SUMMARY, (to_json(summary, indent=2) + "\n").encode())
    with writing(directory):
        _remove_checkpoints(directory)


def _remove_checkpoints(directory: Path) -> None:
    if (directory / CHECKPOINTS).exists():
        shutil.rmtree(directory / CHECKPOINTS)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file atomically: whatever happens, it holds the old content or the new one.

    Raises InputError where it cannot be written; the old content is then still there.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    with writing(path.parent):
        try:
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        unfinished.replace(path)


def read_records(directory: Path) -> list[dict[str, Any]]:
    """Read a run's records; a last row that was cut off is left out.

    >>> import tempfile
    >>> run = Path(tempfile.mkdtemp())
    >>> append_records(run, [{"kind": "train", "loss": float("nan")}])
    >>> read_records(run)
    [{'kind': 'train', 'loss': None}]
    """
    lines = (directory / RECORDS).read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def table(run: Path | str) -> Any:
    """Return a run's records as a dataframe, of polars or of pandas, whichever is installed.

    Args:
      run: the run's directory.

    Returns:
      A dataframe with a row for each record but those of layers, which
      `fbp.recording.recordings` reads; what a record does not have is null.

    Raises:
      InputError: neither is installed, or the records cannot be read.

    >>> import tempfile
    >>> run = Path(tempfile.mkdtemp())
    >>> append_records(run, [{"kind": "train", "loss": 0.5}, {"kind": "eval", "loss": 0.25}])
    >>> table(run).shape
    (2, 2)
    """
    try:
        rows = [row for row in read_records(Path(run)) if row["kind"] != LAYERS]
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{run}: its records cannot be read: {error}") from error
    if find_spec("polars"):
        return import_module("polars").DataFrame(rows, infer_schema_length=None)
    if find_spec("pandas"):
        return import_module("pandas").DataFrame(rows)
    raise InputError("a table takes polars or pandas: pip install 'fbp-jax[tables]'")


def is_locked(directory: Path) -> bool:
    """Return whether a process is writing to a run's directory."""
    lock = FileLock(directory / LOCK, timeout=0)
    if not (directory / LOCK).exists():
        return False
    try:
        with lock:
            return False
    except (Timeout, OSError):
        return True


def environment() -> dict[str, Any]:
    """Describe what a run's numbers may depend on beside its config."""
    import jax

    devices = jax.devices()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("fbp-jax", "jax", "jaxlib", "optax")},
        },
        "git_commit": _git_commit(),
        "device": {"kind": devices[0].device_kind, "count": len(devices)},
        "flags": {name: os.environ[name] for name in FLAGS if name in os.environ},
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
    }


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Raise InputError, saying what to do, where a run's directory cannot be written."""
    try:
        yield
    except OSError as error:
        advice = (
            "free some space; what was recorded before stays readable, and --resume goes on"
            if error.errno in FULL
            else "give a directory that can be written to"
        )
        raise InputError(f"{directory}: {error.strerror}: {advice}") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{str(directory)!r} is no path ({error}): give another") from error


def to_json(value: Any, indent: int | None = None) -> str:
    """Serialize values as JSON; a number that is not finite is null.

    >>> to_json({"losses": (1.0, float("inf"))})
    '{"losses": [1.0, null]}'
    """
    return json.dumps(_finite(value), allow_nan=False, indent=indent)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _git_commit() -> str | None:
    """Return the commit of fbp's source, `+` for local changes; None if it is installed without."""
    describe = ["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    git = ["git", "-C", str(Path(__file__).parent), *describe]
    try:
        completed = subprocess.run(git, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return completed.stdout.strip()
