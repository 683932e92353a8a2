"""Examples from files: a table, arrays, or a directory of images or sounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from fbp.data import csv_file, idx, npz
from fbp.data.class_folders import files_by_class, files_in
from fbp.data.dataset import Source
from fbp.data.integrity import content
from fbp.data.png_files import read_images
from fbp.data.wav_files import read_sounds
from fbp.errors import InputError
from fbp.fit.encode import Encoder, SoundEncoder
from fbp.fit.inputs import Images, Inputs, Sounds, inputs_of, table_of

TABLES = (".csv", ".csv.gz")
MISSING_TARGETS = ("", "na", "nan", "n/a", "null", "none", "?")


@dataclass(frozen=True, eq=False)
class Labelled:
    """Examples and what is to be predicted of each.

    `test` holds the examples of a published test, else None.
    """

    x: Inputs
    y: Shaped[np.ndarray, " rows"]
    target: str
    test: tuple[Inputs, Shaped[np.ndarray, " tested"]] | None = None


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Examples to be predicted, and what each is called: its file, or its row from 1."""

    x: Inputs
    names: tuple[str, ...]


def read_labelled(path: Path, target: str | None) -> Labelled:
    """The examples to learn from.

    - `.csv`, `.csv.gz`: a table, whose column `target` is to be predicted.
    - `.npz`: `x` and `y`, or `x_train, y_train, x_test, y_test`.
    - a directory with the four IDX files of MNIST's names.
    - a directory with one folder for each class, of PNG or of WAV files.

    Raises InputError for what is none of these, naming the file at fault.
    """
    if path.name.endswith(TABLES):
        return _table(path, target)
    if target is not None:
        raise InputError(f"{path}: only a CSV file has a target column: leave out --target")
    if path.name.endswith(".npz"):
        return _arrays(npz.read(path), "y")
    if not path.is_dir():
        raise InputError(
            f"{path}: give a .csv, .csv.gz or .npz file, or a directory of PNG, WAV or IDX files"
            if path.exists()
            else f"{path}: no such file or directory: check the path"
        )
    if any(path.glob("*-idx?-ubyte*")):
        return _arrays(idx.read(path, f"put there {', '.join(idx.FILES)}"), "label")
    suffix = _suffix(path, "*/*")
    paths, labels = files_by_class(path, suffix)
    return Labelled(_files(paths, suffix, None), np.array(labels), "class")


def read_unlabelled(path: Path, encoder: Encoder, target: str) -> Unlabelled:
    """The examples to predict, in the kinds of files that `read_labelled` reads.

    A table's column `target` is passed over. A directory may hold its files themselves or in
    folders; a single file will do, as will the images of one IDX file.
    """
    if path.name.endswith(TABLES):
        columns = {n: np.array(c) for n, c in csv_file.columns_of(path).items() if n != target}
        if not columns:
            raise InputError(f"{path}: {target} is its only column: give the others")
        return _numbered(table_of(list(columns), list(columns.values())))
    if path.name.endswith(".npz"):
        return _numbered(inputs_of(npz.read_x(path)))
    if path.is_dir():
        suffix = _suffix(path, "*") if _has_files(path) else _suffix(path, "*/*")
        paths = files_in(path, suffix) or files_by_class(path, suffix)[0]
        names = tuple(str(file.relative_to(path)) for file in paths)
        return Unlabelled(_files(paths, suffix, encoder), names)
    if path.suffix.lower() in (".png", ".wav"):
        return Unlabelled(_files([path], path.suffix.lower(), encoder), (path.name,))
    return _numbered(inputs_of(idx.parse(content(path), str(path))))


def _table(path: Path, target: str | None) -> Labelled:
    columns = csv_file.columns_of(path)
    if target is None or target not in columns:
        lacking = "no target column is named" if target is None else f"no column {target!r}"
        raise InputError(f"{path}: {lacking}: give --target, one of {', '.join(columns)}")
    cells = columns.pop(target)
    if not columns:
        raise InputError(f"{path}: {target!r} is the only column: add columns to predict it from")
    table = table_of(list(columns), [np.array(column) for column in columns.values()])
    return Labelled(table, _target(cells, path, target), target)


def _target(cells: Sequence[str], path: Path, target: str) -> Shaped[np.ndarray, " rows"]:
    for row, cell in enumerate(cells, start=1):
        if cell.lower() in MISSING_TARGETS:
            raise InputError(
                f"{path}: row {row}: the target {target!r} is missing ({cell!r}): fill it in or "
                "remove the row"
            )
    for kind in (np.int64, np.float64):
        try:
            return np.array(cells, dtype=str).astype(kind)
        except (ValueError, OverflowError):
            continue
    return np.array(cells)


def _arrays(source: Source, target: str) -> Labelled:
    if source.partition is None:
        return Labelled(inputs_of(source.x), source.y, target)
    test = source.partition.test
    learnt = np.setdiff1d(np.arange(len(source.y)), test)
    x = inputs_of(source.x)
    return Labelled(x[learnt], source.y[learnt], target, (x[test], source.y[test]))


def _files(paths: Sequence[Path], suffix: str, encoder: Encoder | None) -> Images | Sounds:
    if suffix == ".png":
        return Images(read_images(paths))
    rate = encoder.rate if isinstance(encoder, SoundEncoder) else None
    return Sounds(*read_sounds(paths, rate))


def _suffix(directory: Path, pattern: str) -> str:
    kinds = {path.suffix.lower() for path in directory.glob(pattern)} & {".png", ".wav"}
    if len(kinds) != 1:
        found = "both PNG and WAV files" if kinds else "neither PNG nor WAV files"
        raise InputError(
            f"{directory}: {found} are there: give a directory with one folder for each class, of "
            "files of one kind"
        )
    return kinds.pop()


def _has_files(directory: Path) -> bool:
    return any(path.suffix.lower() in (".png", ".wav") for path in directory.glob("*"))


def _numbered(x: Inputs) -> Unlabelled:
    return Unlabelled(x, tuple(str(row) for row in range(1, len(x) + 1)))
