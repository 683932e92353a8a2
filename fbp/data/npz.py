"""Your own arrays: an NPZ file with `x` and `y`, or with the parts already made."""

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num, Shaped

from fbp.data.dataset import Partition, Source
from fbp.data.parts import published
from fbp.errors import InputError

PARTS = ("train", "validation", "test")
UNREADABLE = (OSError, EOFError, ValueError, TypeError, MemoryError, RuntimeError, KeyError)
UNREADABLE += (NotImplementedError, OverflowError, zipfile.BadZipFile, zlib.error)


def read_source(path: Path) -> Source:
    """Return the arrays in a file written by `numpy.savez`.

    The file holds `x` of shape `(examples, *features)` and `y` of shape `(examples,)`, or
    `x_train, y_train, x_test, y_test` and, if you like, `x_validation, y_validation` (without
    them the last sixth of the training rows validates). Whether `y` is one of classes or of
    numbers is told as for every target. InputError names the file and the array of what does not
    fit.
    """
    arrays = _arrays(path)
    if {"x", "y"} <= arrays.keys():
        return _source(path, arrays["x"], arrays["y"], None)
    required = {f"{array}_{part}" for array in "xy" for part in ("train", "test")}
    if not required <= arrays.keys():
        raise InputError(
            f"{path}: it holds {', '.join(sorted(arrays)) or 'nothing'}: save it with x and y, or "
            "with x_train, y_train, x_test and y_test"
        )
    parts = [part for part in PARTS if f"x_{part}" in arrays]
    pairs = [_pair(path, arrays, part) for part in parts]
    shapes = {x.shape[1:] for x, _ in pairs}
    if len(shapes) > 1:
        raise InputError(
            f"{path}: examples of different shapes {sorted(shapes)}: give all parts one shape"
        )
    counts = [len(x) for x, _ in pairs]
    rows = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
    partition = Partition(*rows) if len(parts) == 3 else published(*counts)
    x, y = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    return _source(path, x, y, partition)


def read_x(path: Path) -> Num[np.ndarray, "examples ..."]:
    """Return the array `x`, or the only one, of a file written by `numpy.savez`."""
    arrays = _arrays(path)
    if "x" not in arrays and len(arrays) != 1:
        raise InputError(f"{path}: it holds {', '.join(sorted(arrays)) or 'nothing'}: save it as x")
    return arrays["x"] if "x" in arrays else next(iter(arrays.values()))


def read_arrays(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Return the arrays of an NPZ file, none longer than the file's index says.

    Raises ValueError where a header asks for more than is stored, before anything is allocated,
    and what `numpy.load` and `zipfile` raise (`UNREADABLE`).
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                _check_header(stream, member)
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _check_header(stream: Any, member: zipfile.ZipInfo) -> None:
    version = np.lib.format.read_magic(stream)
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    shape, _, dtype = read.get(version[0], np.lib.format.read_array_header_2_0)(stream)
    size = dtype.itemsize * math.prod(shape)
    if size > member.file_size:
        raise ValueError(
            f"{member.filename}: its header asks for {size:,} bytes, {member.file_size:,} are there"
        )


def _arrays(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file: check the path")
    try:
        return read_arrays(path)
    except UNREADABLE as error:
        raise InputError(
            f"{path}: not an NPZ file of plain arrays, or damaged ({error}): write it anew with "
            "numpy.savez"
        ) from error


def _pair(path: Path, arrays: dict[str, np.ndarray], part: str) -> tuple[np.ndarray, np.ndarray]:
    if f"y_{part}" not in arrays:
        raise InputError(f"{path}: x_{part} is there without y_{part}: save both")
    x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
    _check(path, x, y, f"_{part}")
    return x, y


def _source(
    path: Path,
    x: Num[np.ndarray, "examples ..."],
    y: Shaped[np.ndarray, " examples"],
    partition: Partition | None,
) -> Source:
    _check(path, x, y, "")
    white = 255.0 if x.dtype == np.uint8 and x.ndim > 2 else None
    return Source(str(path), x, y, white=white, partition=partition, target_names=("y",))


def _check(path: Path, x: np.ndarray, y: np.ndarray, suffix: str) -> None:
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y):
        raise InputError(
            f"{path}: x{suffix} has shape {x.shape} and y{suffix} {y.shape}: give "
            "(examples, *features) and (examples,) with as many examples"
        )
    if not x.size:
        raise InputError(f"{path}: x{suffix} is empty, shape {x.shape}: give at least one example")
    for name, array, kinds in ((f"x{suffix}", x, "buif"), (f"y{suffix}", y, "buifU")):
        if array.dtype.kind not in kinds:
            raise InputError(f"{path}: {name} is of {array.dtype}: give real numbers")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            where = ", ".join(map(str, np.argwhere(~np.isfinite(array))[0]))
            raise InputError(
                f"{path}: {name}[{where}] is not a finite number: correct it or remove the example"
            )
