"""What reads an utterance: its frames one after another, or their mean, spread and ends."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32

from fbp.data import Dataset, Split, load
from fbp.nn import Layer, dense, gru, serial

Frames = Float32[np.ndarray, "utterances time features"]


def last_state_gru(features: int) -> Layer:
    """Make a gated recurrent unit that returns its state after an utterance's last frame.

    [batch, time, inputs] -> [batch, features]. Frames of zeros at the end are no frames: they
    change nothing.
    """
    cell = gru(features)

    def init(key, in_shape):
        params, (batch, _, out) = cell.init(key, in_shape)
        return params, (batch, out)

    def apply(params, x, *, key=None):
        states = cell.apply(params, x, key=key)
        last = jnp.sum(jnp.any(x != 0, axis=2), axis=1) - 1
        return jnp.take_along_axis(states, last[:, None, None], axis=1)[:, 0]

    return Layer(init, apply)


def reader(width: int, classes: int) -> Layer:
    """Make a GRU and a dense layer: [batch, time, features] -> [batch, classes]."""
    return serial(gru=last_state_gru(width), head=dense(classes))


def utterances() -> Dataset:
    """Japanese Vowels as [29 frames, 12 coefficients], zeros after an utterance's last frame.

    Each coefficient has mean zero and variance one over the frames of the training part.
    """
    dataset = _with_x(load("japanese_vowels", image=True), lambda x: x[..., 0])
    frames = dataset.train.x[_spoken(dataset.train.x)]
    mean, spread = frames.mean(axis=0), frames.std(axis=0)
    return _with_x(dataset, lambda x: np.where(_spoken(x)[..., None], (x - mean) / spread, 0))


def pooled(dataset: Dataset) -> Dataset:
    """Four numbers in place of a coefficient's frames: mean, standard deviation, first, last."""
    return _with_x(dataset, _pooled)


def _pooled(x: Frames) -> Float32[np.ndarray, "utterances features"]:
    spoken = _spoken(x)
    count = spoken.sum(axis=1)
    mean = x.sum(axis=1) / count[:, None]
    centered = np.where(spoken[..., None], x - mean[:, None], 0)
    spread = np.sqrt(np.square(centered).sum(axis=1) / count[:, None])
    return np.concatenate([mean, spread, x[:, 0], x[np.arange(len(x)), count - 1]], axis=1)


def _spoken(x: Frames) -> Bool[np.ndarray, "utterances time"]:
    return np.any(x != 0, axis=2)


def _with_x(dataset: Dataset, change) -> Dataset:
    parts = (dataset.train, dataset.validation, dataset.test)
    train, validation, test = (Split(change(s.x).astype(np.float32), s.y) for s in parts)
    shape = train.x.shape[1:]
    return replace(dataset, train=train, validation=validation, test=test, feature_shape=shape)
