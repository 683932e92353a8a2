"""The plan of a divided sweep: which part trains which trials, and how.

Trials of a grid or of random draws never speak to each other, so that a sweep is divided by an
index alone. What its records depend on beside the config is written into one file, once, by the
part that comes first: how the trials of each study run, on how many devices, and in which groups.
A group is compiled and trained as a study of its own, in whichever process: therefore the records
of all parts are, bit for bit, those of one process that trains the groups one after another.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from filelock import FileLock, Timeout

from fbp.config import Config, Halving, OptunaSearch
from fbp.errors import InputError
from fbp.records import CONFIG, to_json, write_atomic, writing
from fbp.sweep.choice import choose_parallelism
from fbp.sweep.parallelism import KINDS, Parallelism
from fbp.sweep.study import Study
from fbp.sweep.unchanged import fingerprints
from fbp.train.fingerprint import text_fingerprint

PLAN, PLAN_LOCK, PARTS, COMPILED, COMPILING = (
    "plan.json",
    "plan.lock",
    "parts",
    "compiled",
    "compiling.lock",
)
LIBRARIES = ("fbp-jax", "jax", "jaxlib", "optax")


@dataclass(frozen=True)
class Group:
    """Consecutive trials of one study, which run as one program.

    Attributes:
      part: the part that trains them, from 0.
      study: the study's index.
      start: the first one's index in the study.
      stop: that after the last one's.
    """

    part: int
    study: int
    start: int
    stop: int


@dataclass(frozen=True)
class SweepPlan:
    """How a sweep is divided.

    Attributes:
      parts: how many there are.
      groups: of all parts, in their order.
      trials: how the trials of each study run, on which number of devices.
      circumstances: what the records depend on besides: fingerprints of config, data and code, the
        kind of device, versions.
    """

    parts: int
    groups: tuple[Group, ...]
    trials: tuple[Parallelism, ...]
    circumstances: Mapping[str, str]

    @property
    def digest(self) -> str:
        """The SHA-256 of the plan's content: two plans of one digest are the same."""
        return hashlib.sha256(to_json(asdict(self)).encode()).hexdigest()

    def groups_of(self, part: int) -> list[Group]:
        """Return the groups of a part."""
        return [group for group in self.groups if group.part == part]

    def studies_of(self, part: int, studies: Sequence[Study]) -> list[Study]:
        """Return each group of a part as a study of its own."""
        return [
            replace(
                studies[group.study],
                trials=studies[group.study].trials[group.start : group.stop],
                parallelism=self.trials[group.study],
            )
            for group in self.groups_of(part)
        ]


def settled_plan(
    directory: Path,
    text: str,
    studies: Sequence[Study],
    parts: int,
    say: Callable[[str], None] = lambda *_: None,
) -> SweepPlan:
    """Return the plan in a directory; where there is none, make it and write it.

    Of many processes that come at once, one makes it and the others wait.

    Args:
      directory: of the divided run.
      text: the config, which is written beside the plan.
      studies: all of them.
      parts: how many the sweep is divided into.
      say: called with what is being done.

    Raises:
      InputError: the sweep cannot be divided so; or the plan is of other circumstances.
    """
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory / PLAN_LOCK, say):
        if not (directory / PLAN).exists():
            plan = plan_of(text, studies, parts, say)
            write_atomic(directory / CONFIG, text.encode())
            write_atomic(directory / PLAN, (to_json(asdict(plan), indent=1) + "\n").encode())
    plan = read_plan(directory)
    if plan.parts != parts:
        raise InputError(
            f"{directory / PLAN}: divides this sweep into {plan.parts} parts, not {parts}: give "
            f"--part i/{plan.parts}, or another directory"
        )
    _check_circumstances(plan, circumstances_of(text, studies), directory / PLAN)
    return plan


