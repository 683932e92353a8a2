"""Keras 3 with JAX behind it: one compiled model, its weights and rate set anew for each trial."""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
import keras  # pyright: ignore[reportMissingImports]
import numpy as np

from benchmarks.throughput.work import B1, B2, BATCH, CLASSES, EPSILON, Work


def fit(work: Work) -> Callable[[], str]:
    """`Model.fit`, some of the trials."""
    rows = work.orders[0].ravel()
    x, y = work.x[rows], work.y[rows]
    model = _model(work)
    optimizer = keras.optimizers.Adam(beta_1=B1, beta_2=B2, epsilon=EPSILON)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    first = model.get_weights()

    def run() -> str:
        for rate, _ in work.some_trials:
            model.set_weights(first)
            for variable in optimizer.variables:
                variable.assign(np.zeros(variable.shape, variable.dtype))
            optimizer.learning_rate = rate
            model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)
        return f"Keras {keras.__version__}, {keras.backend.backend()}"

    return run


def _model(work: Work) -> Any:
    layers = keras.layers
    stack: list[Any] = [layers.Input(work.x.shape[1:])]
    if work.kind == "cnn":
        for features in work.channels:
            stack.append(layers.Conv2D(features, 3, padding="same", activation="relu"))
            stack.append(layers.MaxPooling2D())
        stack.append(layers.Flatten())
    return keras.Sequential(
        [*stack, layers.Dense(work.hidden, activation="relu"), layers.Dense(CLASSES)]
    )
