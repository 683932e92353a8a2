"""The speech experiment's own mathematics: the last frame, and what is pooled over frames."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.speech import segments
from experiments.speech.networks import last_state_gru, pooled
from fbp.data import Dataset, Split
from fbp.data.voices import Prompt
from fbp.nn import gru


def test_padding_after_the_last_frame_changes_nothing():
    layer = last_state_gru(4)
    params, shape = layer.init(jax.random.key(0), (2, 5, 3))
    x = jax.random.normal(jax.random.key(1), (2, 5, 3))
    padded = jnp.concatenate([x, jnp.zeros((2, 7, 3))], axis=1)
    assert shape == (2, 4)
    np.testing.assert_allclose(
        layer.apply(params, padded), gru(4).apply(params, x)[:, -1], rtol=1e-6
    )


def test_an_utterance_is_pooled_over_its_frames_alone():
    x = np.array([[[1.0], [3.0], [0.0]], [[2.0], [4.0], [9.0]]], np.float32)
    split = Split(x, np.array([0, 1]))
    dataset = Dataset("made", split, split, split, "classification", 2, (3, 1))
    expected = [[2, 1, 1, 3], [5, np.std([2, 4, 9]), 2, 9]]
    np.testing.assert_allclose(pooled(dataset).train.x, expected, rtol=1e-6)


def test_a_prompt_is_in_one_part_whoever_says_it():
    parts = [segments.part_of(f"letters/{letter}") for letter in "abcdefghijklmnopqrstuvwxyz"]
    assert set(parts) == {0, 1, 2}
    assert np.mean(np.equal(parts, 0)) > 0.5


def test_silent_pieces_and_the_rest_of_a_prompt_are_left_out():
    loud, silent = np.full(3200, 0.5, np.float32), np.zeros(3200, np.float32)
    prompt = Prompt("it_IT_m_Carlo", "digits/7", np.concatenate([silent, loud, loud[:100]]))
    np.testing.assert_array_equal(segments.pieces(prompt), [loud])


def test_the_features_of_a_piece_do_not_depend_on_the_pieces_beside_it():
    pieces = np.random.default_rng(0).normal(size=(3, 3200)).astype(np.float32)
    together = segments.features(pieces)
    assert together.shape == (3, 80)
    np.testing.assert_allclose(segments.features(pieces[1:2]), together[1:2], rtol=1e-4, atol=1e-5)
