"""An optax optimizer whose chosen hyperparameters are values of its state."""

import fnmatch
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from fbp.config import Config, Optimizer, Train
from fbp.errors import InputError
from fbp.optimizers import OF_CONTRIB, OPTIMIZERS, SCHEDULE_FREE, WRAPPERS
from fbp.train.extra_args import accepting
from fbp.train.layout import path_name
from fbp.train.problem import Problem
from fbp.train.step import with_guards

DECAY = 0.2  # share of the updates over which `wsd` falls (Hagele et al. 2024, arXiv 2405.18392)
PEAK = 0.3  # share of the updates after which `one_cycle` is at its peak, as in optax
RATE_OF = "rate of "
"""What the name of a factor of some parameters' rate begins with; their pattern follows."""


def optimizer_of(
    config: Config, problem: Problem
) -> Callable[[Mapping[str, Any]], optax.GradientTransformation]:
    """Return what makes a trial's optimizer of its hyperparameters: the problem's, or the config's.

    Guards, schedule and factors are those of the config, in either case.
    """

    def make(hyperparameters: Mapping[str, Any]) -> optax.GradientTransformation:
        if problem.optimizer is None:
            assert isinstance(config.optimizer, Optimizer)
            return make_optimizer(config.optimizer, config.train, hyperparameters)
        numbers = {k: v for k, v in hyperparameters.items() if not k.startswith(RATE_OF)}
        tx = problem.optimizer(**numbers)
        if not (hasattr(tx, "init") and hasattr(tx, "update")):
            raise InputError(
                f"optimizer returns a {type(tx).__name__}: give an optax transformation"
            )
        return _scheduled(tx, config.train, _factors(hyperparameters))

    return make


def make_optimizer(
    optimizer: Optimizer, train: Train, hyperparameters: Mapping[str, Any]
) -> optax.GradientTransformation:
    """Make the optimizer of a run, with `hyperparameters` injected: they may be traced arrays.

    All others stay Python numbers (`static_args`), so that a swept rate trains exactly as a
    rate written into a plain optax optimizer does. The schedule multiplies the updates, which
    are proportional to the rate.

    >>> tx = make_optimizer(Optimizer("sgd"), Train(10, 1, 1), {"learning_rate": 0.5})
    >>> updates, _ = tx.update(1.0, tx.init(1.0))
    >>> print(updates)
    -0.5
    """
    factory = factory_of(optimizer.name)
    numbers = {k: v for k, v in hyperparameters.items() if not k.startswith(RATE_OF)}
    values = {**optimizer.hyperparameters, **numbers}
    free = optimizer.name in SCHEDULE_FREE
    if optimizer.name in WRAPPERS:
        tx = _wrapped(optimizer, values)
    else:
        names = set(inspect.signature(factory).parameters)
        inject = optax.inject_hyperparams(factory, static_args=names - set(numbers))
        rise = {"warmup_steps": train.warmup_steps} if free and train.warmup_steps else {}
        tx = inject(**values, **rise)
    return _scheduled(tx, train, {**optimizer.rates, **_factors(hyperparameters)}, rises=not free)


def factory_of(name: str) -> Callable[..., optax.GradientTransformation]:
    """Return the function of `optax` or `optax.contrib` that makes the optimizer of a name.

    >>> factory_of("muon").__module__
    'optax.contrib._muon'
    """
    named = {"polyak_sgd": _polyak_sgd, "sam": _sam}
    return named.get(name) or getattr(optax.contrib if name in OF_CONTRIB else optax, name)


def averaged_params(opt_state: Any, params: Any) -> Any:
    """Return the average of the parameters that a schedule-free optimizer's state holds.

    >>> tx = make_optimizer(Optimizer("schedule_free_sgd"), Train(9, 1, 1), {"learning_rate": 0.5})
    >>> params = jax.numpy.ones(())
    >>> print(averaged_params(tx.init(params), params))
    1.0
    """
    is_state = lambda node: hasattr(node, "b1") and hasattr(node, "z")
    states = [node for node in jax.tree.leaves(opt_state, is_leaf=is_state) if is_state(node)]
    return optax.contrib.schedule_free_eval_params(states[0], params)


