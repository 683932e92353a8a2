"""From examples to numbers near 0: how it is done is learnt from the training rows."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Shaped

from fbp.automl.inputs import Images, Inputs, Sounds
from fbp.automl.sound import features_of
from fbp.data.features import (
    TableEncoder,
    encode_table,
    encode_values,
    learn_table,
    unfamiliar,
)
from fbp.data.scaling import mean_and_std
from fbp.data.table import Table, table_of
from fbp.errors import InputError

WIDTH = 8  # a table gets columns of zeros up to a multiple: similar tables share a program
Features = Float32[np.ndarray, "examples ..."]
Rows = Shaped[np.ndarray, " some"] | slice


@dataclass(frozen=True)
class ImageEncoder:
    """Images of one shape: (pixel - mean) / std."""

    shape: tuple[int, ...]
    mean: float
    std: float


@dataclass(frozen=True)
class SoundEncoder:
    """Sounds of one sampling rate: the log-mel features, standardized as a table."""

    rate: int
    table: TableEncoder


Encoder = TableEncoder | ImageEncoder | SoundEncoder


def learn_encoder(
    inputs: Inputs, rows: Rows = slice(None)
) -> tuple[Encoder, tuple[str, ...], Features]:
    """Learn how examples become numbers from some of them, and encode all.

    - A table: see `fbp.data.features.learn_table`.
    - Pixels are standardized with one mean and one standard deviation for all.
    - A sound becomes its log-mel features, see `fbp.automl.sound`.

    Returns the encoder, notes for the reader, and the features of all examples.

    Raises InputError where no column of a table can be used.

    >>> encoder, notes, features = learn_encoder(table_of(("age",), [np.array([1.0, 3.0])]))
    >>> encode(encoder, table_of(("age",), [np.array([4.0])]))
    array([[2., 0., 0., 0., 0., 0., 0., 0.]], dtype=float32)
    """
    match inputs:
        case Table():
            encoder, notes, values = learn_table(inputs, rows)
            return encoder, notes, _padded(encode_values(encoder, inputs.names, values))
        case Images(pixels):
            encoder = ImageEncoder(pixels.shape[1:], *mean_and_std(pixels[rows]))
            return encoder, (), encode(encoder, inputs)
        case Sounds():
            table = _sound_table(inputs)
            encoder, _, values = learn_table(table, rows)
            features = _padded(encode_values(encoder, table.names, values))
            return SoundEncoder(inputs.rate, encoder), (), features


def encode(encoder: Encoder, inputs: Inputs) -> Features:
    """Return the features of examples, each made of that example alone.

    Raises InputError where they are not of the kind, the columns or the shape that was learnt.
    """
    match encoder, inputs:
        case TableEncoder(), Table():
            return _padded(encode_table(encoder, inputs))
        case ImageEncoder(shape, mean, std), Images(pixels):
            if pixels.shape[1:] != shape:
                raise InputError(
                    f"images of shape {pixels.shape[1:]}, but the model was trained on {shape}: "
                    "give images of that size"
                )
            return ((pixels.astype(np.float32) - mean) / std).astype(np.float32)
        case SoundEncoder(rate, table), Sounds():
            if inputs.rate != rate:
                raise InputError(
                    f"sounds of {inputs.rate} samples per second, but the model was trained on "
                    f"{rate}: resample them"
                )
            return _padded(encode_table(table, _sound_table(inputs)))
    raise InputError(
        f"the input is {_kind(inputs)}, but the model was trained on {_trained_on(encoder)}"
    )


def encoding_notes(encoder: Encoder, inputs: Inputs) -> tuple[str, ...]:
    """Return what is unfamiliar in a table: unknown words, values far out, what is no number."""
    if isinstance(encoder, TableEncoder) and isinstance(inputs, Table):
        return (*inputs.notes, *unfamiliar(encoder, inputs))
    return ()


def _padded(features: np.ndarray) -> Features:
    return np.pad(features, ((0, 0), (0, -features.shape[1] % WIDTH)))


def _sound_table(sounds: Sounds) -> Table:
    features = np.stack([features_of(wave, sounds.rate) for wave in sounds.waves])
    names = [f"feature {number}" for number in range(features.shape[1])]
    return table_of(names, list(features.T))


def _kind(inputs: Inputs) -> str:
    return {Table: "a table", Images: "images", Sounds: "sounds"}[type(inputs)]


def _trained_on(encoder: Encoder) -> str:
    kinds = {TableEncoder: "a table", ImageEncoder: "images", SoundEncoder: "sounds"}
    return kinds[type(encoder)]
