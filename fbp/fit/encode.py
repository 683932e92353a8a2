"""From examples to numbers near 0: how it is done is learnt from the training rows."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Shaped

from fbp.errors import InputError
from fbp.fit.inputs import Images, Inputs, Sounds, Table, table_of
from fbp.fit.sound import features_of

WIDTH = 8  # a table gets columns of zeros up to a multiple: similar tables share a program
MOST_WORDS = 50  # of a column of words: more are likely names or numbers of the rows


@dataclass(frozen=True)
class Numbers:
    """A column of numbers: (value - mean) / spread; a missing value counts as the mean."""

    name: str
    mean: float
    spread: float


@dataclass(frozen=True)
class Words:
    """A column of words: one number for each known word, which is 1 where the cell holds it."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class TableEncoder:
    """The columns of a table that are used, and all that it must have."""

    columns: tuple[Numbers | Words, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class ImageEncoder:
    """Images of one shape: (pixel - mean) / spread."""

    shape: tuple[int, ...]
    mean: float
    spread: float


@dataclass(frozen=True)
class SoundEncoder:
    """Sounds of one sampling rate: the log-mel features, standardised as a table."""

    rate: int
    table: TableEncoder


Encoder = TableEncoder | ImageEncoder | SoundEncoder


def learn_encoder(inputs: Inputs) -> tuple[Encoder, tuple[str, ...]]:
    """How these examples become numbers, and notes for the reader.

    - A column of numbers is standardised; missing values become its mean.
    - A column of words becomes one number for each word; with more than 50 words, or more than
      half as many as rows, it is left out.
    - Pixels are standardised with one mean and one spread for all.
    - A sound becomes its log-mel features, see `fbp.fit.sound`.

    Raises InputError where no column is left.

    >>> encoder, notes = learn_encoder(Table(("age",), (np.array([1.0, 3.0, np.nan]),)))
    >>> encode(encoder, Table(("age",), (np.array([4.0]),)))
    array([[2., 0., 0., 0., 0., 0., 0., 0.]], dtype=float32)
    >>> print(*notes)
    Missing values were replaced by the column's mean: 1 in age.
    """
    match inputs:
        case Table():
            return _learn_table(inputs)
        case Images(pixels):
            return ImageEncoder(pixels.shape[1:], float(pixels.mean()), _spread(pixels)), ()
        case Sounds():
            table, notes = _learn_table(_sound_table(inputs))
            return SoundEncoder(inputs.rate, table), notes


def encode(encoder: Encoder, inputs: Inputs) -> Float32[np.ndarray, "examples ..."]:
    """The examples as numbers.

    Raises InputError where they are not of the kind, the columns or the shape that was learnt.
    """
    match encoder, inputs:
        case TableEncoder(), Table():
            return _encode_table(encoder, inputs)
        case ImageEncoder(shape, mean, spread), Images(pixels):
            if pixels.shape[1:] != shape:
                raise InputError(
                    f"images of shape {pixels.shape[1:]}, but the model was trained on {shape}: "
                    "give images of that size"
                )
            return ((pixels.astype(np.float32) - mean) / spread).astype(np.float32)
        case SoundEncoder(rate, table), Sounds():
            if inputs.rate != rate:
                raise InputError(
                    f"sounds of {inputs.rate} samples per second, but the model was trained on "
                    f"{rate}: resample them"
                )
            return _encode_table(table, _sound_table(inputs))
    raise InputError(
        f"the input is {_kind(inputs)}, but the model was trained on {_trained_on(encoder)}"
    )


def _learn_table(table: Table) -> tuple[TableEncoder, tuple[str, ...]]:
    columns = [
        _learn_column(name, cells) for name, cells in zip(table.names, table.columns, strict=True)
    ]
    used = tuple(column for column in columns if column is not None)
    left_out = [name for name, column in zip(table.names, columns, strict=True) if column is None]
    if not used:
        raise InputError(
            f"no column can be used: {', '.join(left_out)} hold no value, or words that are "
            "nearly all different"
        )
    return TableEncoder(used, table.names), (*_missing_note(table, used), *_left_out_note(left_out))


def _learn_column(name: str, cells: Shaped[np.ndarray, " rows"]) -> Numbers | Words | None:
    if cells.dtype.kind != "f":
        words = np.unique(cells[cells != ""])
        return Words(name, tuple(words.tolist())) if len(words) <= _most_words(cells) else None
    known = cells[~np.isnan(cells)]
    return Numbers(name, float(known.mean()), _spread(known)) if len(known) else None


def _most_words(cells: np.ndarray) -> float:
    return min(MOST_WORDS, max(2, len(cells) / 2))


def _spread(values: np.ndarray) -> float:
    spread = float(values.std(dtype=np.float64))
    return spread if spread > 0 else 1.0


def _missing_note(table: Table, used: tuple[Numbers | Words, ...]) -> tuple[str, ...]:
    cells = dict(zip(table.names, table.columns, strict=True))
    counts = {c.name: int(np.isnan(cells[c.name]).sum()) for c in used if isinstance(c, Numbers)}
    missing = [f"{count} in {name}" for name, count in counts.items() if count]
    if not missing:
        return ()
    return (f"Missing values were replaced by the column's mean: {', '.join(missing)}.",)


def _left_out_note(names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    return (f"Left out, empty or with nearly as many words as rows: {', '.join(names)}.",)


def _encode_table(encoder: TableEncoder, table: Table) -> Float32[np.ndarray, "examples features"]:
    if table.names != encoder.names:
        missing = [name for name in encoder.names if name not in table.names]
        further = [name for name in table.names if name not in encoder.names]
        if missing or further:
            raise InputError(_wrong_columns(encoder, missing, further))
    cells = dict(zip(table.names, table.columns, strict=True))
    parts = [_encode_column(column, cells[column.name]) for column in encoder.columns]
    numbers = np.concatenate(parts, axis=1).astype(np.float32)
    return np.pad(numbers, ((0, 0), (0, -numbers.shape[1] % WIDTH)))


def _encode_column(column: Numbers | Words, cells: np.ndarray) -> np.ndarray:
    match column:
        case Numbers(name, mean, spread):
            if cells.dtype.kind != "f":
                if (cells != "").any():
                    word = str(cells[cells != ""][0])
                    raise InputError(
                        f"column {name!r} holds {word!r}, but the model was trained on numbers"
                    )
                cells = np.full(len(cells), np.nan)
            return (np.nan_to_num((cells - mean) / spread, nan=0.0))[:, None]
        case Words(_, words):
            texts = [f"{cell:g}" for cell in cells] if cells.dtype.kind == "f" else cells
            return np.asarray(texts)[:, None] == np.array(words)


def _wrong_columns(encoder: TableEncoder, missing: list[str], further: list[str]) -> str:
    faults = [
        *([f"no column {', '.join(missing)}"] if missing else []),
        *([f"unknown column {', '.join(further)}"] if further else []),
    ]
    return (
        f"the columns are not those of the training, {' and '.join(faults)}: give "
        f"{', '.join(encoder.names)}"
    )


def _sound_table(sounds: Sounds) -> Table:
    features = np.stack([features_of(wave, sounds.rate) for wave in sounds.waves])
    names = [f"feature {number}" for number in range(features.shape[1])]
    return table_of(names, list(features.T))


def _kind(inputs: Inputs) -> str:
    return {Table: "a table", Images: "images", Sounds: "sounds"}[type(inputs)]


def _trained_on(encoder: Encoder) -> str:
    kinds = {TableEncoder: "a table", ImageEncoder: "images", SoundEncoder: "sounds"}
    return kinds[type(encoder)]
