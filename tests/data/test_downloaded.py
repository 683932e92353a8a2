"""Sets that are downloaded once: their published sizes, and what their rows are."""

import numpy as np
import pytest

from fbp.data import load
from fbp.data.japanese_vowels import parse_utterances
from fbp.errors import InputError


def test_japanese_vowels_has_its_published_parts():
    dataset = load("japanese_vowels", image=True)
    parts = (dataset.train, dataset.validation, dataset.test)
    assert dataset.feature_shape == (29, 12, 1)
    assert dataset.classes == 9
    assert [len(split) for split in parts] == [225, 45, 370]
    counts = [np.bincount(split.y).tolist() for split in parts]
    assert counts[:2] == [[25] * 9, [5] * 9]
    assert counts[2] == [31, 35, 88, 44, 29, 24, 40, 50, 29]


def test_an_utterance_has_7_to_29_frames_and_then_zeros():
    x = load("japanese_vowels", image=True).test.x[..., 0]
    spoken = np.any(x != 0, axis=2)
    lengths = spoken.sum(axis=1)
    assert (lengths.min(), lengths.max()) == (7, 29)
    np.testing.assert_array_equal(spoken, np.arange(29) < lengths[:, None])


@pytest.mark.parametrize("line", [b"1,2:3:1", b"1,x:3,4:1", b"1,2:3,4:five", b"1,2"])
def test_an_utterance_that_does_not_fit_is_named(line):
    with pytest.raises(InputError, match=r"small\.ts: utterance 2 cannot be read"):
        parse_utterances(b"@data\n1,2:3,4:5\n" + line, "small.ts")


def test_half_of_the_faces_are_faces():
    dataset = load("faces", image=True)
    parts = (dataset.train, dataset.validation, dataset.test)
    assert dataset.feature_shape == (25, 25, 1)
    assert dataset.target_names == ("other", "face")
    assert [np.bincount(split.y).tolist() for split in parts] == [[70, 70], [15, 15], [15, 15]]
    pixels = np.concatenate([split.x for split in parts])
    assert (pixels.min(), pixels.max()) == (0, 1)
