"""Sounds as numbers: how strong each band of pitch is, and how that changes."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

BANDS = 40
FRAME, HOP = 0.025, 0.010  # seconds
LOWEST_PITCH = 20.0  # Hz
FLOOR = 1e-8  # mean square of a frame that counts as silence
STRETCHES = 4


def log_mel(wave: Float32[np.ndarray, " samples"], rate: int) -> Float[Array, "frames bands"]:
    """Return the logarithm of the power in 40 bands of pitch, every 10 ms.

    Frames of 25 ms under a Hann window; the power spectrum of each; triangles of equal width on
    the mel scale, 2595 log10(1 + f / 700 Hz), from 20 Hz to half the rate; the logarithm of
    each band's power. A wave shorter than a frame is filled up with silence.

    Source: Davis and Mermelstein 1980, Comparison of parametric representations for monosyllabic
    word recognition.

    >>> tone = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000).astype(np.float32)
    >>> log_mel(tone, 8000).shape
    (98, 40)
    """
    length, hop = round(FRAME * rate), round(HOP * rate)
    frames = 1 + max(0, len(wave) - length) // hop
    padded = np.zeros(max(2 * length, 2 ** math.ceil(math.log2(max(len(wave), 1)))), np.float32)
    padded[: len(wave)] = wave
    return _log_mel(jnp.asarray(padded), rate, length, hop)[:frames]


def features_of(wave: Float32[np.ndarray, " samples"], rate: int) -> Float32[np.ndarray, " n"]:
    """Return a sound of any length as 241 numbers.

    Of each band of `log_mel`: the mean in each of four stretches of equal length, the standard
    deviation over time, and the mean absolute change from frame to frame; then the logarithm of
    the number of frames.

    >>> features_of(np.zeros(8000, np.float32), 8000).shape
    (241,)
    """
    bands = np.asarray(log_mel(wave, rate))
    starts = np.linspace(0, len(bands), STRETCHES + 1)
    stretches = [
        bands[math.floor(start) : max(math.floor(start) + 1, math.ceil(end))].mean(axis=0)
        for start, end in itertools.pairwise(starts)
    ]
    changes = np.abs(np.diff(bands, axis=0)) if len(bands) > 1 else np.zeros_like(bands)
    length = np.array([math.log(len(bands))], np.float32)
    return np.concatenate([*stretches, bands.std(axis=0), changes.mean(axis=0), length])


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _log_mel(wave: Float[Array, " samples"], rate: int, length: int, hop: int):
    starts = jnp.arange(0, wave.shape[0] - length + 1, hop)
    frames = wave[starts[:, None] + jnp.arange(length)[None, :]]
    windowed = frames * jnp.hanning(length).astype(wave.dtype)[None, :]
    power = jnp.abs(jnp.fft.rfft(windowed, axis=1)) ** 2 / length
    return jnp.log(power @ jnp.asarray(_triangles(rate, length)) + FLOOR)


def _triangles(rate: int, length: int) -> Float32[np.ndarray, "frequencies bands"]:
    """How much each frequency of a frame's spectrum counts in each band."""
    mel = lambda hertz: 2595 * np.log10(1 + hertz / 700)
    pitches = mel(np.fft.rfftfreq(length, 1 / rate))
    corners = np.linspace(mel(LOWEST_PITCH), mel(rate / 2), BANDS + 2)
    rising = (pitches[:, None] - corners[None, :-2]) / (corners[1:-1] - corners[:-2])[None, :]
    falling = (corners[None, 2:] - pitches[:, None]) / (corners[2:] - corners[1:-1])[None, :]
    triangles = np.maximum(0, np.minimum(rising, falling))
    empty = triangles.sum(axis=0) == 0
    nearest = np.abs(pitches[:, None] - corners[None, 1:-1]).argmin(axis=0)
    triangles[nearest[empty], np.flatnonzero(empty)] = 1
    return triangles.astype(np.float32)
