"""Sounds in WAV files."""

import math
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from scipy.signal import resample_poly

from fbp.errors import InputError

Wave = Float32[np.ndarray, " samples"]


def read_sounds(paths: Sequence[Path], rate: int | None = None) -> tuple[tuple[Wave, ...], int]:
    """The waves, between -1 and 1, and their rate in samples per second.

    Channels are averaged. All sounds get one rate: the one given, or the lowest of the files.

    Raises InputError, naming the file, where one is not a WAV file of whole numbers (PCM), is
    damaged, or holds no sample.
    """
    sounds = [_read(path) for path in paths]
    common = rate or min(own for _, own in sounds)
    return tuple(_resampled(samples, own, common) for samples, own in sounds), common


def _read(path: Path) -> tuple[Wave, int]:
    try:
        with wave.open(str(path), "rb") as file:
            stored = file.readframes(file.getnframes())
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
    except (OSError, EOFError, wave.Error, RuntimeError) as error:
        raise InputError(
            f"{path}: not a WAV file of 8 to 32 bit PCM, or damaged ({error or 'cut off'}): "
            "convert it, or remove it"
        ) from error
    whole = len(stored) - len(stored) % (width * channels)
    if not whole or not rate:
        raise InputError(f"{path}: the sound is empty: record it anew or remove it")
    return _samples(stored[:whole], width).reshape(-1, channels).mean(axis=1), rate


def _samples(stored: bytes, width: int) -> Wave:
    """Samples of 1 byte are unsigned, of 2 to 4 bytes signed and with the lowest byte first."""
    if width == 1:
        return (np.frombuffer(stored, np.uint8).astype(np.float32) - 128) / 128
    padded = np.zeros((len(stored) // width, 4), np.uint8)
    padded[:, 4 - width :] = np.frombuffer(stored, np.uint8).reshape(-1, width)
    return (padded.view("<i4")[:, 0] / 2**31).astype(np.float32)


def _resampled(samples: Wave, own: int, common: int) -> Wave:
    if own == common:
        return samples
    shared = math.gcd(own, common)
    return resample_poly(samples, common // shared, own // shared).astype(np.float32)
