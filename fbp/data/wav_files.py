"""Sounds in WAV files."""

import io
import math
import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from scipy.io import wavfile
from scipy.signal import resample_poly

from fbp.data.integrity import content
from fbp.errors import InputError

Wave = Float32[np.ndarray, " samples"]
UNREADABLE = (OSError, EOFError, ValueError, TypeError, ArithmeticError, IndexError, struct.error)
UNREADABLE += (NameError, MemoryError)  # of scipy, where a chunk is missing or lies


def read_sounds(paths: Sequence[Path], rate: int | None = None) -> tuple[tuple[Wave, ...], int]:
    """Return the waves, between -1 and 1, and their rate in samples per second.

    Channels are averaged. All sounds get one rate: the one given, or the lowest of the files.

    Raises InputError, naming the file, where one is not a WAV file of whole numbers (PCM) or
    floats, is shorter than its header says, or holds no sample or one that is not finite.
    """
    sounds = [_read(path) for path in paths]
    common = rate or min(rate for _, rate in sounds)
    return tuple(_resampled(samples, rate, common) for samples, rate in sounds), common


def _read(path: Path) -> tuple[Wave, int]:
    stored = content(path)
    try:
        _check_length(stored)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks that hold no sound
            rate, samples = wavfile.read(io.BytesIO(stored))
    except UNREADABLE as error:
        raise InputError(
            f"{path}: not a WAV file of PCM or floats, or damaged ({error or 'cut off'}): "
            "convert it, or remove it"
        ) from error
    if not samples.size or not rate:
        raise InputError(f"{path}: the sound is empty: record it anew or remove it")
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite
        wave = _normalized(samples)
    if not np.isfinite(wave).all():
        raise InputError(f"{path}: holds NaN or infinity: convert it anew or remove it")
    return wave, rate


def _check_length(stored: bytes) -> None:
    """Raise ValueError where a chunk of sound is longer than the file: nothing is allocated."""
    if stored[:4] not in (b"RIFF", b"RIFX", b"RF64"):
        raise ValueError("it does not begin with RIFF")
    chunks = list(_chunks(stored))
    names = [name for name, _, _ in chunks]
    if b"fmt " not in names or b"data" not in names[names.index(b"fmt ") :]:
        raise ValueError("it has no format followed by sound")
    for name, start, size in chunks:
        if name == b"data" and start + size > len(stored):
            raise ValueError(
                f"its header tells of {size:,} bytes of sound, {len(stored) - start:,} are there"
            )


def _chunks(stored: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk's name, where its content begins, and its length; RF64 keeps long ones apart."""
    order, start, long = ">" if stored[:4] == b"RIFX" else "<", 12, 0
    while start + 8 <= len(stored):
        name, size = struct.unpack(order + "4sI", stored[start : start + 8])
        if name == b"ds64":
            (long,) = struct.unpack("<Q", stored[start + 16 : start + 24])
        if name == b"data" and stored[:4] == b"RF64":
            size = long
        yield name, start + 8, size
        start += 8 + size + size % 2


def _normalized(samples: np.ndarray) -> Wave:
    """Scale samples: those of 8 bits are unsigned, those of 24 bits shifted to 32."""
    if samples.dtype.kind == "u":
        wave = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        wave = (samples / 2.0 ** (8 * samples.itemsize - 1)).astype(np.float32)
    else:
        wave = samples.astype(np.float32)
    return wave if wave.ndim == 1 else wave.mean(axis=1)


def _resampled(samples: Wave, rate: int, common: int) -> Wave:
    if rate == common:
        return samples
    shared = math.gcd(rate, common)
    return resample_poly(samples, common // shared, rate // shared).astype(np.float32)
