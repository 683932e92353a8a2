"""What is trained: data, how parameters are drawn, what is minimized, what is measured."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fbp.data import Dataset
from fbp.errors import InputError
from fbp.nn import Layer
from fbp.train.objective import Objective

PARTS = ("train", "validation", "test")
HIGHER_IS_BETTER = {"loss": False, "accuracy": True, "r2": True}
Part = Any  # a pytree of arrays, whose first dimension counts the examples


@dataclass(frozen=True)
class Batches:
    """An endless source of training batches, for data that do not fit into arrays.

    Step i trains on the i-th batch, in every trial. `make` is called again where the batches of
    one call end, and where a run resumes: it must then yield the same ones.

    Args:
      make: returns an iterator over batches, pytrees of arrays of the same shapes.

    >>> batches = Batches(lambda: (np.full(2, i) for i in range(3)))
    >>> next(batches.make())
    array([0, 0])
    """

    make: Callable[[], Iterator[Any]]


@dataclass(frozen=True, eq=False)
class Problem:
    """Anything that trains by gradients: functions of a key, parameters and a batch.

    Args:
      data: a data set; or `{"train": ..., "validation": ..., "test": ...}`, each a pytree of arrays
        whose first dimension counts the examples. `test` may be missing; `train` may be `Batches`,
        what yields batches when it is iterated over, or a function that returns that. Of an
        iterator, which can be read once, the batches stay in memory.
      init: `init(key) -> params`, with `has_state` `(params, carried)`; or a layer.
      loss: `loss(params, batch, key) -> loss`, one real number. With `has_state` it is
        `loss(params, carried, batch, key) -> (loss, carried)`, with `has_aux` it returns
        `(loss, aux)`, with both `(loss, (carried, aux))`. Or an objective, which compares a layer's
        outputs with the targets of batches `(x, y)` or `(x, y, weights)`.
      in_shape: of a batch, for a layer; that of the data by default.
      metric: what trials are compared by; by default the objective's score, or `loss`.
      optimizer: makes an optax transformation of a trial's hyperparameters, which it takes by
        name, such as `optax.adam`.
      metrics: `metrics(params, batch) -> {name: number}` of the whole validation or test set, with
        `has_state` `metrics(params, carried, batch)`. Without a `loss` among them, that is
        `loss`, with a key that never changes.
      higher_is_better: whether a higher `metric` is better; known of `accuracy`, `r2` and `loss`.
      has_state: the loss carries something from step to step: batch statistics, the state of an
        nnx graph, a moving average.
      has_aux: the loss returns numbers by name to be recorded, in a dictionary.
      eval_params: `(opt_state, params) -> params` to measure with, such as
        `optax.contrib.schedule_free_eval_params`.

    >>> x = np.linspace(-1, 1, 8, dtype=np.float32)
    >>> problem = Problem(
    ...     data={"train": (x, 3 * x), "validation": (x, 3 * x)},
    ...     init=lambda key: jax.random.normal(key),
    ...     loss=lambda w, batch, key: jnp.mean((w * batch[0] - batch[1]) ** 2),
    ...     optimizer=optax.sgd,
    ... )
    >>> problem.metric_name, problem.is_better_higher
    ('loss', False)
    """

    data: Dataset | Mapping[str, Any]
    init: Layer | Callable[..., Any]
    loss: Objective | Callable[..., Any]
    in_shape: tuple[int, ...] | None = None
    metric: str | None = None
    _: KW_ONLY
    optimizer: Callable[..., optax.GradientTransformation] | None = None
    metrics: Callable[..., Mapping[str, Any]] | None = None
    higher_is_better: bool | None = None
    has_state: bool = False
    has_aux: bool = False
    eval_params: Callable[..., Any] | None = None
    config: Any = field(default=None, init=False)
    """The config that it was made of; None where a caller made or changed it."""

    def __post_init__(self):
        if isinstance(self.loss, Objective) and not isinstance(self.init, Layer):
            raise InputError(
                "an Objective compares the outputs of a Layer: give one as init, or "
                "loss(params, batch, key)"
            )
        for name in ("init", "loss"):
            value = getattr(self, name)
            if not (callable(value) or isinstance(value, Layer | Objective)):
                raise InputError(f"{name} is a {type(value).__name__}: give a function")
        if not isinstance(self.data, Dataset):
            _check_parts(self.data)
            data = {**self.data, "train": _as_batches(self.data["train"])}
            object.__setattr__(self, "data", data)

    @property
    def parts(self) -> Mapping[str, Part]:
        """The data by the names of their parts: pytrees of arrays, or `Batches` to train on."""
        if isinstance(self.data, Dataset):
            splits = {name: getattr(self.data, name) for name in PARTS}
            return {name: (split.x, split.y) for name, split in splits.items()}
        return self.data

    @property
    def metric_name(self) -> str:
        """What trials are compared by."""
        return self.metric or (self.loss.score if isinstance(self.loss, Objective) else "loss")

    @property
    def is_better_higher(self) -> bool:
        """Whether a higher value of the metric is better."""
        known = HIGHER_IS_BETTER.get(self.metric_name, self.higher_is_better)
        if self.higher_is_better is not None and self.metric_name != "loss":
            known = self.higher_is_better
        if known is None:
            raise InputError(
                f"metric {self.metric_name}: say by higher_is_better whether a higher one is better"
            )
        return known

    @property
    def task(self) -> str:
        """What the data are for: `classification`, `regression`, or `other` where none says it."""
        if isinstance(self.loss, Objective):
            return "classification" if self.loss.score == "accuracy" else "regression"
        return "other"


def example_count(part: Part) -> int:
    """Return how many examples a part has.

    >>> example_count({"x": np.ones((3, 2)), "y": np.ones(3)})
    3
    """
    return len(jax.tree.leaves(part)[0])


def _check_parts(data: Any) -> None:
    """Raise InputError unless these are parts of a data set, each with examples."""
    if not isinstance(data, Mapping) or not data.keys() <= set(PARTS) or "train" not in data:
        described = sorted(data) if isinstance(data, Mapping) else type(data).__name__
        raise InputError(
            f"data is {described}: give a Dataset, or a dictionary with the keys "
            f"{', '.join(PARTS)}, of which test may be missing"
        )
    for name, part in data.items():
        if name != "train" or _is_arrays(part):
            _check_part(f"data[{name!r}]", part)


def _check_part(name: str, part: Part) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(part)
    if not leaves:
        raise InputError(f"{name} is empty: give arrays of examples")
    (first_path, first), *_ = leaves
    for path, leaf in leaves:
        where = name + jax.tree_util.keystr(path)
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise InputError(f"{where} is a {type(leaf).__name__}: give arrays of examples")
        if not leaf.shape or leaf.shape[0] == 0:
            raise InputError(f"{where} has shape {list(leaf.shape)}: it needs one example or more")
        if leaf.shape[0] != first.shape[0]:
            raise InputError(
                f"{where} has shape {list(leaf.shape)}, but {name}"
                f"{jax.tree_util.keystr(first_path)} has shape {list(first.shape)}: the first "
                "dimension of every array counts the examples"
            )
        if not jnp.issubdtype(leaf.dtype, jnp.number) and leaf.dtype != bool:
            raise InputError(f"{where} is of type {leaf.dtype}: give numbers")


def _is_arrays(part: Any) -> bool:
    """Return whether a part is a pytree with arrays in it, and no source of batches."""
    return not isinstance(part, Batches | Iterator) and any(
        isinstance(leaf, np.ndarray | jax.Array | np.generic) for leaf in jax.tree.leaves(part)
    )


def _as_batches(part: Any) -> Part | Batches:
    if _is_arrays(part) or isinstance(part, Batches):
        return part
    if isinstance(part, Iterator):
        return Batches(_replayed(part))
    if isinstance(part, Iterable):
        return Batches(lambda: iter(part))
    if callable(part):
        make: Any = part
        return Batches(make)
    raise InputError(
        f"data['train'] is a {type(part).__name__}: give arrays, or what yields batches"
    )


def _replayed(iterator: Iterator[Any]) -> Callable[[], Iterator[Any]]:
    """Return a function that yields the same as an iterator, again and again: from memory."""
    seen: list[Any] = []

    def make() -> Iterator[Any]:
        index = 0
        while True:
            if index == len(seen):
                try:
                    seen.append(next(iterator))
                except StopIteration:
                    return
            yield seen[index]
            index += 1

    return make
