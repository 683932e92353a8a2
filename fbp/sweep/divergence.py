"""When a trial has diverged: a criterion that no single hard batch can meet.

A trial has diverged

- once a loss is not finite: of a step, or of the validation set;
- once its validation loss exceeds the limit;
- once more than half of its recent training losses do, as an exponential average counts them:
  a_t = 0.9 a_{t-1} + 0.1 [loss_t > limit] > 1/2. Seven in a row are enough, one never is.

With L the validation loss before the first step, the limit is L + (factor - 1) s, where s is |L|,
or the size of the first training loss where that is larger. For positive losses it is `factor`
times L or more; negative losses and one that starts at zero have a limit above them too. Where both
losses are zero they have no size, and there is no limit: a loss that is not finite is left.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fbp.train.state import TrainState

MEMORY = 0.9  # of the average over steps: it spans about ten
MAJORITY = 0.5


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MonitoredState:
    """A trial's training state, monitored for divergence; in the program, one row for each trial.

    Attributes:
      train: the state of the training; of a trial that has diverged it is meaningless.
      start: its validation loss before the first step.
      limit: the loss above which it diverges.
      above: the exponential average of how often its training losses exceed the limit.
      diverged_at: the step at which it diverged, -1 before.
    """

    train: TrainState
    start: Float[Array, ""]
    limit: Float[Array, ""]
    above: Float[Array, ""]
    diverged_at: Int[Array, ""]


def monitored(state: TrainState, loss: Float[Array, ""], factor: float) -> MonitoredState:
    """Monitor a trial whose validation loss before the first step is this one.

    >>> print(monitored(None, jnp.float32(-2.0), factor=10.0).limit)
    16.0
    """
    loss = jnp.asarray(loss, jnp.float32)
    limit = loss + (factor - 1) * jnp.abs(loss)
    return MonitoredState(state, loss, limit, jnp.zeros(()), jnp.full((), -1, jnp.int32))


def with_divergence_check(update: Callable[..., Any], factor: float) -> Callable[..., Any]:
    """Return the update of a monitored trial.

    Losses may be `{"loss": ..., ...}`, and a recorded update returns `(losses, measures)`.
    """

    def monitored_update(trial: MonitoredState, batch: Any) -> tuple[MonitoredState, Any]:
        state, out = update(trial.train, batch)
        losses = out[0] if isinstance(out, tuple) else out
        loss = jnp.asarray(losses["loss"] if isinstance(losses, dict) else losses, jnp.float32)
        least = trial.start + (factor - 1) * jnp.abs(loss)
        limit = jnp.where(trial.train.step == 0, jnp.maximum(trial.limit, least), trial.limit)
        limit = jnp.where(limit == trial.start, jnp.inf, limit)
        is_above = jnp.asarray(loss > limit, jnp.float32)
        above = MEMORY * trial.above + (1 - MEMORY) * is_above
        trial = replace(trial, train=state, limit=limit, above=above)
        return _mark(trial, ~jnp.isfinite(loss) | (above > MAJORITY)), out

    return monitored_update


def check_validation(trial: MonitoredState, loss: Float[Array, ""]) -> MonitoredState:
    """Mark a trial whose validation loss is not finite, or exceeds the limit."""
    return _mark(trial, ~(jnp.isfinite(loss) & (loss <= trial.limit)))


def _mark(trial: MonitoredState, diverges: Bool[Array, ""]) -> MonitoredState:
    first = (trial.diverged_at < 0) & diverges
    return replace(trial, diverged_at=jnp.where(first, trial.train.step, trial.diverged_at))
