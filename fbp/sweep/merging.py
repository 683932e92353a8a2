"""The parts of a divided sweep as one run, as one process would have recorded it."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from fbp.checkpoints import Checkpoints
from fbp.config import Config
from fbp.config_file import config_of, problem_config
from fbp.errors import InputError
from fbp.recording import LAYERS
from fbp.records import (
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    RECORDS,
    Row,
    check_available,
    is_complete,
    is_locked,
    is_run,
    locked,
    read_environment,
    read_part,
    read_records,
    records_digest,
    to_json,
    write_atomic,
    write_summary,
)
from fbp.report.measures import measures_of
from fbp.report.summary import summarize
from fbp.structure import parse_toml
from fbp.sweep.division import COMPILED, PARTS, SweepPlan, read_plan
from fbp.sweep.progress import restore_progress
from fbp.sweep.recorded import winner_rows
from fbp.sweep.runner import Runner
from fbp.sweep.study import Study, studies_of
from fbp.train.problem import Problem

SHOWN = 8  # parts that a message names one by one
ORDER = {"train": 0, "eval": 1, "diverged": 2, LAYERS: 3}
"""In which order the rows of one evaluation are recorded."""


@dataclass(frozen=True)
class FinishedPart:
    """A part that is complete.

    Attributes:
      directory: its run's.
      facts: its `part.json`.
    """

    directory: Path
    facts: Mapping[str, Any]


def merge(
    runs: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    problem: Problem | None = None,
) -> dict[str, Any]:
    """Merge the parts of a divided sweep into one run.

    Its records are those of one process that trains the same groups of trials, bit for bit; where
    `sweep.trials` is `map` or `loop`, those of the undivided sweep. The winner's trials are tested
    here, from the last states of their parts.

    Args:
      runs: the directory of the divided run; or several, where parts were trained on machines
        that share no directory.
      out: directory of the merged run; that of the divided run by default.
      problem: what was trained, if the config does not say so.

    Returns:
      The summary, which is also in the directory.

    Raises:
      InputError: a part is missing, unfinished, damaged or there twice, parts are of two plans, or
        the run is merged already.

    >>> import tempfile
    >>> from fbp.sweep import run
    >>> few = ["train.steps = 5", "sweep.seeds = 1", "sweep.learning_rate = [0.1, 0.3]"]
    >>> out = tempfile.mkdtemp() + "/run"
    >>> for part in ("0/2", "1/2"):
    ...     facts = run("configs/digits_mlp.toml", settings=few, out=out, part=part)
    >>> merge(out)["best"]["learning_rate"]
    0.3
    """
    paths = [Path(run) for run in ([runs] if isinstance(runs, str | Path) else runs)]
    if out is None and len(paths) != 1:
        raise InputError("give the directory of the merged run by --out: there are several runs")
    directory = paths[0] if out is None else Path(out)
    if is_complete(directory):
        raise InputError(f"{directory}: is merged already: there is nothing to do")
    plan, parts = _collected(paths)
    in_its_directory = directory.resolve() in [path.resolve() for path in paths]
    if not in_its_directory:
        check_available(directory, overwrite=False)
    with locked(directory):
        summary = _merged(plan, parts, paths[0], directory, problem)
    if in_its_directory:
        _remove_states(directory)
    return summary


def _collected(paths: Sequence[Path]) -> tuple[SweepPlan, list[FinishedPart]]:
    """Return the plan and all its parts; InputError unless each is there once, and finished."""
    plan, first = read_plan(paths[0]), paths[0]
    for path in paths[1:]:
        if read_plan(path).digest != plan.digest:
            raise InputError(
                f"{first} and {path} are of two plans: merge parts of one plan, the plan.json of "
                "one directory copied into the other before its parts are trained"
            )
    begun: dict[int, Path] = {}
    for path in paths:
        for run in sorted((path / PARTS).glob("*")):
            facts = read_part(run)
            if not facts:
                continue
            if facts.get("plan") != plan.digest:
                raise InputError(f"{run}: this part is of another plan than {first}: leave it out")
            number = facts["part"]
            if number in begun:
                raise InputError(
                    f"part {number} is there twice, {begun[number]} and {run}: leave one out"
                )
            begun[number] = run
    facts = {number: read_part(run) for number, run in begun.items()}
    done = {number for number in facts if "records_sha256" in facts[number]}
    if len(done) < plan.parts:
        raise InputError(_told_missing(plan, begun, done, first))
    return plan, [FinishedPart(begun[i], facts[i]) for i in range(plan.parts)]


def _told_missing(plan: SweepPlan, begun: Mapping[int, Path], done: set[int], path: Path) -> str:
    """Name the parts that are not finished, how far they are, and the command that runs one."""
    absent = [number for number in range(plan.parts) if number not in done]
    told = [f"{number} ({_state(begun.get(number))})" for number in absent[:SHOWN]]
    more = [f"{len(absent) - SHOWN} more"] if len(absent) > SHOWN else []
    command = f"fbp sweep CONFIG --out {path} --part {absent[0]}/{plan.parts} --resume"
    return (
        f"{path}: {len(absent)} of {plan.parts} parts are missing, {', '.join([*told, *more])}: "
        f"run {command}, and merge again"
    )


def _state(run: Path | None) -> str:
    if run is None:
        return "never begun"
    if is_locked(run):
        return "running"
    steps = [row["step"] for row in read_records(run)] if is_run(run) else []
    return f"lost after step {max(steps, default=0)}"


def _merged(
    plan: SweepPlan,
    parts: Sequence[FinishedPart],
    origin: Path,
    directory: Path,
    problem: Problem | None,
) -> dict[str, Any]:
    """Write the merged run into its directory, the summary last; return that."""
    text = (origin / CONFIG).read_text(encoding="utf-8")
    config = _config(text, origin / CONFIG, problem)
    studies = studies_of(config, problem)
    environment = read_environment(parts[0].directory)
    measures = measures_of(environment["measures"])
    rows = _ordered(_rows(plan, parts, studies), config, len(studies[0].trials))
    facts = config.name, measures.task, measures.metric, config.train.target, measures
    best = summarize(rows, *facts)["best"]
    tests = [row for part in parts for row in _tests(part, plan, studies, best)]
    rows += sorted(tests, key=lambda row: row["trial"])
    summary = summarize(rows, *facts) | _cost(parts)
    of_parts = [{key: v for key, v in part.facts.items() if key != "plan"} for part in parts]
    write_atomic(directory / CONFIG, text.encode())
    environment |= {"plan": plan.digest, "parts": of_parts}
    write_atomic(directory / ENVIRONMENT, (to_json(environment) + "\n").encode())
    lines = "".join(to_json(row) + "\n" for row in rows)
    write_atomic(directory / RECORDS, lines.encode())
    summary |= {"records_sha256": records_digest(directory)}
    write_summary(directory, summary)
    return summary


def _config(text: str, path: Path, problem: Problem | None) -> Config:
    tables = parse_toml(text.removeprefix("\ufeff"), str(path))
    if problem is None and not {"data", "problem"} & {*tables}:
        raise InputError(f"{path}: names no data: give what was trained by merge(..., problem=...)")
    return config_of(tables, str(path)) if problem is None else problem_config(tables, str(path))


def _rows(
    plan: SweepPlan, parts: Sequence[FinishedPart], studies: Sequence[Study]
) -> list[dict[str, Any]]:
    """Return the rows of all parts; InputError where a part does not have those of its trials."""
    rows = []
    for number, part in enumerate(parts):
        of_part = read_records(part.directory)
        expected = {t.number for study in plan.studies_of(number, studies) for t in study.trials}
        damaged = records_digest(part.directory) != part.facts["records_sha256"]
        if damaged or {row["trial"] for row in of_part} != expected:
            raise InputError(
                f"{part.directory / RECORDS}: is not as it was written: bring back a copy, or "
                f"remove {part.directory} and run part {number} again"
            )
        rows += of_part
    return rows


def _ordered(rows: Sequence[dict[str, Any]], config: Config, trials: int) -> list[dict[str, Any]]:
    """Return rows in the order of an undivided sweep.

    Study after study, evaluation after evaluation; at each the training losses of all trials, what
    was measured of them, which of them diverged, and what was recorded of their layers.
    """

    def position(row: Mapping[str, Any]) -> tuple[int, int, int, int]:
        evaluation = math.ceil(row["step"] / config.train.evaluate_every)
        return row["trial"] // trials, evaluation, ORDER[row["kind"]], row["trial"]

    return sorted(rows, key=position)


def _tests(
    part: FinishedPart,
    plan: SweepPlan,
    studies: Sequence[Study],
    best: Mapping[str, Any] | None,
) -> list[Row]:
    """Return the test rows of the best setting's trials in a part."""
    groups = plan.studies_of(part.facts["part"], studies)
    tested = any("test" in study.problem.parts for study in groups)
    if best is None or not tested or not any(_has_winner(study, best) for study in groups):
        return []
    if not (part.directory / CHECKPOINTS).is_dir():
        raise InputError(
            f"{part.directory / CHECKPOINTS}: missing, and the winner is tested from it: copy it"
        )
    present = len(jax.devices())
    here = [replace(study, parallelism=_fewer(study, present)) for study in groups]
    runner = Runner(here, part.directory)
    with Checkpoints(part.directory / CHECKPOINTS) as checkpoints:
        progress = restore_progress(checkpoints, runner)
    if progress is None:
        raise InputError(f"{part.directory / CHECKPOINTS}: holds no checkpoint: copy it again")
    return list(winner_rows(runner, progress, best))


def _fewer(study: Study, present: int) -> Any:
    assert study.parallelism is not None
    return replace(study.parallelism, devices=min(study.parallelism.devices, present))


def _has_winner(study: Study, best: Mapping[str, Any]) -> bool:
    return any(all(best[k] == v for k, v in trial.setting.items()) for trial in study.trials)


def _cost(parts: Sequence[FinishedPart]) -> dict[str, Any]:
    """Return what all parts took together; the speed is that of a part while it trains."""
    total = lambda name: sum(part.facts[name] for part in parts)
    checks = [part.facts["gradient_check"] for part in parts]
    return {
        "gradient_check": max(checks, key=lambda check: check["max_ulps"]),
        "seconds": total("seconds"),
        "compile_seconds": total("compile_seconds"),
        "trial_steps_per_second": total("trial_steps") / max(total("training_seconds"), 1e-9),
        "parts": len(parts),
    }


def _remove_states(directory: Path) -> None:
    """Remove what only training takes, as at the end of a sweep; the parts' records stay."""
    for states in (directory / PARTS).glob(f"*/{CHECKPOINTS}"):
        shutil.rmtree(states)
    if (directory / COMPILED).exists():
        shutil.rmtree(directory / COMPILED)
