"""Whatever the width of a sample, the wave read is the one that was written."""

import struct
import wave

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from fbp.data.wav_files import read_sounds
from fbp.errors import InputError

WAVE = np.sin(np.linspace(0, 60, 2000)) * 0.9


def write(path, samples, rate=8000, width=2, channels=1):
    if width == 1:
        stored = np.round(samples * 127 + 128).astype(np.uint8).tobytes()
    else:
        whole = np.round(samples * (2 ** (8 * width - 1) - 1)).astype("<i4")
        stored = whole.view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(stored)
    return path


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_samples_of_each_width_lie_between_minus_one_and_one(tmp_path, width):
    (sound,), rate = read_sounds([write(tmp_path / "1.wav", WAVE, width=width)])
    assert rate == 8000
    assert sound.dtype == np.float32
    np.testing.assert_allclose(sound, WAVE, atol=2.0 ** (2 - 8 * width) + 1e-6)


def test_channels_are_averaged(tmp_path):
    both = np.stack([WAVE, -WAVE], axis=1).ravel()
    (sound,), _ = read_sounds([write(tmp_path / "1.wav", both, channels=2)])
    np.testing.assert_allclose(sound, 0, atol=1e-4)
    assert len(sound) == len(WAVE)


def test_all_sounds_get_the_lowest_rate(tmp_path):
    time = np.arange(16000) / 16000
    paths = [
        write(tmp_path / "1.wav", np.sin(2 * np.pi * 200 * time), rate=16000),
        write(tmp_path / "2.wav", WAVE, rate=8000),
    ]
    (slowed, same), rate = read_sounds(paths)
    assert (rate, len(slowed), len(same)) == (8000, 8000, 2000)
    expected = np.sin(2 * np.pi * 200 * np.arange(8000) / 8000)
    np.testing.assert_allclose(slowed[100:-100], expected[100:-100], atol=0.01)


def test_the_rate_may_be_given(tmp_path):
    (sound,), rate = read_sounds([write(tmp_path / "1.wav", WAVE)], rate=4000)
    assert (rate, len(sound)) == (4000, 1000)


def test_a_sound_shorter_than_its_header_is_refused(tmp_path):
    path = write(tmp_path / "1.wav", WAVE)
    path.write_bytes(path.read_bytes()[:-101])
    with pytest.raises(InputError, match="its header tells of 4,000 bytes of sound, 3,899 are"):
        read_sounds([path])


def test_a_header_that_asks_for_128_gib_allocates_nothing(tmp_path):
    stored = bytearray(write(tmp_path / "1.wav", WAVE).read_bytes())
    form = b"ds64" + struct.pack("<IQQQI", 28, 2**37, 2**37, 2**36, 0)
    stored[:4], stored[12:12] = b"RF64", form
    stored[stored.index(b"data") + 4 :][:4] = b"\xff" * 4
    (tmp_path / "1.wav").write_bytes(stored)
    with pytest.raises(InputError, match="its header tells of 137,438,953,472 bytes of sound"):
        read_sounds([tmp_path / "1.wav"])


def test_samples_of_floats_are_read_as_they_are(tmp_path):
    wavfile.write(tmp_path / "1.wav", 8000, np.stack([WAVE, WAVE], 1).astype(np.float32))
    (sound,), rate = read_sounds([tmp_path / "1.wav"])
    assert rate == 8000
    np.testing.assert_array_equal(sound, WAVE.astype(np.float32))


def test_samples_that_are_no_numbers_are_refused(tmp_path):
    wavfile.write(tmp_path / "1.wav", 8000, np.array([0.0, np.nan], np.float32))
    with pytest.raises(InputError, match=r"1\.wav: holds NaN or infinity"):
        read_sounds([tmp_path / "1.wav"])


@pytest.mark.parametrize("content", [b"", b"RIFF", b"no sound at all" * 10])
def test_what_is_no_wav_file_is_named(tmp_path, content):
    (tmp_path / "1.wav").write_bytes(content)
    with pytest.raises(InputError, match=r"1\.wav: not a WAV file of PCM or floats"):
        read_sounds([tmp_path / "1.wav"])


def test_a_sound_without_samples_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"1\.wav: the sound is empty"):
        read_sounds([write(tmp_path / "1.wav", np.array([]))])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.wav: cannot be read \(No such file"):
        read_sounds([tmp_path / "absent.wav"])


STORED = {dtype: np.round(WAVE[:60] * 99).astype(dtype) for dtype in ("<i2", "<i4", "<f4", "<f8")}
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 80), st.sampled_from([b"\xff" * 4, bytes(4), b"\x00\x80", b"fmt ", b"x"])
    ),
    min_size=1,
    max_size=4,
)


@given(st.sampled_from(list(STORED)), CHANGES, st.integers(0, 700))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_damaged_is_read_or_refused_in_one_line(tmp_path, dtype, changes, length):
    path = tmp_path / "1.wav"
    wavfile.write(path, 8000, STORED[dtype])
    stored = bytearray(path.read_bytes())
    for start, new in changes:
        stored[start : start + len(new)] = new
    path.write_bytes(stored[:length])
    assert reads_or_refuses(path)


def reads_or_refuses(path):
    """Whether finite samples come, or one line that names the file."""
    try:
        (sound,), _ = read_sounds([path])
    except InputError as error:
        return str(error).startswith(f"{path}: ") and "\n" not in str(error)
    return np.isfinite(sound).all()
