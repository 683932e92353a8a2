"""How trials of a program ran fastest on this machine, remembered for the next run."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import jax

from fbp.records import write_atomic
from fbp.sweep.parallelism import KINDS, Parallelism
from fbp.sweep.problem import first_batch
from fbp.sweep.study import Study
from fbp.train.engine import init_of, plain_loss
from fbp.train.fingerprint import program_fingerprint, text_fingerprint
from fbp.user_cache import user_cache

FILE = "parallelism.json"
MOST = 1000  # choices in the file; the oldest go first


def choice_key(study: Study) -> str:
    """Return what a choice depends on: the machine, the loss's program, the numbers of trials."""
    problem, train = study.problem, study.config.train
    params, carried = jax.eval_shape(init_of(problem), jax.random.key(0))
    batch = jax.eval_shape(lambda: first_batch(problem, train.batch_size))
    loss = lambda params, carried, *rest: plain_loss(problem, carried)(params, *rest)
    program = program_fingerprint(loss, params, carried, batch, jax.random.key(0))
    devices = jax.devices()
    machine = devices[0].device_kind, len(devices), os.cpu_count(), jax.__version__
    sizes = len(study.trials), study.config.sweep.seeds, getattr(study.config.optimizer, "name", "")
    return text_fingerprint(repr((machine, sizes, program)))


def remembered(key: str) -> tuple[Parallelism, dict[str, float]] | None:
    """Return the choice for a key and its measured speeds; None where none is remembered."""
    choice = _read().get(key)
    names = {field.name for field in fields(Parallelism)}
    if not isinstance(choice, Mapping) or choice.get("kind") not in KINDS:
        return None
    sizes = {name: choice[name] for name in names - {"kind"} if type(choice.get(name)) is int}
    return Parallelism(choice["kind"], **sizes), dict(choice.get("speeds", {}))


def remember(key: str, parallelism: Parallelism, speeds: Mapping[str, float]) -> None:
    """Remember a choice, where there is a cache to write to."""
    path = _path()
    if path is None:
        return
    choices = {**_read(), key: {**asdict(parallelism), "speeds": dict(speeds)}}
    recent = dict([*choices.items()][-MOST:])
    write_atomic(path, json.dumps(recent, indent=1).encode())


def _read() -> dict[str, Any]:
    path = _path()
    try:
        content = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _path() -> Path | None:
    directory = user_cache("sweep")
    return None if directory is None else directory / FILE