@contextmanager
def _alone(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock; say so where another process holds it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("another part makes the plan: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def plan_of(
    text: str,
    studies: Sequence[Study],
    parts: int,
    say: Callable[[str], None] = lambda *_: None,
) -> SweepPlan:
    """Divide studies into parts, and choose how the trials of each run; see `settled_plan`."""
    config = studies[0].config
    check_divisible(config)
    sizes = group_sizes(config, len(studies), len(studies[0].trials), parts)
    bounds = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    groups = tuple(
        Group(number * parts // (len(studies) * len(sizes)), study, bounds[i], bounds[i + 1])
        for number, (study, i) in enumerate(
            (study, i) for study in range(len(studies)) for i in range(len(sizes))
        )
    )
    largest = [replace(study, trials=study.trials[: max(sizes)]) for study in studies]
    trials = tuple(choose_parallelism(study, say)[0] for study in largest)
    return SweepPlan(parts, groups, trials, circumstances_of(text, studies))


def group_sizes(config: Config, studies: int, trials: int, parts: int) -> list[int]:
    """Return how many trials each group of a study has.

    There are as few groups as give each part one. Each has all seeds of some settings, unless
    there are fewer settings than groups; sizes differ by one setting at most.

    Raises InputError where there are more parts than groups can be.

    >>> from fbp.config_file import load_config
    >>> config = load_config(Path("configs/digits_mlp.toml"))
    >>> group_sizes(config, studies=1, trials=65, parts=4)
    [20, 15, 15, 15]
    """
    seeds = config.sweep.seeds
    groups = math.ceil(parts / studies)
    by_setting = groups <= trials // seeds
    if not by_setting and (config.sweep.trials == "seed" or groups > trials):
        most = studies * (trials // seeds if config.sweep.trials == "seed" else trials)
        raise InputError(
            f"{parts} parts are more than {most} groups of trials: give {most} or less"
        )
    units, size = (trials // seeds, seeds) if by_setting else (trials, 1)
    return [size * (units // groups + (i < units % groups)) for i in range(groups)]


def check_divisible(config: Config) -> None:
    """Raise InputError where a sweep's trials depend on each other."""
    if isinstance(config.sweep.search, OptunaSearch):
        raise InputError(
            "sweep.search is optuna, which is told of all trials before it says what to try next, "
            "and parts never speak to each other: give grid or random"
        )
    if isinstance(config.sweep.search, Halving):
        raise InputError(
            "sweep.search is halving, which compares all settings after each rung, and parts never "
            "speak to each other: give grid or random, or run it undivided, with --distributed"
        )


def circumstances_of(text: str, studies: Sequence[Study]) -> dict[str, str]:
    """Return what the records of a part depend on besides its trials, by name."""
    return {
        "config": text_fingerprint(text),
        **fingerprints(studies),
        "device": jax.devices()[0].device_kind,
        **{name: metadata.version(name) for name in LIBRARIES},
    }


def read_plan(directory: Path) -> SweepPlan:
    """Read the plan in a directory; InputError where it is missing or damaged."""
    path = directory / PLAN
    try:
        tables = json.loads(path.read_text(encoding="utf-8"))
        return SweepPlan(
            parts=int(tables["parts"]),
            groups=tuple(Group(**group) for group in tables["groups"]),
            trials=tuple(_parallelism(way) for way in tables["trials"]),
            circumstances={str(k): str(v) for k, v in tables["circumstances"].items()},
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: no plan of a divided sweep ({error}): bring back a copy, or run all parts "
            "again in another directory"
        ) from error


def _parallelism(values: Mapping[str, Any]) -> Parallelism:
    if values["kind"] not in KINDS:
        raise ValueError(f"kind {values['kind']}")
    return Parallelism(**values)


def _check_circumstances(plan: SweepPlan, now: Mapping[str, str], path: Path) -> None:
    before = plan.circumstances
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if not changed:
        return
    told = ", ".join(
        f"{key} ({before.get(key, 'none')} there and {now.get(key, 'none')} here)"
        if key in ("device", *LIBRARIES)
        else key
        for key in changed
    )
    raise InputError(
        f"{path}: {told} differ from the plan, so that the records of this part would not be those "
        "of one process: bring back what it was, or run all parts in another directory"
    )
