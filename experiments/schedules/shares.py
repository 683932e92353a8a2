"""The rates of a schedule as numbers."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fbp.config import Train
from fbp.train.optimizer import schedule_of


def shares(plan: Train) -> Float[np.ndarray, " steps"]:
    """Return the rate of every step of a plan, as a share of its peak.

    >>> shares(Train(4, batch_size=1, evaluate_every=1, schedule="linear")).tolist()
    [1.0, 0.75, 0.5, 0.25]
    """
    return np.asarray(jax.jit(jax.vmap(schedule_of(plan)))(jnp.arange(plan.steps)), np.float64)
