"""Whether a run that resumes is of the same data, code and config as when it began."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from fbp.errors import InputError
from fbp.hosts import on_first_process
from fbp.records import CONFIG, add_to_environment, read_environment
from fbp.sweep.problem import first_batch
from fbp.sweep.study import Study
from fbp.train.engine import init_of, loss_of
from fbp.train.extra_args import update_alone
from fbp.train.fingerprint import arrays_fingerprint, program_fingerprint, text_fingerprint
from fbp.train.optimizer import optimizer_of


def check_unchanged(studies: Sequence[Study], directory: Path) -> None:
    """Record the fingerprints of a new run; compare those of one that resumes.

    Raises InputError, naming what has changed.
    """
    now = {"config": on_first_process(_of_config, directory), **fingerprints(studies)}
    before = on_first_process(read_environment, directory).get("fingerprints")
    if before is None:
        on_first_process(add_to_environment, directory, {"fingerprints": now})
        return
    if not isinstance(before, Mapping):
        raise InputError(f"{directory}: environment.json: fingerprints is no table: run again")
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if changed:
        raise InputError(
            f"{directory}: {', '.join(changed)} changed since this run began, so that its trials "
            "would not be those of one run: bring back what it was, or give another directory"
        )


def fingerprints(studies: Sequence[Study]) -> dict[str, str]:
    """Return the fingerprints of the parts of the data and of the user's functions, by name."""
    marks: dict[str, str] = {}
    seen: dict[int, dict[str, str]] = {}
    for number, study in enumerate(studies):
        data = study.problem.data
        if id(data) not in seen:
            parts = study.problem.parts
            seen[id(data)] = {
                f"data.{name}": arrays_fingerprint(part) for name, part in parts.items()
            }
        of_study = {**seen[id(data)], **(_of_functions(study) if study.is_users else {})}
        prefix = f"study {number}: " if len(studies) > 1 else ""
        marks |= {prefix + key: value for key, value in of_study.items()}
    return marks


def _of_functions(study: Study) -> dict[str, str]:
    """Return the fingerprints of what the user's functions compute."""
    problem, hyperparameters = study.problem, study.trials[0].hyperparameters
    state, key = study.engine.state_shapes(hyperparameters), jax.random.key(0)
    batch = first_batch(problem, study.config.train.batch_size)
    args = (state.params, state.carried) if problem.has_state else (state.params,)
    tx = optimizer_of(study.config, problem)(hyperparameters)

    def optimize(grads: Any, state: Any) -> Any:
        return update_alone(tx, grads, state.opt_state, state.params)

    return {
        "init": program_fingerprint(init_of(problem), key),
        "loss": program_fingerprint(loss_of(problem), *args, batch, key),
        "metrics": program_fingerprint(study.engine.measure, state, problem.parts["validation"]),
        "optimizer": program_fingerprint(optimize, state.params, state),
    }


def _of_config(directory: Path) -> str:
    return text_fingerprint((directory / CONFIG).read_text(encoding="utf-8"))
