"""What every data set becomes, and what it is before: arrays as their source holds them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int64, Num, Shaped

Task = Literal["classification", "regression"]


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    `x`: float32 of shape `(examples, *feature_shape)`. `y`: int32 class numbers of shape
    `(examples,)` for classification, float32 of the same shape for regression.

    >>> Split(np.zeros((3, 2), np.float32), np.array([0, 1, 0], np.int32))
    Split(3 examples)
    """

    x: Float32[np.ndarray, "examples ..."]
    y: Num[np.ndarray, " examples"]

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"Split({len(self)} examples)"


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set ready for training, in three fixed parts.

    Learning rates are chosen on `validation`; the winner is measured once on `test`.

    Attributes:
      name: the name under which it was loaded.
      train: what gradients are made of.
      validation: what choices are made on.
      test: what is reported.
      task: `classification` or `regression`.
      classes: number of classes, 0 for regression.
      feature_shape: shape of one example, such as `(64,)` or `(8, 8, 1)`.
      feature_names: one name per column of a table; empty for images.
      target_names: the name of each class, or of the one target of a regression.
      target_mean: mean of the target before standardisation, in its own unit (0 for classes).
      target_std: its standard deviation: `target_std * y + target_mean` is the target again.
      notes: what a reader should know of a table: what the target was taken for, what was left out.

    >>> rows = Split(np.zeros((3, 2), np.float32), np.array([0, 1, 0], np.int32))
    >>> Dataset("mine", rows, rows, rows, "classification", 2, (2,)).train
    Split(3 examples)
    """

    name: str
    train: Split
    validation: Split
    test: Split
    task: Task
    classes: int
    feature_shape: tuple[int, ...]
    feature_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    target_mean: float = 0.0
    target_std: float = 1.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Partition:
    """The rows of each part, as indices."""

    train: Int64[np.ndarray, " train"]
    validation: Int64[np.ndarray, " validation"]
    test: Int64[np.ndarray, " test"]


@dataclass(frozen=True, eq=False)
class Source:
    """Arrays as a file or a package holds them, finite and of equal length.

    `white` is the value of a white pixel where `x` holds pixels, else None. `partition` is the
    published one, or None where the rows are still to be divided. `task` is what the set is for;
    where it is None, the target decides (`fbp.data.target`).
    """

    origin: str
    x: Num[np.ndarray, "examples ..."]
    y: Shaped[np.ndarray, " examples"]
    white: float | None = None
    partition: Partition | None = None
    feature_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    task: Task | None = None
