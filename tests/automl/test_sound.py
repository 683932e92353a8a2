"""A tone is strongest in its band; loudness shifts all bands alike."""

import numpy as np
import pytest

from fbp.automl.sound import BANDS, features_of, log_mel

RATE = 8000


def tone(hertz, seconds=0.5):
    return np.sin(2 * np.pi * hertz * np.arange(seconds * RATE) / RATE).astype(np.float32)


def test_a_higher_tone_is_strongest_in_a_higher_band():
    bands = [int(np.mean(log_mel(tone(f), RATE), axis=0).argmax()) for f in (200, 500, 1000, 3000)]
    assert bands == sorted(set(bands))


@pytest.mark.parametrize("hertz", [300, 1000, 2500])
def test_the_strongest_band_lies_at_the_tone(hertz):
    mel = lambda f: 2595 * np.log10(1 + f / 700)
    centres = np.linspace(mel(20), mel(RATE / 2), BANDS + 2)[1:-1]
    strongest = int(np.mean(log_mel(tone(hertz), RATE), axis=0).argmax())
    assert abs(centres[strongest] - mel(hertz)) <= centres[1] - centres[0]


def test_twice_the_pressure_is_four_times_the_power():
    noise = np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    louder = np.asarray(log_mel(2 * noise, RATE)) - np.asarray(log_mel(noise, RATE))
    np.testing.assert_allclose(louder, np.log(4), rtol=1e-3)


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (200, 1), (279, 1), (280, 2), (8000, 98)])
def test_a_frame_starts_every_ten_milliseconds_while_it_fits(samples, frames):
    assert log_mel(np.zeros(samples, np.float32), RATE).shape == (frames, BANDS)


def test_features_tell_a_rising_tone_from_a_falling_one():
    time = np.arange(RATE) / RATE
    rising = np.sin(2 * np.pi * (300 * time + 600 * time**2)).astype(np.float32)
    assert np.abs(features_of(rising, RATE) - features_of(rising[::-1].copy(), RATE)).max() > 1
