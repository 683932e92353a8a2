"""Whether a problem can be trained: sizes, shapes, and that its functions run, before any does."""

from typing import Any

import jax
import numpy as np
import optax

from fbp.errors import InputError
from fbp.train.engine import Engine, init_of, loss_of, scalars_of
from fbp.train.objective import Objective, check_fits
from fbp.train.problem import Batches, Problem, example_count
from fbp.train.user_code import running


def check_sizes(problem: Problem, batch_size: int, name: str = "data") -> None:
    """Raise InputError where a part has no examples, or the training one too few for a batch.

    >>> x = np.ones((3, 1), np.float32)
    >>> problem = Problem({"train": x, "validation": x}, lambda key: 0.0, lambda *_: 0.0)
    >>> check_sizes(problem, batch_size=4)
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: train.batch_size is 4, but data has only 3 training examples
    """
    if "validation" not in problem.parts:
        raise InputError(f"{name} has no part validation: trials are compared on it")
    for part, arrays in problem.parts.items():
        if isinstance(arrays, Batches):
            continue
        count = example_count(arrays)
        if count == 0:
            raise InputError(f"{name} has no {part} examples: give one or more")
        if part == "train":
            check_batch_size(batch_size, count, name)
        if isinstance(problem.loss, Objective):
            _check_targets(f"{name}: {part}", arrays, problem.loss)


def check_batch_size(batch_size: int, examples: int, name: str = "data") -> None:
    """Raise InputError unless there are enough examples for a batch, of one or more."""
    if batch_size < 1:
        raise InputError(f"train.batch_size is {batch_size}: give at least 1")
    if batch_size > examples:
        raise InputError(
            f"train.batch_size is {batch_size}, but {name} has only {examples} training examples"
        )


def check_runs(problem: Problem, engine: Engine, batch: Any, hyperparameters: Any) -> list[str]:
    """Trace every function of a problem on shapes; return what a reader should know.

    Args:
      problem: what is trained.
      engine: its functions.
      batch: one of its batches.
      hyperparameters: those of a trial.

    Raises InputError, with the line of the user's code, for a function that fails or returns what
    it should not.
    """
    if isinstance(problem.loss, Objective):
        check_fits(_out_shape(problem, batch), problem.loss)
    state = engine.state_shapes(hyperparameters)
    with running("a step"):
        after, _ = jax.eval_shape(engine.update(hyperparameters), state, batch)
    _check_same(state.carried, after.carried, "the loss's carried state")
    _check_same(state.params, after.params, "the parameters")
    _check_same(state.opt_state, after.opt_state, "the optimizer's state")
    metrics = jax.eval_shape(engine.measure, state, problem.parts["validation"])
    if problem.metric_name not in metrics:
        raise InputError(
            f"metric {problem.metric_name} is not measured: give one of {', '.join(metrics)}"
        )
    _ = problem.is_better_higher
    return _left_out(problem, state, batch)


def _left_out(problem: Problem, state: Any, batch: Any) -> list[str]:
    if not problem.has_aux:
        return []
    args = (state.params, state.carried) if problem.has_state else (state.params,)
    _, beside = jax.eval_shape(loss_of(problem), *args, batch, state.key)
    aux = beside[1] if problem.has_state else beside
    names = [name for name in aux if name not in scalars_of(aux)]
    return [f"of what the loss returns, {', '.join(names)} is no number: not recorded"] * bool(
        names
    )


def _out_shape(problem: Problem, batch: Any) -> tuple[int, ...]:
    params, _ = jax.eval_shape(init_of(problem), jax.random.key(0))
    network: Any = problem.init
    return jax.eval_shape(network.apply, params, batch[0]).shape


def _check_targets(where: str, arrays: Any, objective: Objective) -> None:
    """Raise InputError for targets that would broadcast against the outputs."""
    shape = np.shape(arrays[1])
    if len(shape) == 2 and shape[1] == 1:
        raise InputError(
            f"{where}: y has shape {list(shape)}: give one of shape [{shape[0]}], as y[:, 0] is"
        )
    several = objective.score == "r2" and objective.outputs > 1
    if len(shape) != (2 if several else 1):
        expected = f"[examples, {objective.outputs}]" if several else "[examples]"
        raise InputError(f"{where}: y has shape {list(shape)}: give one of shape {expected}")
    if objective.losses is optax.softmax_cross_entropy_with_integer_labels:
        _check_classes(where, np.asarray(arrays[1]), objective.outputs)


def _check_classes(where: str, y: np.ndarray, classes: int) -> None:
    """Raise InputError for targets that are no numbers of classes."""
    if not np.issubdtype(y.dtype, np.integer):
        raise InputError(f"{where}: y is of type {y.dtype}: give the classes as integers from 0")
    if y.min() < 0 or y.max() >= classes:
        raise InputError(
            f"{where}: y goes from {y.min()} to {y.max()}: with {classes} outputs give integers "
            f"from 0 to {classes - 1}"
        )


def _check_same(before: Any, after: Any, name: str) -> None:
    """Raise InputError where a scan could not carry the one to the other."""
    described = lambda tree: {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    old, new = described(before), described(after)
    if old != new or jax.tree.structure(before) != jax.tree.structure(after):
        different = sorted(name for name, _ in old.items() ^ new.items()) or ["its structure"]
        first = different[0]
        raise InputError(
            f"{name} changes in a step: {first or 'it'} is {old.get(first, 'missing')} before and "
            f"{new.get(first, 'missing')} after: return what has the same shapes and types"
        )


def nan_at_start(problem: Problem, params: Any, carried: Any, batch: Any) -> str:
    """Say where a loss that is not finite before the first step comes from."""
    from fbp.verify import trace_program

    args = (params, carried) if problem.has_state else (params,)
    report = trace_program(loss_of(problem), *args, batch, jax.random.key(0))
    return report.findings[0].message if report.findings else "not of the first training batch"
