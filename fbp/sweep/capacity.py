"""Whether the states of all trials can be in memory, before anything is allocated."""

import os
from collections.abc import Sequence
from pathlib import Path

import jax

from fbp.errors import InputError
from fbp.sweep.study import Study

CGROUP_LIMITS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"


def check_memory(studies: Sequence[Study]) -> None:
    """Raise InputError where the states of all trials take more memory than there is.

    These are the parameters and what the optimizer and the loss carry. All of them stay in memory,
    whichever way the trials run; the steps take more.
    """
    present = memory_bytes()
    needed = sum(len(study.trials) * state_bytes(study) for study in studies)
    if present is None or needed <= present:
        return
    largest = max(studies, key=state_bytes)
    raise InputError(
        f"the states of all trials take {_gigabytes(needed)}, that of one {largest.config.name} "
        f"{_gigabytes(state_bytes(largest))}, and there is {_gigabytes(present)} of memory: give a "
        "smaller network, or fewer rates and seeds"
    )


def state_bytes(study: Study) -> int:
    """Return the bytes of a trial's state, traced on shapes."""
    state = study.engine.state_shapes(study.trials[0].hyperparameters)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def memory_bytes() -> int | None:
    """Return the memory of all devices, on a CPU that of the machine; None where it is unknown.

    >>> memory_bytes() > 1 << 28
    True
    """
    devices = jax.devices()
    if devices[0].platform != "cpu":
        limit = (devices[0].memory_stats() or {}).get("bytes_limit")
        return None if limit is None else limit * len(devices)
    limits = [int(text) for text in map(_read, CGROUP_LIMITS) if text.isdigit()]
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=0) * jax.process_count() or None


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB"