def scale_by_path(factors: Mapping[str, Any]) -> optax.GradientTransformation:
    """Multiply the updates of the parameters whose path a pattern matches, by its factor.

    A path is written `1_dense/kernel`, a pattern as for files: `1_dense/*`.

    Args:
      factors: the factors by their patterns.

    Returns:
      An optax transformation, to be chained after an optimizer.

    Raises:
      InputError: by `init`, for a pattern that matches no parameter, and for a parameter that two
        patterns match.

    >>> tx = scale_by_path({"first/*": 0.1})
    >>> params = {"first": {"w": 1.0}, "last": {"w": 1.0}}
    >>> updates, _ = tx.update(params, tx.init(params))
    >>> updates["last"]["w"], round(updates["first"]["w"], 3)
    (1.0, 0.1)
    """

    def factor(path: Any) -> Any:
        matching = [p for p in factors if fnmatch.fnmatchcase(path_name(path), p)]
        if len(matching) > 1:
            raise InputError(
                f"rates: the patterns {' and '.join(matching)} both match {path_name(path)}: "
                "give patterns that exclude each other"
            )
        return factors[matching[0]] if matching else 1.0

    def init(params: Any) -> optax.EmptyState:
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        list(map(factor, paths))
        for pattern in factors:
            if not any(fnmatch.fnmatchcase(path_name(path), pattern) for path in paths):
                raise InputError(
                    f"rates: the pattern {pattern} matches no parameter: they are "
                    f"{', '.join(map(path_name, paths))}"
                )
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        scaled = jax.tree_util.tree_map_with_path(lambda path, u: factor(path) * u, updates)
        return scaled, state

    return optax.GradientTransformation(init, update)


def _wrapped(optimizer: Optimizer, values: Mapping[str, Any]) -> optax.GradientTransformation:
    """Make an optimizer of an optimizer, each with those of the hyperparameters that are its."""
    base, outer = optimizer.base or "sgd", OPTIMIZERS[optimizer.name]
    inner = {k: v for k, v in values.items() if k in OPTIMIZERS[base] and k not in outer}
    rate = values["learning_rate"]
    wrapped = factory_of(base)(learning_rate=rate, **inner)
    numbers = {k: v for k, v in values.items() if k in outer}
    if optimizer.name == "schedule_free":
        numbers["learning_rate"] = rate
    return factory_of(optimizer.name)(wrapped, **numbers)


def _polyak_sgd(
    learning_rate: Any, scaling: Any = 1.0, f_min: Any = 0.0, eps: Any = 0.0
) -> optax.GradientTransformation:
    """Make `optax.polyak_sgd`, whose largest rate is the rate."""
    return optax.polyak_sgd(learning_rate, scaling, f_min, eps)


def _sam(optimizer: optax.GradientTransformation, rho: Any = 0.05) -> optax.GradientTransformation:
    """Make sharpness-aware minimization: the gradient is taken at a distance `rho` uphill."""
    uphill = optax.chain(optax.contrib.normalize(), optax.sgd(rho))
    return optax.contrib.sam(optimizer, uphill, opaque_mode=True)


def _factors(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the factors of parameters' rates among the hyperparameters, by their patterns."""
    named = {k: v for k, v in hyperparameters.items() if k.startswith(RATE_OF)}
    return {name.removeprefix(RATE_OF): value for name, value in named.items()}


def _scheduled(
    tx: optax.GradientTransformation,
    train: Train,
    factors: Mapping[str, Any],
    rises: bool = True,
) -> optax.GradientTransformation:
    """Multiply the updates by the schedule and by the factors, and guard them."""
    tx = accepting(tx)
    if train.schedule != "constant" or (train.warmup_steps and rises):
        tx = optax.chain(tx, optax.scale_by_schedule(schedule_of(train)))
    if factors:
        tx = optax.chain(tx, scale_by_path(factors))
    return with_guards(tx, clip_norm=train.clip_norm, accumulate=train.accumulate)


def schedule_of(train: Train) -> optax.Schedule:
    """Return the rate over the updates, as a share of its peak.

    >>> half_way = schedule_of(Train(100, 1, 1, schedule="cosine"))(50)
    >>> print(half_way.round(3))
    0.5
    """
    updates, warmup = (n // train.accumulate for n in (train.steps, train.warmup_steps))
    if train.schedule == "one_cycle":
        return optax.cosine_onecycle_schedule(updates, 1.0, _or(train.peak_at, PEAK))
    rest, end = max(updates - warmup, 1), _or(train.end_value, 0.0)
    decay = min(max(round(_or(train.decay_share, DECAY) * updates), 1), rest)
    one, fall = optax.constant_schedule(1.0), optax.linear_schedule(1.0, end, decay)
    after = {
        "constant": one,
        "cosine": optax.cosine_decay_schedule(1.0, rest, end, _or(train.exponent, 1.0)),
        "linear": optax.linear_schedule(1.0, end, rest),
        "wsd": optax.join_schedules([one, fall], [rest - decay]),
    }[train.schedule]
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup), after], [warmup])


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
