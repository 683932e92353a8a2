"""One training: `init, advance, measure`. Every loop of fbp that trains is made of these."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key

from fbp.data import Dataset
from fbp.errors import InputError
from fbp.nn import Layer
from fbp.train.objective import Metrics, Objective, evaluate, mean_loss
from fbp.train.problem import Part, Problem
from fbp.train.scan_steps import State, scan_steps
from fbp.train.state import TrainState, initial_state
from fbp.train.step import Update, check_loss, loss_and_grads_fn, make_update
from fbp.train.user_code import running

Hyperparameters = Mapping[str, Any]
MEASURING = 0  # seed of the key with which a loss is measured: the same at every measurement


@dataclass(frozen=True)
class Engine:
    """The functions of one trial, all of them pure; a sweep maps them over many.

    Attributes:
      draw: `init_key -> (params, carried)`, by which a trial begins.
      begin: `((params, carried), step_key, hyperparameters) -> state` before the first step; the
        randomness of the steps is drawn from the key.
      update: `hyperparameters -> update`, where `update(state, batch) -> (state, losses)`.
      measure: `(state, part) -> metrics` by name, `loss` among them.
      recorded: where layers are recorded, `hyperparameters -> update` whose second result is
        `(losses, measures)`, see `fbp.train.recorder`.
    """

    draw: Callable[[Key[Array, ""]], tuple[Any, Any]]
    begin: Callable[[tuple[Any, Any], Key[Array, ""], Hyperparameters], TrainState]
    update: Callable[[Hyperparameters], Update]
    measure: Callable[[TrainState, Part], Metrics]
    recorded: Callable[[Hyperparameters], Update] | None = None

    def init(
        self, init_key: Key[Array, ""], step_key: Key[Array, ""], hyperparameters: Hyperparameters
    ) -> TrainState:
        """Return the state before the first step."""
        return self.begin(self.draw(init_key), step_key, hyperparameters)

    def advance(
        self,
        state: State,
        hyperparameters: Hyperparameters,
        examples: Part,
        indices: Int[Array, "steps ..."],
    ) -> tuple[State, Any]:
        """Make an update for each row of `indices`; return the state and each step's losses."""
        update: Any = self.update(hyperparameters)
        return scan_steps(update, state, examples, indices)

    def advance_recorded(
        self,
        state: State,
        hyperparameters: Hyperparameters,
        examples: Part,
        indices: Int[Array, "steps ..."],
    ) -> tuple[State, Any, Any]:
        """Do as `advance`; return what the last step was recorded to do too, by measure and layer.

        It is empty where nothing is recorded. All other steps are those of `advance`.
        """
        if self.recorded is None:
            return *self.advance(state, hyperparameters, examples, indices), {}
        state, losses = self.advance(state, hyperparameters, examples, indices[:-1])
        update: Any = self.recorded(hyperparameters)
        state, (last, measures) = scan_steps(update, state, examples, indices[-1:])
        losses = jax.tree.map(lambda *steps: jnp.concatenate(steps), losses, last)
        return state, losses, jax.tree.map(lambda leaf: leaf[0], measures)

    def state_shapes(self, hyperparameters: Hyperparameters) -> TrainState:
        """Return the shapes and types of a trial's state; nothing is computed."""
        init = lambda key: self.init(key, key, hyperparameters)
        return jax.eval_shape(init, jax.random.key(0))


def engine_of(
    problem: Problem,
    optimizer: Callable[[Hyperparameters], optax.GradientTransformation],
    memory: float | None = None,
    record: Callable[..., Update] | None = None,
) -> Engine:
    """Make the functions of one trial of a problem.

    Args:
      problem: what is trained.
      optimizer: makes a trial's optimizer; its numbers may be the trial's, which are traced.
      memory: bytes of temporary memory that a gradient may need at most.
      record: `fbp.train.recorder.recorded_update`, where `Engine.advance_recorded` is to record.

    >>> import numpy as np
    >>> x = np.ones((4, 1), np.float32)
    >>> loss = lambda w, batch, key: jnp.mean((batch @ w - 3) ** 2)
    >>> problem = Problem({"train": x, "validation": x}, lambda key: jnp.zeros(1), loss)
    >>> engine = engine_of(problem, lambda trial: optax.sgd(trial["learning_rate"]))
    >>> trial = {"learning_rate": 0.5}
    >>> state = engine.init(*jax.random.split(jax.random.key(0)), trial)
    >>> state, losses = engine.advance(state, trial, x, jnp.zeros((2, 4), int))
    >>> print(losses, engine.measure(state, x)["loss"])
    [9. 0.] 0.0
    """
    flags: dict[str, Any] = {"has_state": problem.has_state, "has_aux": problem.has_aux}
    loss_and_grads = loss_and_grads_fn(loss_of(problem), **flags, memory=memory)

    def begin(
        drawn: tuple[Any, Any], step_key: Key[Array, ""], hyperparameters: Hyperparameters
    ) -> TrainState:
        params, carried = drawn
        with running("optimizer"):
            tx = optimizer(hyperparameters)
            return initial_state(params, tx, step_key, carried)

    def update(hyperparameters: Hyperparameters) -> Update:
        step = make_update(loss_and_grads, optimizer(hyperparameters), **flags)
        return _with_named_losses(step) if problem.has_aux else step

    def recorded(record: Callable[..., Update], hyperparameters: Hyperparameters) -> Update:
        step = record(loss_of(problem), optimizer(hyperparameters), memory=memory, **flags)
        return _with_named_losses(step) if problem.has_aux else step

    recording = None if record is None else partial(recorded, record)
    return Engine(init_of(problem), begin, update, measure_of(problem), recording)


