"""A sweep whose processes are killed as they train: each part that is named in a file, once.

    [problem]
    import = "tests.support.dying:problem"
    directory = "..."

`directory` holds a file for each learning rate whose first trials end in SIGKILL, or a folder, and
all its trials do.
"""

import os
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fbp.sweep import Problem

X = np.linspace(-1, 1, 64, dtype=np.float32)[:, None] * np.arange(1, 5, dtype=np.float32)
Y = np.sin(X.sum(1))


def problem(directory):
    """Return a small regression, in which a file of a learning rate costs its process the life."""

    def die(rate, step):
        bomb = Path(directory) / f"{float(rate):.6g}"
        if step == 12 and bomb.exists():  # in the third of the segments
            if bomb.is_file():
                bomb.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    def optimizer(learning_rate):
        def update(updates, state, params=None):
            jax.debug.callback(die, learning_rate, state)
            return jax.tree.map(lambda g: -learning_rate * g, updates), state + 1

        return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)

    def init(key):
        first, last = jax.random.split(key)
        return {"w": jax.random.normal(first, (4, 8)) / 2, "v": jax.random.normal(last, (8,)) / 3}

    def loss(params, batch, key):
        x, y = batch
        return jnp.mean((jnp.tanh(x @ params["w"]) @ params["v"] - y) ** 2)

    part = (X, Y)
    return Problem(
        {"train": part, "validation": part, "test": part}, init, loss, optimizer=optimizer
    )
