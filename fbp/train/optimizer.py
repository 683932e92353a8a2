"""An optax optimizer whose chosen hyperparameters are values of its state."""

import inspect
from collections.abc import Mapping
from typing import Any

import optax

from fbp.config import Optimizer, Train
from fbp.train.step import with_guards

DECAY = 0.2  # share of the updates over which `wsd` falls (Hagele et al. 2024, arXiv 2405.18392)


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
    factory = getattr(optax, optimizer.name)
    fixed = set(inspect.signature(factory).parameters) - set(hyperparameters)
    inject = optax.inject_hyperparams(factory, static_args=fixed)
    tx = inject(**hyperparameters, **optimizer.hyperparameters)
    if train.schedule != "constant" or train.warmup_steps:
        tx = optax.chain(tx, optax.scale_by_schedule(schedule_of(train)))
    return with_guards(tx, clip_norm=train.clip_norm, accumulate=train.accumulate)


def schedule_of(train: Train) -> optax.Schedule:
    """Return the rate over the updates, as a share of its peak.

    >>> half_way = schedule_of(Train(100, 1, 1, schedule="cosine"))(50)
    >>> print(half_way.round(3))
    0.5
    """
    updates, warmup = (n // train.accumulate for n in (train.steps, train.warmup_steps))
    if train.schedule == "one_cycle":
        return optax.cosine_onecycle_schedule(updates, 1.0)
    rest = max(updates - warmup, 1)
    decay = min(max(round(DECAY * updates), 1), rest)
    one = optax.constant_schedule(1.0)
    after = {
        "constant": one,
        "cosine": optax.cosine_decay_schedule(1.0, rest),
        "linear": optax.linear_schedule(1.0, 0.0, rest),
        "wsd": optax.join_schedules([one, optax.linear_schedule(1.0, 0.0, decay)], [rest - decay]),
    }[train.schedule]
    return optax.join_schedules([optax.linear_schedule(0.0, 1.0, warmup), after], [warmup])
