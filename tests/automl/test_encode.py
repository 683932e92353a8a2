"""Every kind of example becomes finite numbers near 0, by what the training rows taught."""

import numpy as np
import pytest

from fbp.automl.encode import encode, learn_encoder
from fbp.automl.inputs import Images, Sounds, inputs_of
from fbp.data.table import table_of
from fbp.errors import InputError


def table(**columns):
    return table_of(list(columns), [np.array(column) for column in columns.values()])


def encoded(inputs, other=None):
    encoder, _, features = learn_encoder(inputs)
    return features if other is None else encode(encoder, other)


def test_columns_have_mean_zero_and_spread_one():
    x = np.random.default_rng(0).normal(5, 3, (100, 2))
    numbers = encoded(inputs_of(x))[:, :2]
    np.testing.assert_allclose(numbers.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(numbers.std(axis=0), 1, rtol=1e-5)


def test_the_width_is_a_multiple_of_eight_whose_rest_is_zero():
    numbers = encoded(inputs_of(np.random.default_rng(0).normal(size=(9, 11))))
    assert numbers.shape == (9, 16)
    assert not numbers[:, 11:].any()


def test_the_order_of_columns_does_not_matter():
    one, two = [1.0, 2.0, 4.0], ["x", "y", "x"]
    encoder, _, _ = learn_encoder(table(a=one, b=two))
    same = encode(encoder, table(b=two, a=one))
    np.testing.assert_array_equal(same, encode(encoder, table(a=one, b=two)))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (table(a=[1.0]), "no column b: give a, b"),
        (Images(np.zeros((1, 8, 8, 1))), "the input is images, but the model was trained on a tab"),
    ],
)
def test_other_columns_are_refused(other, message):
    encoder, _, _ = learn_encoder(table(a=[1.0, 2.0], b=[3.0, 4.0]))
    with pytest.raises(InputError, match=message):
        encode(encoder, other)


def test_pixels_share_one_scale():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8))
    numbers = encoded(inputs_of(pixels))
    assert numbers.shape == (20, 8, 8, 1)
    assert abs(numbers.mean()) < 1e-5
    assert numbers.std() == pytest.approx(1, rel=1e-4)


def test_images_of_another_size_are_refused():
    encoder, _, _ = learn_encoder(Images(np.zeros((2, 8, 8, 1))))
    with pytest.raises(InputError, match=r"images of shape \(9, 8, 1\), but the model was trained"):
        encode(encoder, Images(np.zeros((2, 9, 8, 1))))


def test_sounds_of_any_length_have_the_same_number_of_features():
    rng = np.random.default_rng(0)
    sounds = Sounds(tuple(rng.normal(size=n).astype(np.float32) for n in (10, 300, 4000)), 8000)
    assert encoded(sounds).shape == (3, 248)


def test_sounds_of_another_rate_are_refused():
    encoder, _, _ = learn_encoder(
        Sounds((np.ones(100, np.float32), np.zeros(100, np.float32)), 8000)
    )
    with pytest.raises(InputError, match="sounds of 16000 samples per second"):
        encode(encoder, Sounds((np.zeros(100, np.float32),), 16000))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(3), r"x has shape \(3,\)"),
        (np.zeros((3, 0)), "x is empty"),
        (np.array([[1.0, np.inf]]), "column 1: row 1 is infinite"),
        (np.full((2, 8, 8), np.nan), "image 0 holds NaN"),
        (np.zeros((2, 9, 9, 5)), "5 channels"),
    ],
)
def test_input_that_is_no_numbers_is_refused(x, message):
    with pytest.raises(InputError, match=message):
        inputs_of(x)