def keys_of(seed: int | Int[Array, ""]) -> Key[Array, " 3"]:
    """Return the keys of a trial's parameters, of its order of examples, and of its steps."""
    return jax.random.split(jax.random.key(seed), 3)


def init_of(problem: Problem) -> Callable[[Key[Array, ""]], tuple[Any, Any]]:
    """Return `key -> (params, carried)`."""
    if isinstance(problem.init, Layer):
        layer, shape = problem.init, layer_shape(problem)
        return lambda key: (layer.init(key, shape)[0], ())

    def draw(key: Key[Array, ""]) -> tuple[Any, Any]:
        with running("init"):
            drawn = problem.init(key)  # pyright: ignore[reportCallIssue]
        if not problem.has_state:
            return drawn, ()
        if not (isinstance(drawn, tuple) and len(drawn) == 2):
            raise InputError(
                f"init returns a {type(drawn).__name__}: with has_state it returns (params, "
                "carried)"
            )
        return drawn

    return draw


def loss_of(problem: Problem) -> Callable[..., Any]:
    """Return the loss of `(params, batch, key)`, or of what `loss_and_grads_fn` says."""
    if isinstance(problem.loss, Objective):
        assert isinstance(problem.init, Layer)
        return mean_loss(problem.init.apply, problem.loss)

    def loss(*args: Any) -> Any:
        with running("loss"):
            return problem.loss(*args)  # pyright: ignore[reportCallIssue]

    return loss


def plain_loss(problem: Problem, carried: Any) -> Callable[..., Any]:
    """Return `(params, batch, key) -> loss` alone, of what the loss carries as it is."""
    loss_fn, beside = loss_of(problem), problem.has_state or problem.has_aux

    def loss(params: Any, batch: Any, key: Key[Array, ""]) -> Any:
        out = loss_fn(*((params, carried) if problem.has_state else (params,)), batch, key)
        if not beside:
            return out
        if not isinstance(out, tuple):
            raise InputError(
                f"the loss returns a {type(out).__name__}: with has_state or has_aux it returns a "
                "pair"
            )
        return out[0]

    return loss


def measure_of(problem: Problem) -> Callable[[TrainState, Part], Metrics]:
    """Return `(state, part) -> metrics` by name."""

    def params_of(state: TrainState) -> Any:
        if problem.eval_params is None:
            return state.params
        with running("eval_params"):
            return problem.eval_params(state.opt_state, state.params)

    if isinstance(problem.loss, Objective) and problem.metrics is None:
        assert isinstance(problem.init, Layer)
        measured = partial(evaluate, problem.init.apply, problem.loss)
        return lambda state, part: measured(params_of(state), *part)

    def measure(state: TrainState, part: Part) -> Metrics:
        args = (params_of(state), state.carried) if problem.has_state else (params_of(state),)
        metrics: dict[str, Any] = {}
        if problem.metrics is not None:
            with running("metrics"):
                metrics = _checked_metrics(problem.metrics(*args, part))
        if "loss" not in metrics:
            loss_fn = plain_loss(problem, state.carried)
            loss = loss_fn(args[0], part, jax.random.key(MEASURING))
            check_loss(loss)
            metrics = {"loss": loss, **metrics}
        return metrics

    return measure


def layer_shape(problem: Problem) -> tuple[int, ...]:
    """Return the shape of a batch of a layer's inputs; how many examples it has does not matter."""
    if problem.in_shape is not None:
        return problem.in_shape
    if isinstance(problem.data, Dataset):
        return (-1, *problem.data.feature_shape)
    first = jax.tree.leaves(problem.data["train"])[0]
    return (-1, *jnp.shape(first)[1:])


def scalars_of(aux: Any) -> dict[str, Any]:
    """Return the numbers of what a loss returns beside itself, by name; the rest is left out."""
    if not isinstance(aux, Mapping):
        raise InputError(
            f"the loss returns aux of type {type(aux).__name__}: give a dictionary of numbers, "
            "which are recorded by their names"
        )
    _check_names("aux", aux)
    return {name: value for name, value in aux.items() if jnp.shape(value) == ()}


def _with_named_losses(update: Update) -> Update:
    """Return the update whose losses `(loss, aux)` are `{"loss": ..., **aux}`, recorded or not."""
    named = lambda loss, aux: {"loss": loss, **scalars_of(aux)}

    def with_names(state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        state, (losses, beside) = update(state, batch)
        if isinstance(losses, tuple):
            return state, (named(*losses), beside)
        return state, named(losses, beside)

    return with_names


def _checked_metrics(metrics: Any) -> dict[str, Any]:
    if not isinstance(metrics, Mapping):
        raise InputError(
            f"metrics returns a {type(metrics).__name__}: give a dictionary of numbers by name"
        )
    _check_names("metrics", metrics)
    for name, value in metrics.items():
        if not _is_real_number(value):
            raise InputError(
                f"metric {name} is {_described(value)}: give one real number, such as a mean over "
                "the examples"
            )
    return {name: jnp.asarray(value, float) for name, value in metrics.items()}


def _check_names(what: str, values: Mapping[Any, Any]) -> None:
    for name in values:
        if not isinstance(name, str):
            raise InputError(f"{what}: {name!r} is a {type(name).__name__}: give names as strings")


def _is_real_number(value: Any) -> bool:
    is_number = hasattr(value, "dtype") or isinstance(value, int | float)
    kinds = jnp.floating, jnp.integer
    return (
        is_number
        and jnp.shape(value) == ()
        and any(jnp.issubdtype(jnp.result_type(value), kind) for kind in kinds)
    )


def _described(value: Any) -> str:
    if not hasattr(value, "dtype"):
        return f"a {type(value).__name__}"
    return f"{jnp.result_type(value)}{list(jnp.shape(value))}"
