"""Examples from files: a table, arrays, or a directory of images or sounds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from fbp.automl.encode import Encoder, SoundEncoder
from fbp.automl.inputs import Images, Inputs, Sounds, inputs_of
from fbp.data import idx, npz
from fbp.data.class_folders import files_by_class, files_in
from fbp.data.dataset import Source
from fbp.data.image_files import SUFFIXES as IMAGES
from fbp.data.image_files import read_images
from fbp.data.integrity import content
from fbp.data.layout import is_number_of_column
from fbp.data.table_file import is_table, read_table, split_target
from fbp.data.target import Labels, labels_of, read_labels
from fbp.data.wav_files import read_sounds
from fbp.errors import InputError

SOUNDS = (".wav",)


@dataclass(frozen=True, eq=False)
class LabeledExamples:
    """Examples and what is to be predicted of each.

    `test` holds the examples of a published test, else None.
    """

    x: Inputs
    y: Labels
    target: str
    test: tuple[Inputs, Shaped[np.ndarray, " tested"]] | None = None


@dataclass(frozen=True, eq=False)
class UnlabeledExamples:
    """Examples to be predicted, and what each is called: its file, or its row from 1."""

    x: Inputs
    names: tuple[str, ...]


def read_labeled(path: Path, target: str | None) -> LabeledExamples:
    """Return the examples to learn from.

    - a table, see `fbp.data.table_file.read_table`, whose column `target` is to be predicted.
    - `.npz`: `x` and `y`, or `x_train, y_train, x_test, y_test`.
    - a directory with the four IDX files of MNIST's names.
    - a directory with one folder for each class, of PNG and JPEG or of WAV files.

    Raises InputError for what is none of these, naming the file at fault.
    """
    if is_table(path.name) and not path.is_dir():
        table = read_table(path, [] if target is None else [target])
        x, cells = split_target(table, target, str(path), "--target")
        assert target is not None
        return LabeledExamples(x, read_labels(cells, target, table), target)
    if target is not None:
        raise InputError(f"{path}: only a table has a target column: leave out --target")
    if path.name.lower().endswith(".npz"):
        return _arrays(npz.read_source(path), "y")
    if not path.is_dir():
        raise InputError(
            f"{path}: give a table (.csv, .tsv, .txt, .parquet, .xlsx), an .npz file, or a "
            "directory of PNG, JPEG, WAV or IDX files"
            if path.exists()
            else f"{path}: no such file or directory: check the path"
        )
    if any(path.glob("*-idx?-ubyte*")):
        return _arrays(idx.read_directory(path, f"put there {', '.join(idx.FILES)}"), "label")
    suffixes = _suffixes(path, "*/*")
    paths, labels = files_by_class(path, suffixes)
    return LabeledExamples(_files(paths, suffixes, None), labels_of(np.array(labels)), "class")


def read_unlabeled(path: Path, encoder: Encoder, target: str) -> UnlabeledExamples:
    """Return the examples to predict, in the kinds of files that `read_labeled` reads.

    A table's column `target` is passed over. A directory may hold its files themselves or in
    folders; a single file will do, as will the images of one IDX file.
    """
    if is_table(path.name) and not path.is_dir():
        names = getattr(encoder, "names", ())
        table = read_table(path, names, as_text=True)
        if len(table.names) == len(names) and all(map(is_number_of_column, (*names, *table.names))):
            table = replace(table, names=names)  # without a header, and without the target
        elif target in table.names and target not in names:
            table = table.without(target)
        if not table.names:
            raise InputError(f"{path}: {target} is its only column: give the others")
        return _numbered(table)
    if path.name.lower().endswith(".npz"):
        return _numbered(inputs_of(npz.read_x(path)))
    if path.is_dir():
        suffixes = _suffixes(path, "*") if _has_files(path) else _suffixes(path, "*/*")
        paths = files_in(path, suffixes) or files_by_class(path, suffixes)[0]
        names = tuple(str(file.relative_to(path)) for file in paths)
        return UnlabeledExamples(_files(paths, suffixes, encoder), names)
    for suffixes in (IMAGES, SOUNDS):
        if path.suffix.lower() in suffixes:
            return UnlabeledExamples(_files([path], suffixes, encoder), (path.name,))
    return _numbered(inputs_of(idx.parse(content(path), str(path))))


def _arrays(source: Source, target: str) -> LabeledExamples:
    if source.partition is None:
        return LabeledExamples(inputs_of(source.x), labels_of(source.y), target)
    test = source.partition.test
    learning = np.setdiff1d(np.arange(len(source.y)), test)
    x = inputs_of(source.x)
    return LabeledExamples(
        x[learning], labels_of(source.y[learning]), target, (x[test], source.y[test])
    )


def _files(
    paths: Sequence[Path], suffixes: tuple[str, ...], encoder: Encoder | None
) -> Images | Sounds:
    if suffixes == IMAGES:
        return Images(read_images(paths))
    rate = encoder.rate if isinstance(encoder, SoundEncoder) else None
    return Sounds(*read_sounds(paths, rate))


def _suffixes(directory: Path, pattern: str) -> tuple[str, ...]:
    present = {path.suffix.lower() for path in directory.glob(pattern)}
    kinds = [suffixes for suffixes in (IMAGES, SOUNDS) if present & set(suffixes)]
    if len(kinds) != 1:
        which = "both images and WAV files" if kinds else "neither PNG, JPEG nor WAV files"
        raise InputError(
            f"{directory}: {which} are there: give a directory with one folder for each class, of "
            "files of one kind"
        )
    return kinds[0]


def _has_files(directory: Path) -> bool:
    return any(path.suffix.lower() in (*IMAGES, *SOUNDS) for path in directory.glob("*"))


def _numbered(x: Inputs) -> UnlabeledExamples:
    return UnlabeledExamples(x, tuple(str(row) for row in range(1, len(x) + 1)))
