"""Spoken prompts: whose they are, what they are called, and which files are refused."""

import wave

import numpy as np
import pytest

from fbp.data import voices
from fbp.errors import InputError


def record(path, samples, *, channels=1, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as stream:
        stream.setparams((channels, 2, rate, 0, "NONE", ""))
        stream.writeframes(np.asarray(samples, "<i2").tobytes())


@pytest.fixture
def sounds(tmp_path):
    for voice in voices.PACKAGES:
        record(tmp_path / voice / "digits" / "7.wav", [0, -(2**15), 2**14])
        record(tmp_path / voice / "silence" / "1.wav", [0, 0])
        record(tmp_path / voice / "tt-monkeys.wav", [0, 1])
    return tmp_path


def test_every_voice_says_the_same_prompts_and_what_is_no_voice_is_left_out(sounds):
    said = voices.prompts(sounds)
    assert [prompt.voice for prompt in said] == list(voices.PACKAGES)
    assert {prompt.name for prompt in said} == {"digits/7"}
    np.testing.assert_array_equal(said[0].wave, np.array([0, -1, 0.5], np.float32))


def test_a_missing_voice_is_named_with_the_command_that_installs_it(tmp_path):
    for voice in list(voices.PACKAGES)[1:]:
        (tmp_path / voice).mkdir()
    with pytest.raises(InputError, match="apt-get install asterisk-core-sounds-en-wav, or give"):
        voices.prompts(tmp_path)


@pytest.mark.parametrize("form", [{"channels": 2}, {"rate": 16000}])
def test_another_form_of_sound_is_refused(sounds, form):
    record(sounds / "fr_CA_f_June" / "letters" / "a.wav", [0, 1], **form)
    with pytest.raises(InputError, match=r"letters/a\.wav: .* expected one of 16 bits at 8000 Hz"):
        voices.prompts(sounds)


def test_a_file_without_sound_is_refused(sounds):
    (sounds / "fr_CA_f_June" / "bad.wav").write_bytes(b"no sound")
    with pytest.raises(InputError, match=r"bad\.wav: not a WAV file"):
        voices.prompts(sounds)
