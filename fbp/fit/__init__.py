"""A trained network from the data alone: nothing to tune.

`fbp.fit` is the function; the modules of this package are reached with `from fbp.fit.run import`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from fbp.data.dataset import Task
    from fbp.fit.fitted import Fitted


def fit(
    x: Any,
    y: Any,
    *,
    task: "Task | None" = None,
    test: float | tuple[Any, Any] = 0.2,
    seed: int = 0,
    target_name: str = "y",
    progress: bool = False,
) -> "Fitted":
    """A trained network from the data alone: nothing to tune.

    The task, the network, its learning rate and the end of training are found, by the rules in
    `docs/fit.md`; `fitted.story` says what was decided and measured.

    Args:
      x: the examples, one a row: an array or a data frame of columns, an array of images
        `(examples, height, width)` or `(examples, height, width, colours)`, or
        `fbp.fit.inputs.Sounds`.
      y: what is to be predicted, one for each example. Strings, booleans and few integers are
        classes, floats are numbers.
      task: `classification` or `regression`, in place of that rule.
      test: the share of examples kept apart for the test, or `(x, y)` of a test set.
      seed: of the division, the first weights and the order of examples. One seed gives one model.
      target_name: what `y` is called in the story.
      progress: show a bar on a terminal.

    Raises InputError for what cannot be learnt from: fewer than 5 examples, one class alone, a
    target that is constant or missing in a row, infinite values.

    >>> import numpy as np
    >>> x = np.linspace(-1, 1, 60)[:, None]
    >>> fitted = fit(x, np.where(x[:, 0] > 0, "right", "left"))
    >>> fitted.predict([[-0.5], [0.5]])
    array(['left', 'right'], dtype='<U5')
    """
    from jax import numpy_dtype_promotion

    from fbp.fit.run import fit_network

    with numpy_dtype_promotion("standard"):  # optax adds integers to floats
        return fit_network(
            x, y, task=task, test=test, seed=seed, target_name=target_name, progress=progress
        )


def load_fitted(path: "str | Path") -> "Fitted":
    """The model in a file that `Fitted.save` wrote, or in a directory of `fbp fit`.

    Raises InputError for a file that is missing, damaged, or of another format.
    """
    from fbp.fit.store import load_fitted

    return load_fitted(path)
