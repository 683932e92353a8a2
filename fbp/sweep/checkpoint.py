"""From what an interrupted sweep goes on, bit for bit as if it had not been.

A checkpoint is one NPZ file, replaced at once by the next: it holds the states of all trials and
says how far they are and how many bytes of the records belong to it. Whatever was recorded later
is cut off, and measured again.
"""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.errors import InputError
from fbp.records import CHECKPOINT, cut_records, replace_file, sync_records

PROGRESS = "progress"


@dataclass(frozen=True)
class Checkpoint:
    """A sweep between two stretches.

    Attributes:
      stretches: how many are done.
      trial_steps: how many the trials have made in them.
      kept: numbers of the trials that no search has dropped.
      states: of each variant that has been started, the states of its trials.
    """

    stretches: int
    trial_steps: int
    kept: tuple[int, ...]
    states: Mapping[int, Any]


def save(directory: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint into a run's directory; InputError where it cannot be written."""
    progress = {
        "stretches": checkpoint.stretches,
        "trial_steps": checkpoint.trial_steps,
        "kept": checkpoint.kept,
        "variants": list(checkpoint.states),
        "records_bytes": sync_records(directory),
    }
    arrays = {
        _name(variant, path): np.asarray(_data(leaf))
        for variant, states in checkpoint.states.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(states)
    }
    content = {PROGRESS: np.array(json.dumps(progress)), **arrays}
    replace_file(directory / CHECKPOINT, lambda file: np.savez(file, allow_pickle=False, **content))


def restore(directory: Path, structure_of: Callable[[int], Any]) -> Checkpoint | None:
    """The checkpoint of a run, whose records are cut to what belongs to it; None without one.

    Args:
      directory: the run's.
      structure_of: of a variant, the states of any trials, or their shapes.

    Raises InputError for a checkpoint that is not of these.
    """
    path = directory / CHECKPOINT
    if not path.exists():
        cut_records(directory, 0)
        return None
    try:
        with np.load(path) as file:
            content = dict(file)
        progress = json.loads(str(content[PROGRESS]))
        states = {v: _restored(structure_of(v), v, content) for v in progress["variants"]}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: not a checkpoint of this sweep ({error}): start again with --overwrite"
        ) from error
    cut_records(directory, progress["records_bytes"])
    return Checkpoint(
        progress["stretches"], progress["trial_steps"], tuple(progress["kept"]), states
    )


def _restored(structure: Any, variant: int, content: Mapping[str, np.ndarray]) -> Any:
    def leaf(path: Any, like: Any) -> Any:
        saved = jnp.asarray(content[_name(variant, path)])
        return jax.random.wrap_key_data(saved) if _is_key(like) else saved

    return jax.tree_util.tree_map_with_path(leaf, structure)


def _name(variant: int, path: Any) -> str:
    return f"{variant}{jax.tree_util.keystr(path)}"


def _data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
