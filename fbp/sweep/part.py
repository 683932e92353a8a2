"""One part of a divided sweep, trained by a process of its own.

A divided run's directory holds `config.toml`, `plan.json` and `parts`. Each part is a run of its
own in `parts/0003`, whose `part.json` says which part of which plan it is and, at last, what it
took. The programs that parts compile are in `compiled`, where another part finds them.
"""

import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
from filelock import FileLock

from fbp.compilation_cache import cached_programs
from fbp.errors import InputError
from fbp.records import (
    PART,
    add_to_environment,
    create_run,
    is_run,
    locked,
    read_part,
    records_digest,
    to_json,
    write_atomic,
    writing,
)
from fbp.sweep.capacity import check_memory
from fbp.sweep.division import (
    COMPILED,
    COMPILING,
    PARTS,
    SweepPlan,
    check_divisible,
    settled_plan,
)
from fbp.sweep.recorded import check_facts
from fbp.sweep.runner import Runner
from fbp.sweep.source import SweepSource
from fbp.sweep.study import Study, check_gradients, studies_of
from fbp.sweep.training import train_all
from fbp.verify import Agreement

INDEX_OF_JOB = ("JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID")


def part_of(text: str, environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Return the index of a part, from 0, and how many parts there are.

    Args:
      text: `3/16`; `auto/16`, where the index is that of a Slurm array's task or of a pod of a
        Kubernetes Indexed Job; or `auto`, where Slurm says how many tasks there are, too.
      environment: the variables of this process.

    Raises:
      InputError: it is none of these, or out of range.

    >>> part_of("3/16"), part_of("auto/4", {"JOB_COMPLETION_INDEX": "2"})
    ((3, 16), (2, 4))
    """
    match = re.fullmatch(r"(\d+|auto)(?:/(\d+))?", text, flags=re.ASCII)
    if match is None or (match[1] != "auto" and match[2] is None):
        raise InputError(f"--part is {text[:40]}: give i/n, such as 3/16, auto/n or auto")
    count = match[2] or environment.get("SLURM_ARRAY_TASK_COUNT", "")
    index = match[1]
    if index == "auto":
        index = next((environment[name] for name in INDEX_OF_JOB if name in environment), "")
    if not index.isdecimal() or not count.isdecimal():
        raise InputError(
            f"--part is {text}, and neither {' nor '.join(INDEX_OF_JOB)} says which of how many "
            "(SLURM_ARRAY_TASK_COUNT) this process is: give i/n"
        )
    if not 0 <= int(index) < int(count):
        raise InputError(
            f"--part is {index} of {count}: parts count from 0, give 0/{count} to "
            f"{max(int(count) - 1, 0)}/{count}; a Slurm array has the tasks --array=0-15, and "
            "auto/16 names all of them where a few run again"
        )
    return int(index), int(count)


def part_directory(directory: Path, index: int) -> Path:
    """Return the directory of a part of a divided run.

    >>> part_directory(Path("runs/digits"), 3).as_posix()
    'runs/digits/parts/0003'
    """
    return directory / PARTS / f"{index:04}"


def run_part(
    source: SweepSource,
    directory: Path,
    index: int,
    count: int,
    *,
    resume: bool = False,
    tell: Callable[[list[Study], Agreement], None] | None = None,
    say: Callable[[str], None] = lambda *_: None,
    show: bool = True,
) -> dict[str, Any]:
    """Train the trials of one part of a sweep, and record them.

    Args:
      source: what is swept.
      directory: of the divided run; every process that trains a part sees it, or has one of its
        own, whose `parts` are copied together.
      index: which part, from 0.
      count: how many parts there are.
      resume: go on with this part where it was interrupted, if it was.
      tell: called with the part's studies and the outcome of the gradient check.
      say: called with what is being done before.
      show: whether the status of the training is shown on stderr.

    Returns:
      What the part took since it was last started: its `part.json`.

    Raises:
      InputError: the sweep cannot be divided so, the part is complete, or its directory is in use.
    """
    check_divisible(source.config)
    if jax.process_count() > 1:
        raise InputError("a part is of one process: leave out --distributed, or --part")
    begin = time.perf_counter()
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with cached_programs(directory / COMPILED):
        studies = studies_of(source.config, source.problem)
        plan = settled_plan(directory, source.text, studies, count, say)
        run = part_directory(directory, index)
        with locked(run):
            facts = {"plan": plan.digest, "part": index, "parts": count}
            present = _begun(run, facts, resume)
            if "records_sha256" in present:
                return present
            groups = plan.studies_of(index, studies)
            check_memory(groups)
            check = check_gradients(groups)
            if tell is not None:
                tell(groups, check)
            if not is_run(run):
                create_run(run, source.text)
            _write(run, facts)
            runner = _train(source, plan, groups, run, show)
            throughput = runner.throughput
            facts |= {
                "records_sha256": records_digest(run),
                "gradient_check": check_facts(check),
                "host": platform.node(),
                "seconds": time.perf_counter() - begin,
                "compile_seconds": throughput.compiling,
                "training_seconds": throughput.training,
                "trial_steps": throughput.trial_steps,
            }
            _write(run, facts)
            return facts


@contextmanager
def _compiling(directory: Path) -> Iterator[None]:
    """Compile a program while no other part does, so that the next one reads it."""
    with FileLock(directory / COMPILING):
        yield


def _begun(run: Path, facts: Mapping[str, Any], resume: bool) -> dict[str, Any]:
    """Return what is recorded of a part; InputError unless it may be started or go on."""
    present = read_part(run)
    index, count = facts["part"], facts["parts"]
    if present and present.get("plan") != facts["plan"]:
        raise InputError(f"{run}: is of another plan than {run.parents[1]}: give another directory")
    if (present or is_run(run)) and not resume:
        state = "is complete" if "records_sha256" in present else "was begun"
        raise InputError(f"{run}: part {index} of {count} {state} already: --resume goes on")
    return present


def _train(
    source: SweepSource, plan: SweepPlan, groups: list[Study], run: Path, show: bool
) -> Runner:
    runner = Runner(groups, run, lambda: _compiling(run.parents[1]))
    ways = {str(study): asdict(way) for study, way in enumerate(plan.trials)}
    add_to_environment(run, {"measures": runner.measures.facts(), "trials": ways})
    train_all(source.config, runner, save_last=True, show=show)
    return runner


def _write(run: Path, facts: Mapping[str, Any]) -> None:
    write_atomic(run / PART, (to_json(facts, indent=1) + "\n").encode())
