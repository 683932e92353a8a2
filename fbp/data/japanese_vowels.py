"""Japanese Vowels: nine men say two vowels; who speaks?

270 utterances to train on and 370 to test on, as published, each of 7 to 29 frames of 12
cepstral coefficients of linear prediction. Source: Kudo, Toyama and Shimbo 1999,
Multidimensional curve classification using passing-through regions, Pattern Recognition
Letters 20; the files as the package aeon brings them.
"""

import numpy as np
from jaxtyping import Float32, Int64

from fbp.data import wheel
from fbp.data.dataset import Partition, Source
from fbp.errors import InputError

FRAMES = 29
FOLDER = "aeon/datasets/data/JapaneseVowels"
TRAIN, TEST = f"{FOLDER}/JapaneseVowels_TRAIN.ts", f"{FOLDER}/JapaneseVowels_TEST.ts"
AEON = wheel.Wheel(
    "aeon==1.6.0",
    {
        TRAIN: "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
        TEST: "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
    },
)


def japanese_vowels() -> Source:
    """640 utterances of shape (29, 12), frames of zeros after the last one.

    The published test utterances stay the test; every sixth of each speaker's 30 training
    utterances validates.
    """
    files = wheel.read_members(AEON)
    (train_x, train_y), (test_x, test_y) = (
        parse_utterances(files[path], path) for path in (TRAIN, TEST)
    )
    rows = np.arange(len(train_x))
    validates = rows % 6 == 5
    return Source(
        "japanese_vowels",
        np.concatenate([train_x, test_x]),
        np.concatenate([train_y, test_y]),
        partition=Partition(
            rows[~validates], rows[validates], len(train_x) + np.arange(len(test_x))
        ),
        target_names=tuple(f"speaker {number}" for number in range(1, 10)),
        task="classification",
    )


def parse_utterances(
    stored: bytes, origin: str
) -> tuple[Float32[np.ndarray, "utterances 29 coefficients"], Int64[np.ndarray, " utterances"]]:
    """Return the utterances of a file in sktime's format, and their speakers.

    After `@data` each line is an utterance: its coefficients, divided by colons, each a list of
    its values over time, then the speaker. InputError names the line of what does not fit.

    >>> x, speakers = parse_utterances(b"@data\\n1,2,3:4,5,6:7", "small.ts")
    >>> x.shape, x[0, 2], x[0, 3], speakers
    ((1, 29, 2), array([3., 6.], dtype=float32), array([0., 0.], dtype=float32), array([7]))
    """
    _, _, body = stored.decode("utf-8").partition("@data")
    utterances, speakers = [], []
    for number, line in enumerate(body.split(), start=1):
        *series, speaker = line.split(":")
        try:
            values = np.array([coefficient.split(",") for coefficient in series], np.float32).T
            utterances.append(np.pad(values, ((0, FRAMES - len(values)), (0, 0))))
            speakers.append(int(speaker))
        except ValueError as error:
            raise InputError(
                f"{origin}: utterance {number} cannot be read ({error}): fetch the file again"
            ) from error
    return np.stack(utterances), np.array(speakers, np.int64)
