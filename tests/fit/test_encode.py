"""Every kind of example becomes finite numbers near 0, by what the training rows taught."""

import numpy as np
import pytest

from fbp.errors import InputError
from fbp.fit.encode import encode, learn_encoder
from fbp.fit.inputs import Images, Sounds, Table, inputs_of, table_of


def table(**columns):
    return table_of(list(columns), [np.array(column) for column in columns.values()])


def encoded(inputs, other=None):
    encoder, _ = learn_encoder(inputs)
    return encode(encoder, inputs if other is None else other)


def test_columns_have_mean_zero_and_spread_one():
    x = np.random.default_rng(0).normal(5, 3, (100, 2))
    numbers = encoded(inputs_of(x))[:, :2]
    np.testing.assert_allclose(numbers.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(numbers.std(axis=0), 1, rtol=1e-5)


def test_a_missing_value_counts_as_the_mean_and_is_noted():
    _, (note,) = learn_encoder(table(age=[1.0, np.nan, 3.0], size=[1.0, 2.0, 3.0]))
    assert note == "Missing values were replaced by the column's mean: 1 in age."
    assert encoded(table(age=[1.0, np.nan, 3.0]))[1, 0] == 0


def test_a_constant_column_becomes_zero():
    assert not encoded(table(age=[3.0, 3.0])).any()


def test_words_become_one_number_each_and_an_unknown_word_none():
    numbers = encoded(table(kind=["b", "a", "b", ""]), table(kind=["a", "b", "c", ""]))
    assert numbers[:, :2].tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]


def test_text_that_reads_as_numbers_is_numbers():
    assert table(age=["1", "?", " 3 "]).columns[0].tolist()[::2] == [1.0, 3.0]


def test_a_column_of_names_is_left_out_and_noted():
    names = [f"person {i}" for i in range(20)]
    encoder, (note,) = learn_encoder(table(name=names, age=np.arange(20.0)))
    assert "Left out" in note
    assert "name" in note
    assert encode(encoder, table(name=names, age=np.arange(20.0))).any(axis=0).sum() == 1


def test_the_width_is_a_multiple_of_eight_whose_rest_is_zero():
    numbers = encoded(inputs_of(np.random.default_rng(0).normal(size=(9, 11))))
    assert numbers.shape == (9, 16)
    assert not numbers[:, 11:].any()


def test_the_order_of_columns_does_not_matter():
    one, two = [1.0, 2.0, 4.0], ["x", "y", "x"]
    encoder, _ = learn_encoder(table(a=one, b=two))
    same = encode(encoder, table(b=two, a=one))
    np.testing.assert_array_equal(same, encode(encoder, table(a=one, b=two)))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (table(a=[1.0]), "no column b: give a, b"),
        (table(a=[1.0], b=[2.0], c=[3.0]), "unknown column c"),
        (table(a=[1.0], b=["red"]), "column 'b' holds 'red', but the model was trained on numbers"),
        (Images(np.zeros((1, 8, 8, 1))), "the input is images, but the model was trained on a tab"),
    ],
)
def test_other_columns_are_refused(other, message):
    encoder, _ = learn_encoder(table(a=[1.0, 2.0], b=[3.0, 4.0]))
    with pytest.raises(InputError, match=message):
        encode(encoder, other)


def test_a_table_without_a_usable_column_is_refused():
    with pytest.raises(InputError, match="no column can be used: name hold no value"):
        learn_encoder(table(name=[f"{i}x" for i in range(9)]))


def test_pixels_share_one_scale():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8))
    numbers = encoded(inputs_of(pixels))
    assert numbers.shape == (20, 8, 8, 1)
    assert abs(numbers.mean()) < 1e-5
    assert numbers.std() == pytest.approx(1, rel=1e-4)


def test_images_of_another_size_are_refused():
    encoder, _ = learn_encoder(Images(np.zeros((2, 8, 8, 1))))
    with pytest.raises(InputError, match=r"images of shape \(9, 8, 1\), but the model was trained"):
        encode(encoder, Images(np.zeros((2, 9, 8, 1))))


def test_sounds_of_any_length_have_the_same_number_of_features():
    rng = np.random.default_rng(0)
    sounds = Sounds(tuple(rng.normal(size=n).astype(np.float32) for n in (10, 300, 4000)), 8000)
    assert encoded(sounds).shape == (3, 248)


def test_sounds_of_another_rate_are_refused():
    encoder, _ = learn_encoder(Sounds((np.zeros(100, np.float32),) * 2, 8000))
    with pytest.raises(InputError, match="sounds of 16000 samples per second"):
        encode(encoder, Sounds((np.zeros(100, np.float32),), 16000))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(3), r"x has shape \(3,\)"),
        (np.zeros((3, 0)), "x is empty"),
        (np.array([[1.0, np.inf]]), "column 1: row 0 is infinite"),
        (np.array([[1e300]]), "too large for float32"),
        (np.full((2, 8, 8), np.nan), "image 0 holds NaN"),
        (np.zeros((2, 9, 9, 5)), "5 colours"),
    ],
)
def test_input_that_is_no_numbers_is_refused(x, message):
    with pytest.raises(InputError, match=message):
        inputs_of(x)


def test_a_data_frame_keeps_its_columns():
    class Frame:
        columns = ("age", "kind")

        def __getitem__(self, name):
            return {"age": np.array([1, 2]), "kind": np.array(["a", "b"], dtype=object)}[name]

    inputs = inputs_of(Frame())
    assert isinstance(inputs, Table)
    assert inputs.names == ("age", "kind")
    assert [column.dtype.kind for column in inputs.columns] == ["f", "U"]
