"""NPZ files: arrays in, the same arrays out in parts, and what does not fit named."""

import io
import zipfile

import numpy as np
import pytest

from fbp.data import load
from fbp.errors import InputError

X = np.arange(60.0).reshape(20, 3)
Y = np.arange(20) % 2


def save(tmp_path, **arrays):
    np.savez(tmp_path / "own.npz", **arrays)
    return str(tmp_path / "own.npz")


def test_codes_are_classes_and_fractions_are_targets(tmp_path):
    assert load(save(tmp_path, x=X, y=Y)).task == "classification"
    assert load(save(tmp_path, x=X, y=Y), task="numbers").task == "regression"
    assert load(save(tmp_path, x=X, y=Y + 0.5 * (X[:, 0] > 0))).task == "regression"
    assert load(save(tmp_path, x=X, y=np.where(Y, "yes", "no"))).target_names == ("no", "yes")


def test_given_parts_are_kept(tmp_path):
    parts = {"x_train": X[:12], "x_validation": X[12:15], "x_test": X[15:]}
    parts |= {"y_train": Y[:12], "y_validation": Y[12:15], "y_test": Y[15:]}
    dataset = load(save(tmp_path, **parts))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (12, 3, 5)
    np.testing.assert_array_equal(dataset.test.y, Y[15:])
    np.testing.assert_allclose(dataset.train.x.mean(axis=0), 0, atol=1e-6)


def test_without_a_validation_part_the_last_training_rows_validate(tmp_path):
    dataset = load(save(tmp_path, x_train=X[:12], y_train=Y[:12], x_test=X[12:], y_test=Y[12:]))
    np.testing.assert_array_equal(dataset.validation.y, Y[10:12])


def test_pixels_are_scaled_and_float_images_are_left_as_they_are(tmp_path):
    pixels = np.full((20, 4, 4), 255, dtype=np.uint8)
    assert load(save(tmp_path, x=pixels, y=Y), image=True).train.x.max() == 1
    colours = np.full((20, 4, 4, 3), 7.0, dtype=np.float32)
    dataset = load(save(tmp_path, x=colours, y=Y), image=True)
    assert dataset.feature_shape == (4, 4, 3)
    assert dataset.train.x.max() == 7


def test_a_table_is_no_image(tmp_path):
    with pytest.raises(InputError, match=r"an example has shape \(3,\), which is no image"):
        load(save(tmp_path, x=X, y=Y), image=True)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "it holds x: save it with x and y"),
        ({"x": X, "y": Y[:-1]}, r"x has shape \(20, 3\) and y \(19,\)"),
        ({"x": X[:, 0], "y": Y}, r"x has shape \(20,\)"),
        ({"x": X, "y": Y[:, None]}, r"y \(20, 1\)"),
        ({"x": X[:0], "y": Y[:0]}, "x is empty"),
        ({"x": X.astype(complex), "y": Y}, "x is of complex128: give real numbers"),
        ({"x": X, "y": Y.astype(object)}, "not an NPZ file of plain arrays"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y}, "different shapes"),
        (
            {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y, "x_validation": X},
            "x_validation is there without y_validation",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message):
        load(save(tmp_path, **arrays))


def test_nan_is_named_by_its_index(tmp_path):
    x = X.copy()
    x[4, 1] = np.nan
    with pytest.raises(InputError, match=r"own\.npz: x\[4, 1\] is not a finite number"):
        load(save(tmp_path, x=x, y=Y))
    with pytest.raises(InputError, match=r"own\.npz: y\[0\] is not a finite number"):
        load(save(tmp_path, x=X, y=np.full(20, np.inf)))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"own\.npz: not an NPZ file"):
        load("own.npz", directory=tmp_path)


def test_a_single_array_is_no_npz_file(tmp_path):
    with (tmp_path / "own.npz").open("wb") as stream:
        np.save(stream, X)
    with pytest.raises(InputError, match=r"own\.npz: not an NPZ file"):
        load("own.npz", directory=tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.npz: no such file"):
        load("absent.npz", directory=tmp_path)


def test_a_header_that_asks_for_more_than_is_stored_allocates_nothing(tmp_path):
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1)) | {"shape": (1 << 40, 1 << 10)}
    with zipfile.ZipFile(tmp_path / "big.npz", "w") as archive:
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, header)
        archive.writestr("x.npy", stream.getvalue() + b"\0" * 8)
    with pytest.raises(InputError, match="its header asks for 9,007,199,254,740,992 bytes"):
        load(str(tmp_path / "big.npz"))
