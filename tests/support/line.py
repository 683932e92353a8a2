"""The smallest problem that a sweep trains: a line through zero."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fbp.sweep import Problem

X = np.linspace(-1, 1, 32, dtype=np.float32)


def line_problem(slope=3.0):
    """Return the problem of a slope, with data to test on."""
    part = (X, slope * X)
    return Problem(
        data={"train": part, "validation": part, "test": part},
        init=lambda key: jax.random.normal(key),
        loss=lambda w, batch, key: jnp.mean((w * batch[0] - batch[1]) ** 2),
        optimizer=optax.sgd,
    )
