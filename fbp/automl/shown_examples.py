"""The user's own pictures and sounds on the page: the mistaken ones, and the surest."""

import io
from dataclasses import dataclass

import jax
import matplotlib
import numpy as np
from jaxtyping import Int, Shaped
from PIL import Image
from scipy.io import wavfile

from fbp.automl.inputs import Images, Sounds
from fbp.automl.model import Model
from fbp.automl.score import Scored
from fbp.automl.sound import log_mel
from fbp.report.markup import data_uri

MOST = {Images: 12, Sounds: 6}  # of a group
MOST_FILTERS = 16
SECONDS = 5  # of a sound


@dataclass(frozen=True)
class ShownExample:
    """A picture, or a sound with its spectrogram, and what was said of it."""

    picture: str
    text: str
    alt: str
    sound: str | None = None


@dataclass(frozen=True)
class ShownGroup:
    """Examples of which the same is to be said; `pixels` are shown as squares."""

    title: str
    examples: tuple[ShownExample, ...]
    pixels: bool


@dataclass(frozen=True)
class Shown:
    """What a page shows of the examples: `kind` is pictures or sounds."""

    kind: str
    groups: tuple[ShownGroup, ...]


def examples_shown(model: Model, scored: Scored | None) -> Shown | None:
    """Return what a page shows; None where the examples are rows of a table or were not left."""
    if scored is None or not isinstance(scored.inputs, Images | Sounds):
        return None
    sureness = scored.shares.max(axis=1)
    order = np.argsort(-sureness, kind="stable")
    wrong = scored.truth[order] != scored.predicted[order]
    most = MOST[type(scored.inputs)]
    mistaken = f"Mistaken, the surest first: {wrong.sum():,} in all"
    groups = [
        _group(mistaken, order[wrong][:most], model, scored),
        _group("Right, the surest first", order[~wrong][:most], model, scored),
    ]
    if isinstance(scored.inputs, Images) and model.architecture.channels:
        groups.append(_filters(model))
    kind = "pictures" if isinstance(scored.inputs, Images) else "sounds"
    return Shown(kind, tuple(group for group in groups if group.examples))


def _group(title: str, rows: Int[np.ndarray, " rows"], model: Model, scored: Scored) -> ShownGroup:
    examples = tuple(_example(int(row), model, scored) for row in rows)
    return ShownGroup(title, examples, isinstance(scored.inputs, Images))


def _example(row: int, model: Model, scored: Scored) -> ShownExample:
    said, true = (str(model.classes[n]) for n in (scored.predicted[row], scored.truth[row]))
    share = f"{100 * scored.shares[row].max():.0f}%"
    text = f"{said}, {share}" if said == true else f"{said}, {share}; it is {true}"
    match scored.inputs:
        case Images(pixels):
            return ShownExample(
                _image(_gray_or_color(pixels[row], pixels)), text, f"picture of {true}"
            )
        case Sounds(waves, rate):
            return ShownExample(
                _image(_spectrogram(waves[row], rate)),
                text,
                f"spectrogram of {true}, predicted {said}",
                _sound(waves[row], rate),
            )
        case _:
            raise TypeError(type(scored.inputs))


def _filters(model: Model) -> ShownGroup:
    """Return the first convolution of the first network, each filter in its own range."""
    weights = next(leaf for leaf in jax.tree.leaves(model.members) if np.ndim(leaf) == 5)
    filters = np.moveaxis(np.asarray(weights)[0], -1, 0)[:MOST_FILTERS]
    title = "What the first layer looks for: 3 x 3 weights, black the lowest, white the highest"
    examples = tuple(
        ShownExample(_image(_gray_or_color(each, each)), f"filter {n}", f"first-layer filter {n}")
        for n, each in enumerate(filters, start=1)
    )
    return ShownGroup(title, examples, pixels=True)


def _gray_or_color(pixels: np.ndarray, beside: np.ndarray) -> Shaped[np.ndarray, "..."]:
    """Return pixels from 0 to 255, on the scale of all that are shown beside them."""
    if pixels.dtype != np.uint8:
        low, high = float(beside.min()), float(beside.max())
        pixels = (255 * ((pixels - low) / ((high - low) or 1))).astype(np.uint8)
    return pixels if pixels.shape[-1] in (3, 4) else pixels[..., 0]


def _spectrogram(samples: np.ndarray, rate: int) -> Shaped[np.ndarray, "bands frames 4"]:
    bands = np.asarray(log_mel(samples[: SECONDS * rate], rate)).T[::-1]
    scaled = (bands - bands.min()) / (np.ptp(bands) or 1)
    return (255 * matplotlib.colormaps["viridis"](scaled)).astype(np.uint8)


def _image(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="png")
    return data_uri(stream.getvalue(), "image/png")


def _sound(samples: np.ndarray, rate: int) -> str:
    """Return the beginning of a sound as a WAV file of 16 bits, its peak at nine tenths."""
    samples = samples[: SECONDS * rate]
    loudest = float(np.abs(samples).max(initial=0)) or 1.0
    stream = io.BytesIO()
    wavfile.write(stream, rate, (0.9 * 32767 * samples / loudest).astype("<i2"))
    return data_uri(stream.getvalue(), "audio/wav")
