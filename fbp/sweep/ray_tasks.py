"""All parts of a divided sweep as tasks of Ray, which starts a task again whose process dies.

Ray's workers see one directory, as processes of `--part` do. A task that starts again goes on from
its part's last checkpoint, and its records are those of a task that was not killed.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fbp.errors import InputError
from fbp.sweep.division import PLAN, check_divisible, read_plan
from fbp.sweep.source import SweepSource

RETRIES = 3  # times that a task is started again after its process has died
MEMORY = 0.9  # of a task's share of a GPU: JAX takes it at the start


def run_with_ray(
    source: SweepSource,
    directory: Path,
    parts: int | None = None,
    *,
    cpus: int = 1,
    gpus: float = 0.0,
    retries: int = RETRIES,
    say: Callable[[str], None] = lambda *_: None,
) -> dict[str, Any]:
    """Train all parts of a sweep as tasks of Ray, merge them, and return the summary.

    Parts that are complete are not trained again. Without a cluster that runs, Ray starts one of
    this machine.

    Args:
      source: what is swept.
      directory: of the run, which every machine of the cluster sees.
      parts: how many tasks; by default as the plan in the directory says, or as many as the cluster
        runs at a time.
      cpus: cores of each; a task without GPUs has as many devices.
      gpus: GPUs of each. A fraction lets tasks share one; this was not tried.
      retries: how often a task is started again whose process has died.
      say: called with what has been done.

    Raises:
      InputError: the sweep cannot be divided so, a task fails, or its process dies too often.
    """
    import ray  # pyright: ignore[reportMissingImports]

    check_divisible(source.config)
    if not ray.is_initialized():
        ray.init(include_dashboard=False)
    if parts is None:
        planned = (directory / PLAN).exists()
        parts = read_plan(directory).parts if planned else _slots(ray, cpus, gpus)
    resources = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": retries}
    train, finish = ray.remote(**resources)(_train), ray.remote(**resources)(_merge)
    shared, devices = str(directory.absolute()), None if gpus else cpus
    tasks = {
        train.options(name=f"part {index}").remote(
            source, shared, index, parts, devices, gpus
        ): index
        for index in range(parts)
    }
    lost: dict[int, str] = {}
    waiting = list(tasks)
    while waiting:
        (done, *_), waiting = ray.wait(waiting)
        outcome = _outcome(ray, done)
        if isinstance(outcome, str):
            lost[tasks[done]] = outcome
        say(f"part {tasks[done]}: {outcome if isinstance(outcome, str) else _told(outcome)}")
    if lost:
        index, reason = min(lost.items())
        numbers = ", ".join(map(str, sorted(lost)))
        raise InputError(
            f"{directory}: lost parts: {numbers} of {parts}; part {index}: {reason}; --resume runs "
            "them again"
        )
    summary = _outcome(ray, finish.remote(source, shared, devices, gpus))
    if isinstance(summary, str):
        raise InputError(summary)
    return summary


def _slots(ray: Any, cpus: int, gpus: float) -> int:
    """Return how many tasks the cluster runs at a time."""
    present = ray.cluster_resources()
    slots = present.get("CPU", 0) // cpus
    return max(1, int(min(slots, present.get("GPU", 0) // gpus) if gpus else slots))


def _outcome(ray: Any, task: Any) -> dict[str, Any] | str:
    """Return what a task returns, or why it returns nothing."""
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            return str(error.cause)
        raise
    except ray.exceptions.RayError as error:
        return f"its process died again and again ({str(error).strip().splitlines()[0]})"


def _told(facts: dict[str, Any]) -> str:
    return f"{facts['trial_steps']:,} trial-steps in {facts['seconds']:.1f} s on {facts['host']}"


def _train(
    source: SweepSource, directory: str, index: int, parts: int, devices: int | None, gpus: float
) -> dict[str, Any]:
    """Train a part, in a process of Ray's."""
    _set_up(devices, gpus)
    from fbp.sweep.part import run_part

    return run_part(source, Path(directory), index, parts, resume=True)


def _merge(source: SweepSource, directory: str, devices: int | None, gpus: float) -> dict[str, Any]:
    """Merge the parts where they were trained: the winner is tested on such a device."""
    _set_up(devices, gpus)
    from fbp.sweep.merging import merge

    return merge(directory, problem=source.problem)


def _set_up(devices: int | None, gpus: float) -> None:
    """Give JAX the resources of a task, unless it has started in this process."""
    import contextlib

    import jax

    if 0 < gpus < 1:
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{MEMORY * gpus:.3f}")
    if devices is not None:
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", devices)
