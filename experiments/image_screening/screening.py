"""Faces against other pictures: 200 images, each told by a network that has not seen it."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float64, Int64
from scipy.stats import binomtest
from sklearn.model_selection import StratifiedKFold, train_test_split

from experiments.image_screening.training import convolutional
from fbp.data.faces import faces
from fbp.train.objective import objective_for
from fbp.train.trials import train_trials


class Screened(NamedTuple):
    """Whether each image is a face, and the probability of it that was found."""

    is_face: Int64[np.ndarray, " images"]
    probability: Float64[np.ndarray, " images"]

    @property
    def accuracy(self) -> tuple[float, float, float]:
        """The share of images on the right side of 1/2, and its Wilson interval of 95 %.

        >>> Screened(np.array([0, 1]), np.array([0.1, 0.9])).accuracy[0]
        1.0
        """
        right = int(np.sum((self.probability > 0.5) == self.is_face))
        test = binomtest(right, len(self.is_face))
        low, high = test.proportion_ci(method="wilson")
        return right / len(self.is_face), float(low), float(high)


def screen(
    channels: Sequence[int],
    width: int,
    rates: Sequence[float],
    seeds: int,
    *,
    steps: int,
    batch_size: int,
    folds: int,
) -> Screened:
    """Cross-validation: in each fold the rate is chosen on a fifth of the other images."""
    source = faces()
    x, y = source.x.astype(np.float32)[..., None], source.y.astype(np.int32)
    probability = np.zeros(len(x))
    objective = objective_for("classification", 2)
    network = convolutional(channels, width, objective.outputs)
    predict = jax.jit(jax.vmap(network.apply, (0, None)))
    trials = {
        "seed": jnp.tile(jnp.arange(seeds), len(rates)),
        "learning_rate": jnp.repeat(jnp.asarray(rates), seeds),
    }
    for others, held_out in StratifiedKFold(folds, shuffle=True, random_state=0).split(x, y):
        train, validation = train_test_split(
            others, test_size=0.2, stratify=y[others], random_state=0
        )
        _, params = train_trials(
            network,
            objective,
            lambda trial: optax.adam(trial["learning_rate"]),
            trials,
            (jnp.asarray(x[train]), jnp.asarray(y[train])),
            steps=steps,
            batch_size=batch_size,
            measure=lambda state: state.params,
        )
        logits = predict(params, jnp.asarray(x[np.concatenate([validation, held_out])]))
        validated, tested = np.split(np.asarray(logits, np.float64), [len(validation)], axis=1)
        losses = optax.softmax_cross_entropy_with_integer_labels(validated, y[validation][None])
        by_rate = np.asarray(losses.mean(axis=1)).reshape(len(rates), seeds).mean(axis=1)
        best = int(np.nan_to_num(by_rate, nan=np.inf).argmin())
        chances = np.asarray(jax.nn.softmax(tested, axis=-1))[..., 1].reshape(len(rates), seeds, -1)
        probability[held_out] = chances[best].mean(axis=0)
    return Screened(np.asarray(y, np.int64), probability)
