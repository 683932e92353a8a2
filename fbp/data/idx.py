"""IDX files, the format of MNIST and its kin.

An IDX file is two zero bytes, one byte for the type of the numbers, one for the number of
dimensions, each dimension as a big-endian 32-bit integer, then the numbers in C order.
Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database (file formats section).
"""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Num

from fbp.data.dataset import Source
from fbp.data.integrity import content, verified
from fbp.data.parts import published
from fbp.errors import InputError

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def parse(stored: bytes, origin: str) -> Num[np.ndarray, "..."]:
    """Return the array that the bytes of an IDX file hold.

    Raises InputError, naming `origin`, where they hold none.

    >>> parse(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 7]), "two-labels")
    array([5, 7], dtype=uint8)
    """
    if not stored:
        raise InputError(f"{origin}: the file is empty: fetch it again")
    if len(stored) < 4 or stored[:2] != b"\0\0" or stored[2] not in DTYPES:
        raise InputError(
            f"{origin}: not an IDX file (it starts with {stored[:4].hex()}, an IDX file of bytes "
            "with 000008 and the number of dimensions): check that it is the right file"
        )
    dtype, rank = np.dtype(DTYPES[stored[2]]), stored[3]
    start = 4 + 4 * rank
    if len(stored) < start:
        raise InputError(f"{origin}: truncated within its header: fetch the file again")
    shape = struct.unpack(f">{rank}I", stored[4:start])
    expected = start + dtype.itemsize * int(np.prod(shape, dtype=object))
    if len(stored) != expected:
        fault = "truncated" if len(stored) < expected else "too long"
        raise InputError(
            f"{origin}: {fault}, it has {len(stored)} bytes where its shape {shape} needs "
            f"{expected}: fetch the file again"
        )
    return np.frombuffer(stored, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_directory(directory: Path, remedy: str, sha256: Mapping[str, str] | None = None) -> Source:
    """Return images and labels from the four files of a directory, plain or gzipped.

    The `t10k` files stay the test; the last sixth of the training rows validates.

    Args:
      directory: holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same two of
        `t10k`, each plain or with `.gz`.
      remedy: what to do when a file is missing or damaged, for the message.
      sha256: the hash of each file's decompressed bytes where the set is a known one.
    """
    train_x, train_y, test_x, test_y = (
        _array(_file(directory, name, remedy), name, remedy, sha256) for name in FILES
    )
    for images, labels, part in ((train_x, train_y, "train"), (test_x, test_y, "t10k")):
        _check_pair(images, labels, f"{directory}: {part}")
    if train_x.shape[1:] != test_x.shape[1:]:
        raise InputError(
            f"{directory}: training images are of shape {train_x.shape[1:]}, t10k images of "
            f"{test_x.shape[1:]}: they are not of one set, {remedy}"
        )
    x = np.concatenate([train_x, test_x])
    return Source(
        origin=str(directory),
        x=x,
        y=np.concatenate([train_y, test_y]),
        white=255.0 if x.dtype == np.uint8 else None,
        partition=published(len(train_x), len(test_x)),
        task="classification",
    )


def _file(directory: Path, name: str, remedy: str) -> Path:
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory: {remedy}")
    for path in (directory / name, directory / f"{name}.gz"):
        if path.is_file():
            return path
    raise InputError(f"{directory}: neither {name} nor {name}.gz is there: {remedy}")


def _array(
    path: Path, name: str, remedy: str, sha256: Mapping[str, str] | None
) -> Num[np.ndarray, "..."]:
    stored = content(path)
    if sha256 is not None:
        verified(stored, sha256[name], str(path), remedy)
    return parse(stored, str(path))


def _check_pair(images: np.ndarray, labels: np.ndarray, origin: str) -> None:
    if images.ndim < 2 or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"{origin}: images of shape {images.shape} and {labels.dtype} labels of shape "
            f"{labels.shape}, expected (n, height, width) and integers of (n,): check the files"
        )
    if len(images) != len(labels):
        raise InputError(
            f"{origin}: {len(images)} images but {len(labels)} labels: the files are not a pair"
        )
    if not np.isfinite(images).all():
        raise InputError(f"{origin}: the images hold NaN or infinity: clean them first")
