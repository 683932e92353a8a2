"""One compiled program for every rate and seed; what is on the validation part, and when."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
import optax
from jaxtyping import Float64

from fbp.data import Dataset
from fbp.nn import Layer, conv, dense, flatten, relu, serial
from fbp.train import evaluate, initial_state, objective_of
from fbp.train.batches import batch_indices
from fbp.train.objective import mean_loss
from fbp.train.scan_steps import scan_steps
from fbp.train.step import loss_and_grads_fn, make_update


@dataclass(frozen=True, eq=False)
class Curve:
    """One run: its rate, and its validation accuracy after the steps and seconds so far.

    Attributes:
      rate: the learning rate.
      steps: number of gradients at each measurement.
      seconds: wall-clock time that they took, measurements and compiling left out.
      accuracies: on the validation part.
    """

    rate: float
    steps: Float64[np.ndarray, " times"]
    seconds: Float64[np.ndarray, " times"]
    accuracies: Float64[np.ndarray, " times"]

    def reaches(self, target: float) -> tuple[float, float]:
        """Return steps and seconds until the accuracy is at least `target`; infinite if never.

        >>> times = np.array([1.0, 2.0, 3.0])
        >>> Curve(0.1, 10 * times, times, np.array([0.2, 0.7, 0.6])).reaches(0.5)
        (20.0, 2.0)
        """
        reached = np.flatnonzero(self.accuracies >= target)
        if not len(reached):
            return np.inf, np.inf
        return float(self.steps[reached[0]]), float(self.seconds[reached[0]])


def convolutional(channels: Sequence[int], width: int, classes: int) -> Layer:
    """Convolutions with strides of two, the first 5x5, then a hidden layer, then the output."""
    first, *others = channels
    return serial(
        *(conv(first, (5, 5), strides=(2, 2)), relu()),
        *(layer for c in others for layer in (conv(c, (3, 3), strides=(2, 2)), relu())),
        *(flatten(), dense(width), relu(), dense(classes)),
    )


def curves(
    network: Layer,
    dataset: Dataset,
    rates: Sequence[float],
    seeds: int,
    *,
    steps: int,
    batch_size: int,
    evaluate_every: int,
) -> list[Curve]:
    """Train with Adam at every rate with every seed, one run after another."""
    objective = objective_of(dataset)
    adam = optax.inject_hyperparams(optax.adam, static_args=("b1", "b2", "eps", "eps_root"))
    update = make_update(loss_and_grads_fn(mean_loss(network.apply, objective)), adam(1.0))
    advance = jax.jit(partial(scan_steps, update))
    measure = jax.jit(partial(evaluate, network.apply, objective))
    training, validation = (
        jax.device_put((split.x, split.y)) for split in (dataset.train, dataset.validation)
    )

    def train(rate: float, seed: int) -> Curve:
        init_key, order_key, step_key = jax.random.split(jax.random.key(seed), 3)
        params, _ = network.init(init_key, (batch_size, *dataset.feature_shape))
        state = initial_state(params, adam(rate), step_key)
        seconds, accuracies, total = [], [], 0.0
        for start in range(0, steps, evaluate_every):
            indices = batch_indices(
                order_key, start, evaluate_every, len(dataset.train), batch_size
            )
            begin = time.perf_counter()
            state, _ = jax.block_until_ready(advance(state, training, indices))
            total += time.perf_counter() - begin
            seconds.append(total)
            accuracies.append(float(measure(state.params, *validation)["accuracy"]))
        counts = np.arange(1, len(seconds) + 1) * float(evaluate_every)
        return Curve(rate, counts, np.array(seconds), np.array(accuracies))

    train(rates[0], 0)  # compiles
    return [train(rate, seed) for rate in rates for seed in range(seeds)]
