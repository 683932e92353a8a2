"""An optax optimizer whose chosen hyperparameters are values of its state."""

import inspect
from collections.abc import Mapping
from typing import Any

import optax

from fbp.config import Optimizer, Train
from fbp.train.step import guarded


def make_optimizer(
    optimizer: Optimizer, train: Train, hyperparameters: Mapping[str, Any]
) -> optax.GradientTransformation:
    """The optimizer of a run, with `hyperparameters` injected: they may be traced arrays.

    All others stay Python numbers (`static_args`), so that a swept rate trains exactly as a
    rate written into a plain optax optimizer does. The schedule multiplies the updates, which
    are proportional to the rate.

    >>> tx = make_optimizer(Optimizer("sgd"), Train(10, 1, 1), {"learning_rate": 0.5})
    >>> updates, _ = tx.update(1.0, tx.init(1.0))
    >>> print(updates)
    -0.5
    """
    factory = getattr(optax, optimizer.name)
    fixed = set(inspect.signature(factory).parameters) - set(hyperparameters)
    inject = optax.inject_hyperparams(factory, static_args=fixed)
    tx = inject(**hyperparameters, **optimizer.hyperparameters)
    if train.schedule != "constant" or train.warmup_steps:
        tx = optax.chain(tx, optax.scale_by_schedule(_shape(train)))
    return guarded(tx, clip_norm=train.clip_norm, accumulate=train.accumulate)


def _shape(train: Train) -> optax.Schedule:
    """The rate over the updates, as a share of its peak."""
    updates, warmup = (n // train.accumulate for n in (train.steps, train.warmup_steps))
    rest = max(updates - warmup, 1)
    after = {
        "constant": optax.constant_schedule(1.0),
        "cosine": optax.cosine_decay_schedule(1.0, rest),
        "linear": optax.linear_schedule(1.0, 0.0, rest),
    }[train.schedule]
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup), after], [warmup])
