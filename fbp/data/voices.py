"""Voices: the spoken prompts of a telephone exchange, from Debian's packages.

Each package is one voice, which says the same 500 to 600 things in its language: numbers,
letters, sentences. Two of the packages, English and Mexican Spanish, are by one speaker.
Sources and licences: /usr/share/doc/asterisk-core-sounds-*-wav/copyright (CC BY-SA 3.0 and CC
BY 3.0); the Italian voice of asterisk-prompt-it-menardi-wav is by Paolo and Silvia Menardi.
"""

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from fbp.errors import InputError

SOUNDS = Path("/usr/share/asterisk/sounds")
PACKAGES = {
    "en_US_f_Allison": "asterisk-core-sounds-en-wav",
    "es_MX_f_Allison": "asterisk-core-sounds-es-wav",
    "fr_CA_f_June": "asterisk-core-sounds-fr-wav",
    "it_IT_f_Menardi": "asterisk-prompt-it-menardi-wav",
    "it_IT_m_Carlo": "asterisk-core-sounds-it-wav",
    "ru_RU_f_IvrvoiceRU": "asterisk-core-sounds-ru-wav",
}
RATE = 8000  # Hz
NO_VOICE = frozenset({"tt-monkeys", "beep", "beeperr", "ascending-2tone", "descending-2tone"})


@dataclass(frozen=True, eq=False)
class Prompt:
    """What is said in one file.

    Attributes:
      voice: whose, a key of `PACKAGES`.
      name: what is said, alike for all voices, such as `digits/7`.
      wave: the sound pressure at 8,000 Hz, between -1 and 1.
    """

    voice: str
    name: str
    wave: Float32[np.ndarray, " samples"]


def prompts(directory: Path = SOUNDS) -> tuple[Prompt, ...]:
    """All prompts of all voices; silence, tones and monkeys are left out.

    Args:
      directory: holds a directory of WAV files for each voice.

    Raises InputError where a voice is missing, with the command that installs it, and for a
    file that is not 16-bit mono at 8,000 Hz.
    """
    missing = [voice for voice in PACKAGES if not (directory / voice).is_dir()]
    if missing:
        packages = " ".join(PACKAGES[voice] for voice in missing)
        raise InputError(
            f"{directory}: no voice {', '.join(missing)}: apt-get install {packages}, or give the "
            "directory that holds them"
        )
    return tuple(
        Prompt(voice, path.relative_to(directory / voice).with_suffix("").as_posix(), _wave(path))
        for voice in PACKAGES
        for path in sorted((directory / voice).rglob("*.wav"))
        if path.parent.name != "silence" and path.stem not in NO_VOICE
    )


def _wave(path: Path) -> Float32[np.ndarray, " samples"]:
    try:
        with wave.open(str(path)) as stream:
            form = (stream.getnchannels(), stream.getsampwidth(), stream.getframerate())
            stored = stream.readframes(stream.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise InputError(f"{path}: not a WAV file ({error}): install its package again") from error
    if form != (1, 2, RATE):
        raise InputError(
            f"{path}: {form[0]} channels of {8 * form[1]} bits at {form[2]} Hz, expected one of 16 "
            f"bits at {RATE} Hz: convert it"
        )
    return np.frombuffer(stored, "<i2").astype(np.float32) / 2**15
