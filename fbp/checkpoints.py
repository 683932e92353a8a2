"""Numbered checkpoints in a directory: sharded, asynchronous, atomic, verified.

Orbax writes them; `docs/checkpoints.md` describes what is on the disk.
"""

import hashlib
import json
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from fbp.errors import InputError
from fbp.hosts import broadcast, on_first_process

KEEP = 2  # the last ones: should the newest be damaged, the one before is intact
SAVING = 0.1  # the share of the time that writing may take: a run slows down by a tenth at most
CHECKSUMS = "checksums.json"
LATER = ("_CHECKPOINT_METADATA", "commit_success.txt")  # Orbax writes them after the checksums


@dataclass(frozen=True)
class Restored:
    """The content of a checkpoint.

    Attributes:
      number: the checkpoint's.
      tree: its arrays, in the structure that was asked for.
      facts: what was saved beside them.
    """

    number: int
    tree: Any
    facts: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run: the last two and, where they have losses, that of the lowest.

    A context, at whose end what is being written is on the disk. On entering, damaged and
    half-written checkpoints are removed, with a warning. All processes of a run enter it, in
    one directory that they share.

    Raises InputError where every checkpoint is damaged, nothing is removed then, and where the
    directory cannot be written.

    >>> import tempfile
    >>> directory = Path(tempfile.mkdtemp())
    >>> with Checkpoints(directory) as checkpoints:
    ...     checkpoints.save(10, {"w": jnp.arange(3)}, {"history": [0.5]})
    >>> with Checkpoints(directory) as checkpoints:
    ...     restored = checkpoints.restore(lambda facts: {"w": jnp.zeros(3, int)})
    >>> print(restored.number, restored.tree["w"], restored.facts)
    10 [0 1 2] {'history': [0.5]}
    """

    def __init__(self, directory: Path, *, losses: bool = False):
        self._directory = directory.absolute()
        self._losses = losses
        self._number = -1
        self._began = self._ended = 0.0

    def __enter__(self) -> "Checkpoints":
        on_first_process(_remove_damaged, self._directory)
        with _writing(self._directory):
            self._manager = _manager(self._directory, self._losses, self._finish)
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None or jax.process_count() == 1:
            with _writing(self._directory):
                self._manager.close()

    def due(self) -> bool:
        """Return whether to write another one: the last took at most a tenth of the time since."""
        now = time.perf_counter()
        return broadcast(min(self._ended, now) - self._began <= SAVING * (now - self._began))

    def save(
        self, number: int, tree: Any, facts: Mapping[str, Any], loss: float | None = None
    ) -> None:
        """Write a checkpoint, whose number is larger than those before.

        Returns when the arrays may be donated; the files are written meanwhile.

        Args:
          number: counts steps, or whatever the run is divided into.
          tree: a pytree of arrays, typed keys included. In a run of many processes they are
            global arrays, or the same on every process.
          facts: anything that JSON can hold; of the first process.
          loss: the checkpoint of the lowest one is preserved.

        Raises:
          InputError: this checkpoint, or the last one, cannot be written.
        """
        from orbax.checkpoint import args

        arrays = {name: _data(leaf) for name, leaf in _named(tree).items()}
        items = {"arrays": args.StandardSave(arrays)} if arrays else {}
        metrics = {} if loss is None else {"metrics": {"loss": loss}}
        with _writing(self._directory):
            self._manager.wait_until_finished()
            self._number, self._began = number, time.perf_counter()
            self._ended = float("inf")
            composite = args.Composite(facts=args.JsonSave(dict(facts)), **items)
            self._manager.save(number, args=composite, force=True, **metrics)

    def facts(self) -> dict[str, Any] | None:
        """Return what was saved beside the arrays of the last checkpoint; None if there is none."""
        from orbax.checkpoint import args

        number = self._manager.latest_step()
        if number is None:
            return None
        return self._manager.restore(number, args=args.Composite(facts=args.JsonRestore()))["facts"]

    def restore(
        self, like: Callable[[dict[str, Any]], Any], *, resized: bool = False
    ) -> Restored | None:
        """Restore the last checkpoint; None if there is none.

        Args:
          like: from the facts, a tree of arrays or of `jax.ShapeDtypeStruct`: what is restored
            has its structure, shapes, dtypes and shardings, whatever the shardings were.
          resized: allow first dimensions that differ from the saved ones: what is too long is
            cut off, what is missing is zero.

        Returns:
          The checkpoint's content.

        Raises:
          InputError: the checkpoint does not have these arrays.
        """
        from orbax.checkpoint import args

        number = self._manager.latest_step()
        if number is None:
            return None
        read = lambda **items: self._manager.restore(number, args=args.Composite(**items))
        facts = self.facts() or {}
        tree = like(facts)
        shapes = {name: _shape(leaf) for name, leaf in _named(tree).items()}
        metadata = self._manager.item_metadata(number)["arrays"] if shapes else {}
        _check(self._directory / str(number), metadata, shapes, resized)
        arrays = args.StandardRestore(shapes, strict=False)
        saved = read(arrays=arrays)["arrays"] if shapes else {}
        return Restored(number, _rebuilt(tree, saved), facts)

    def _finish(self) -> None:
        """Write the checksums of a checkpoint whose files are all written, before its rename."""
        (unfinished,) = self._directory.glob(f"{self._number}.orbax-checkpoint-tmp*")
        (unfinished / CHECKSUMS).write_text(json.dumps(_checksums(unfinished), indent=1))
        self._ended = time.perf_counter()


def _manager(directory: Path, losses: bool, finish: Callable[[], None]) -> Any:
    import orbax.checkpoint as ocp
    from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

    loss = lambda metrics: metrics["loss"]
    best = [BestN(get_metric_fn=loss, reverse=True, n=1)] if losses else []
    options = ocp.CheckpointManagerOptions(
        best_fn=loss if losses else None,
        best_mode="min",
        preservation_policy=AnyPreservationPolicy([LatestN(KEEP), *best]),
        cleanup_tmp_directories=True,
        async_options=ocp.AsyncOptions(post_finalization_callback=finish),
    )
    handlers = {"arrays": ocp.StandardCheckpointHandler(), "facts": ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager(directory, options=options, item_handlers=handlers)


def _remove_damaged(directory: Path) -> None:
    steps = [path for path in directory.glob("*") if path.name.isdecimal()]
    damage = {path: _damage(path) for path in sorted(steps, key=lambda path: int(path.name))}
    damaged = [path for path in damage if damage[path]]
    if damaged and len(damaged) == len(steps):
        raise InputError(
            f"{directory}: every checkpoint is damaged ({damage[damaged[-1]]}): bring back a copy, "
            "or remove them and start again"
        )
    for path in damaged:
        warnings.warn(
            f"{path}: this checkpoint is damaged ({damage[path]}) and is removed: another is used",
            stacklevel=2,
        )
        with _writing(directory):
            shutil.rmtree(path)


def _damage(checkpoint: Path) -> str | None:
    """Say what is wrong with the files of a checkpoint."""
    try:
        expected = json.loads((checkpoint / CHECKSUMS).read_text())
        actual = _checksums(checkpoint)
    except (OSError, ValueError):
        return f"{CHECKSUMS} cannot be read"
    changed = {name for name, _ in expected.items() ^ actual.items()}
    return f"{min(changed)} is not as it was written" if changed else None


def _checksums(checkpoint: Path) -> dict[str, str]:
    """Return the SHA-256 of each file, by its path in the checkpoint."""
    left_out = {checkpoint / name for name in (CHECKSUMS, *LATER)}
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    return {
        path.relative_to(checkpoint).as_posix(): _sha256(path)
        for path in files
        if path not in left_out
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Raise InputError where Orbax, whose storage raises a ValueError, cannot write."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise InputError(
            f"{directory}: a checkpoint cannot be written ({error}): free some space, or give a "
            "directory that can be written to; the checkpoints before it stay"
        ) from error


def _check(
    checkpoint: Path, actual: Mapping[str, Any], expected: Mapping[str, Any], resized: bool
) -> None:
    """Raise InputError unless a checkpoint has the arrays that are expected, and no others."""
    first = 1 if resized else 0
    described = lambda leaf: f"{np.dtype(leaf.dtype)}{list(leaf.shape[first:])}"
    have = {name: described(leaf) for name, leaf in actual.items()}
    want = {name: described(leaf) for name, leaf in expected.items()}
    if have != want:
        name = min(name for name, _ in have.items() ^ want.items())
        raise InputError(
            f"{checkpoint}: {name} is {have.get(name, 'missing')} in the checkpoint and "
            f"{want.get(name, 'missing')} here: it is of another run; give another directory"
        )


def _named(tree: Any) -> dict[str, Any]:
    """Return the leaves that hold anything, by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if np.size(leaf)}


def _data(leaf: Any) -> Any:
    """Return what is saved of a leaf."""
    if _is_key(leaf):
        return jax.random.key_data(leaf)
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    """Return the shape of what is saved of a leaf, with its sharding."""
    sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
    data = jax.eval_shape(_data, leaf)
    return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=sharding)


def _rebuilt(tree: Any, saved: Mapping[str, Any]) -> Any:
    def leaf(path: Any, like: Any) -> Any:
        name = jax.tree_util.keystr(path)
        data = saved[name] if name in saved else jnp.zeros(like.shape, like.dtype)
        return jax.random.wrap_key_data(data) if _is_key(like) else data

    return jax.tree_util.tree_map_with_path(leaf, tree)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
