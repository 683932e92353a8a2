"""Pieces of 0.4 s of the spoken prompts, each as the mean and the spread of its log-mel bands."""

import zlib

import numpy as np
from jaxtyping import Float32

from fbp.automl.sound import log_mel
from fbp.data import Dataset, Split
from fbp.data.voices import PACKAGES, RATE, Prompt, prompts

SAMPLES = 3200
HOPS, COMPLETE = 40, 38  # frames begun within a piece, frames that end in it as well
SILENT = 0.05  # root mean square of a piece that is left out


def voices() -> Dataset:
    """Who speaks: pieces of every prompt, whose parts are held out by the prompt's name.

    What is said in a test piece is therefore not among the training pieces in any language.
    """
    said = prompts()
    labels = {voice: number for number, voice in enumerate(PACKAGES)}
    parts = np.array([part_of(prompt.name) for prompt in said])
    cut = [pieces(prompt) for prompt in said]
    counts = [len(piece) for piece in cut]
    x = np.concatenate(
        [features(np.concatenate(cut[i : i + 100])) for i in range(0, len(cut), 100)]
    )
    y = np.repeat([labels[prompt.voice] for prompt in said], counts).astype(np.int32)
    rows = np.repeat(parts, counts)
    mean, spread = x[rows == 0].mean(axis=0), x[rows == 0].std(axis=0)
    train, validation, test = (
        Split((x[rows == i] - mean) / spread, y[rows == i]) for i in range(3)
    )
    names = tuple(PACKAGES)
    return Dataset(
        "voices", train, validation, test, "classification", 6, x.shape[1:], target_names=names
    )


def part_of(name: str) -> int:
    """Which part a prompt is in: 70 % are in 0 (training), 15 % in 1 and in 2 (test).

    >>> [part_of(f"digits/{number}") for number in range(10)]
    [0, 2, 0, 0, 0, 0, 0, 2, 1, 0]
    """
    return int(np.searchsorted([70, 85], zlib.crc32(name.encode()) % 100, side="right"))


def pieces(prompt: Prompt) -> Float32[np.ndarray, "pieces samples"]:
    """Cut the prompt into pieces of 0.4 s, without the remainder and without silence."""
    count = len(prompt.wave) // SAMPLES
    cut = prompt.wave[: count * SAMPLES].reshape(count, SAMPLES)
    return cut[np.sqrt(np.mean(np.square(cut), axis=1)) > SILENT]


def features(cut: Float32[np.ndarray, "pieces samples"]) -> Float32[np.ndarray, "pieces features"]:
    """Mean and standard deviation over time of each band of a piece."""
    one_after_another = np.append(cut.ravel(), np.zeros(SAMPLES, np.float32))
    frames = np.asarray(log_mel(one_after_another, RATE))[: len(cut) * HOPS]
    bands = frames.reshape(len(cut), HOPS, -1)[:, :COMPLETE]
    return np.concatenate([bands.mean(axis=1), bands.std(axis=1)], axis=1)
