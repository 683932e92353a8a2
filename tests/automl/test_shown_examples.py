"""The user's own examples on the page: the mistaken ones first, each with what was said of it."""

import jax
import numpy as np
import pytest

from fbp.automl.encode import ImageEncoder
from fbp.automl.inputs import Images, Sounds
from fbp.automl.model import Model
from fbp.automl.networks import Architecture, build
from fbp.automl.score import Scored
from fbp.automl.shown_examples import examples_shown

TRUTH = np.array([0, 1, 0, 1])
SHARES = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])


@pytest.fixture(scope="module")
def model():
    architecture = Architecture((4,), (8,), 2)
    params, _ = build(architecture).init(jax.random.key(0), (-1, 8, 8, 1))
    members = jax.tree.map(lambda leaf: leaf[None], params)
    classes = np.array(["cat", "dog"])
    return Model(
        "classification", "kind", classes, ImageEncoder((8, 8, 1), 0.0, 1.0), architecture, members
    )


def scored(inputs):
    return Scored(inputs, TRUTH, SHARES.argmax(axis=1), SHARES)


def test_mistaken_pictures_come_first_the_surest_at_the_head(model):
    page = examples_shown(model, scored(Images(np.arange(256.0).reshape(4, 8, 8, 1))))
    mistaken, right, filters = page.groups
    assert [e.text for e in mistaken.examples] == ["cat, 80%; it is dog", "dog, 60%; it is cat"]
    assert [e.text for e in right.examples] == ["cat, 90%", "dog, 70%"]
    assert len(filters.examples) == 4
    assert all(e.picture.startswith("data:image/png;base64,") for e in mistaken.examples)


def test_sounds_can_be_played(model):
    waves = tuple(np.sin(np.arange(n) / 5).astype(np.float32) for n in (4000, 100, 4000, 0))
    page = examples_shown(model, scored(Sounds(waves, 8000)))
    assert page.kind == "sounds"
    assert all(e.sound.startswith("data:audio/wav;base64,UklGR") for e in page.groups[0].examples)


def test_a_table_has_nothing_to_show(model):
    assert examples_shown(model, None) is None
