"""Whether the trials of a study can be mapped by vmap; if not, what in the user's code cannot."""

import sys
from dataclasses import replace

import jax
import jax.numpy as jnp

from fbp.errors import InputError
from fbp.sweep.grid import grid_of
from fbp.sweep.parallelism import TRIALS_AXIS, Parallelism, configured
from fbp.sweep.problem import first_batch
from fbp.sweep.program import make_program
from fbp.sweep.study import Study
from fbp.train.engine import init_of, plain_loss
from fbp.train.user_code import error_text


def traces_under_vmap(study: Study) -> bool:
    """Return whether a study's program can be traced with its trials side by side.

    Where it cannot and the config leaves the choice, that is told on stderr.

    Raises InputError, with the axis and the user's line, where the config asks for vmap; and
    where the program cannot be traced without it either.
    """
    sweep = study.config.sweep
    in_turn = sweep.trials in ("map", "loop") and sweep.batch_size == 1
    if in_turn or not study.is_users:
        return True
    asked = configured(sweep, len(study.trials))
    complaint = _complaint(study, replace(asked, devices=1))
    if complaint is None:
        return True
    alone = _complaint(study, Parallelism("map"))
    if alone is not None:
        raise alone
    text = f"under vmap over the axis {TRIALS_AXIS!r}, {_told(_culprit(study) or complaint)}"
    if sweep.trials != "auto":
        raise InputError(f"{text}: set sweep.trials to map, or auto") from complaint
    print(f"note: {text}; the trials run one after another", file=sys.stderr, flush=True)
    return False


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"a trial fails{error_text(error)}"


def _culprit(study: Study) -> Exception | None:
    """Map init, loss and metrics by themselves, in whose traceback the user's line is."""
    problem, engine = study.problem, study.engine
    keys = jnp.stack([jax.random.key(seed) for seed in range(2)])
    one = engine.state_shapes(study.trials[0].hyperparameters)
    of_two = lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype)
    states = jax.tree.map(of_two, one)
    batch = first_batch(problem, study.config.train.batch_size)
    loss = lambda state: plain_loss(problem, state.carried)(state.params, batch, state.key)
    metrics = lambda state: engine.measure(state, problem.parts["validation"])
    for fun, argument in ((init_of(problem), keys), (loss, states), (metrics, states)):
        try:
            jax.eval_shape(jax.vmap(fun), argument)
        except Exception as error:
            return error
    return None


def _complaint(study: Study, parallelism: Parallelism) -> Exception | None:
    """Trace the program for two trials; return what it raises."""
    count = parallelism.multiple if parallelism.kind == "seed" else 2
    grid = grid_of([*study.trials][:1] * count)
    program = make_program(study, parallelism)
    validation = study.problem.parts["validation"]
    batch = first_batch(study.problem, study.config.train.batch_size)
    training = jax.tree.map(lambda leaf: leaf[None], batch)
    orders = jnp.zeros((study.config.sweep.seeds, 1), jnp.int32)
    try:
        states, _ = jax.eval_shape(program.start, grid, validation)
        program.lower(states, grid, orders, training, validation)
    except Exception as error:
        return error
    return None
