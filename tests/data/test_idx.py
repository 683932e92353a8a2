"""IDX files: what is written is read, and what is no IDX file is refused by name."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from fbp.data import bundled, idx, load
from fbp.errors import InputError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array):
    header = bytes([0, 0, CODES[array.dtype.str[1:]], array.ndim])
    return (
        header
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


def arrays(train=30, test=6):
    rng = np.random.default_rng(0)
    image = lambda count: rng.integers(0, 256, (count, 4, 5), dtype=np.uint8)
    label = lambda count: (np.arange(count) % 3).astype(np.uint8)
    return dict(zip(idx.FILES, (image(train), label(train), image(test), label(test)), strict=True))


def write(directory, contents, *, compress=False):
    for name, array in contents.items():
        stored = array if isinstance(array, bytes) else idx_bytes(array)
        suffix = ".gz" if compress else ""
        (directory / f"{name}{suffix}").write_bytes(gzip.compress(stored) if compress else stored)
    return directory


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3, 4)])
def test_what_is_written_is_read(dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    parsed = idx.parse(idx_bytes(array), "file")
    assert parsed.dtype == array.dtype
    np.testing.assert_array_equal(parsed, array)


@pytest.mark.parametrize("compress", [False, True])
def test_a_directory_keeps_its_published_test_set(tmp_path, compress):
    contents = arrays()
    dataset = load("idx", directory=write(tmp_path, contents, compress=compress))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (25, 5, 6)
    assert dataset.feature_shape == (20,)
    images, labels = contents["t10k-images-idx3-ubyte"], contents["t10k-labels-idx1-ubyte"]
    np.testing.assert_array_equal(dataset.test.y, labels)
    np.testing.assert_allclose(dataset.test.x, images.reshape(6, 20) / 255, rtol=1e-6)
    validation = contents["train-images-idx3-ubyte"][25:].reshape(5, 20)
    np.testing.assert_allclose(dataset.validation.x, validation / 255, rtol=1e-6)


def test_images_have_a_channel_axis(tmp_path):
    assert load("idx", directory=write(tmp_path, arrays()), image=True).feature_shape == (4, 5, 1)


def test_a_plain_file_is_preferred_to_a_compressed_one(tmp_path):
    write(tmp_path, arrays(), compress=True)
    write(tmp_path, arrays(train=12))
    assert len(load("idx", directory=tmp_path).train) == 10


def broken(name, make):
    contents = arrays()
    contents[name] = make(contents[name])
    return contents


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("train-images-idx3-ubyte", lambda a: b"", "the file is empty"),
        ("train-images-idx3-ubyte", lambda a: b"\x89PNG" + bytes(40), "not an IDX file"),
        ("train-images-idx3-ubyte", lambda a: b"\0\0\x07\x03" + bytes(40), "not an IDX file"),
        ("train-images-idx3-ubyte", lambda a: idx_bytes(a)[:-1], "truncated, it has 615 bytes"),
        ("train-images-idx3-ubyte", lambda a: idx_bytes(a)[:9], "truncated within its header"),
        ("t10k-images-idx3-ubyte", lambda a: idx_bytes(a) + b"x", "too long"),
        ("t10k-labels-idx1-ubyte", lambda a: a[:-1], "6 images but 5 labels"),
        ("t10k-images-idx3-ubyte", lambda a: a[:, :2], "not of one set"),
        ("train-labels-idx1-ubyte", lambda a: a[:, None], "expected"),
        ("train-labels-idx1-ubyte", lambda a: a.astype("f4"), "expected"),
        ("train-images-idx3-ubyte", lambda a: a * np.float32("nan"), "NaN"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, name, make, message):
    write(tmp_path, broken(name, make))
    with pytest.raises(InputError, match=message) as error:
        load("idx", directory=tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_damaged_gzip_file_is_named(tmp_path):
    write(tmp_path, arrays(), compress=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        load("idx", directory=tmp_path)


def test_a_missing_file_is_named(tmp_path):
    write(tmp_path, arrays())
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="neither t10k-labels-idx1-ubyte nor"):
        load("idx", directory=tmp_path)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such directory"):
        load("idx", directory=tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["idx", "mnist"])
def test_a_directory_must_be_given(name):
    with pytest.raises(InputError, match=f"{name}: give the directory"):
        load(name)


def test_fashion_mnist_names_the_package_that_brings_it(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "FASHION_MNIST", tmp_path / "absent")
    with pytest.raises(InputError, match="apt-get install --reinstall dataset-fashion-mnist"):
        load("fashion_mnist")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_other_bytes_than_the_published_are_damage(tmp_path, name):
    write(tmp_path, arrays(), compress=True)
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte.gz is damaged \(SHA-256"):
        load(name, directory=tmp_path)


def test_fashion_mnist_names_its_classes(tmp_path, monkeypatch):
    contents = arrays(train=60, test=20)
    for name in ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"):
        contents[name] = (np.arange(len(contents[name])) % 10).astype(np.uint8)
    hashes = {n: hashlib.sha256(idx_bytes(a)).hexdigest() for n, a in contents.items()}
    monkeypatch.setattr(bundled, "FASHION_MNIST_SHA256", hashes)
    monkeypatch.setattr(bundled, "FASHION_MNIST", write(tmp_path, contents, compress=True))
    dataset = load("fashion_mnist")
    assert dataset.target_names[0] == "T-shirt/top"
    assert dataset.classes == 10
