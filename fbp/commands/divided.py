"""A sweep in parts: one of them, all of them here, or all of them as tasks of Ray."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbp.commands.output import print_json, teller, warn
from fbp.errors import InputError


@dataclass(frozen=True)
class Division:
    """What a command line says of parts.

    Attributes:
      part: which one to train, as text.
      parts: how many, where all are to be trained.
      ray: whether Ray trains them.
      cpus: cores of each task of Ray.
      gpus: GPUs of each task; a fraction shares one.

    Raises InputError where these do not fit.
    """

    part: str | None
    parts: int | None
    ray: bool
    cpus: int = 1
    gpus: float = 0.0

    def __post_init__(self):
        if self.part is not None and (self.parts is not None or self.ray):
            raise InputError("--part trains one part; --parts and --ray train all: give one")
        if self.parts is not None and self.parts < 1:
            raise InputError(f"--parts is {self.parts}: give 1 or more")
        if not self.ray and (self.cpus, self.gpus) != (1, 0.0):
            raise InputError("--task-cpus and --task-gpus are of --ray: give it, or leave them out")
        if self.cpus < 1 or self.gpus < 0:
            raise InputError("--task-cpus is 1 or more, and --task-gpus not negative")

    @property
    def is_asked(self) -> bool:
        """Whether the sweep is divided at all."""
        return self.part is not None or self.parts is not None or self.ray


def run_divided(
    division: Division, source: Any, directory: Path, resume: bool, json: bool, quiet: bool
) -> None:
    """Train what a division says, and print what came of it."""
    from fbp.records import is_complete
    from fbp.sweep.division import PLAN

    if division.part is not None:
        _run_one(division.part, source, directory, resume, json, quiet)
        return
    if resume and is_complete(directory):
        tell_complete(directory, json)
        return
    say = teller(json, quiet)
    if not resume and (directory / PLAN).exists():
        raise InputError(f"{directory}: holds parts already: --resume goes on with them")
    if division.parts is None or division.ray:
        from fbp.sweep.ray_tasks import run_with_ray

        resources = {"cpus": division.cpus, "gpus": division.gpus}
        summary = run_with_ray(source, directory, division.parts, **resources, say=say)
    else:
        from fbp.sweep.merging import merge
        from fbp.sweep.part import run_part

        for index in range(division.parts):
            facts = run_part(
                source, directory, index, division.parts, resume=resume, show=not quiet
            )
            say(_told(facts))
        summary = merge(directory)
    tell_outcome(summary, directory, json, quiet)


def tell_complete(directory: Path, json: bool) -> None:
    """Say that a run is complete; print its summary as JSON if that is asked for."""
    from fbp.records import read_summary

    teller(json, quiet=False)(f"this run is complete, nothing was done: {directory}")
    if json:
        print_json({"records": directory, **read_summary(directory)})


def tell_outcome(
    summary: dict[str, Any], directory: Path, json: bool = False, quiet: bool = False
) -> None:
    """Print a summary, and what a reader should know of the run."""
    from fbp.report.run_directory import read_run
    from fbp.report.text import verdict, warnings
    from fbp.sweep import summary_table

    if json:
        print_json({"records": directory, **summary})
    else:
        teller(json, quiet)("")
        print(f"{summary_table(summary)}\n\n{verdict(summary)}")
    for warning in warnings(read_run(directory)):
        warn(warning)
    if not json:
        print(f"records: {directory}")


def _run_one(
    part: str, source: Any, directory: Path, resume: bool, json: bool, quiet: bool
) -> None:
    from fbp.commands.backend import devices
    from fbp.sweep.part import part_of, run_part

    say = teller(json, quiet)

    def tell(studies: Any, check: Any) -> None:
        for note in studies[0].notes:
            say(f"note: {note}")
        say(f"device: {devices()}\ngradient: {check}")

    index, count = part_of(part)
    to_stderr = teller(json=True, quiet=quiet)
    doing = lambda text: to_stderr(f"part {index} of {count}: {text}")
    try:
        facts = run_part(
            source, directory, index, count, resume=resume, tell=tell, say=doing, show=not quiet
        )
    except KeyboardInterrupt:
        print("\n--resume goes on where this part was interrupted", file=sys.stderr)
        raise
    if json:
        print_json({"records": directory, **facts})
    else:
        print(_told(facts), flush=True)
    say(f"when all are complete: fbp merge {directory}")


def _told(facts: dict[str, Any]) -> str:
    """Tell what a part took in a line."""
    speed = facts["trial_steps"] / max(facts["training_seconds"], 1e-9)
    return (
        f"part {facts['part']} of {facts['parts']}: {facts['trial_steps']:,} trial-steps at "
        f"{speed:,.0f} a second, {facts['compile_seconds']:.1f} s of compiling, "
        f"{facts['seconds']:.1f} s in all"
    )
