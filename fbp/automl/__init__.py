"""A trained network from the data alone: nothing to tune.

`fbp.fit` is its front.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from fbp.automl.fitted import Fitted
    from fbp.data.target import TaskName


def fit(
    x: Any,
    y: Any,
    *,
    task: "TaskName | None" = None,
    test: float | tuple[Any, Any] = 0.2,
    seed: int = 0,
    target_name: str = "y",
    sample_weight: Any = None,
    progress: bool = False,
) -> "Fitted":
    """Train a network from the data alone, with nothing to tune.

    The task, the network, its learning rate and the end of training are found, by the rules in
    `docs/fit.md`; `fitted.story` says what was decided and measured.

    Args:
      x: the examples, one a row: an array or a data frame of columns (numbers, words, dates), an
        array of images `(examples, height, width)` or `(examples, height, width, channels)`, or
        `fbp.automl.inputs.Sounds`.
      y: what is to be predicted, one for each example. Words and booleans are classes, numbers
        with fractions are numbers; whole numbers are classes where there are two of them or they
        are codes, 0, 1, 2 or 1, 2, 3 and so on, at most ten. Rows without one are left out.
      task: `classification` (or `classes`) or `regression` (or `numbers`), in place of that rule.
      test: the share of examples kept apart for the test, or `(x, y)` of a test set.
      seed: of the division, the first weights and the order of examples. One seed gives one model.
      target_name: what `y` is called in the story.
      sample_weight: how much each example counts, all alike where it is None.
      progress: show a bar on a terminal.

    Returns:
      The model and the story of its training.

    Raises:
      InputError: what cannot be learnt from: fewer than 5 examples, one class alone, a target
        that is constant, infinite values.

    >>> import numpy as np
    >>> x = np.linspace(-1, 1, 60)[:, None]
    >>> fitted = fit(x, np.where(x[:, 0] > 0, "right", "left"))
    >>> fitted.predict([[-0.5], [0.5]])
    array(['left', 'right'], dtype='<U5')
    """
    from jax import numpy_dtype_promotion

    from fbp.automl.run import fit_network

    with numpy_dtype_promotion("standard"):  # optax adds integers to floats
        return fit_network(
            x,
            y,
            task=task,
            test=test,
            seed=seed,
            target_name=target_name,
            sample_weight=sample_weight,
            progress=progress,
        )


def load_fitted(path: "str | Path") -> "Fitted":
    """Load a model that `Fitted.save` or `fbp fit` wrote.

    Args:
      path: of the file, or of the directory that `fbp fit` wrote.

    Returns:
      The model and the story of its training.

    Raises:
      InputError: a file that is missing, damaged, of another format, or that holds numbers with
        which nothing can be predicted.

    >>> load_fitted("fbp")
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: fbp/model.npz: no such file: give the directory that fbp fit wrote
    """
    from fbp.automl.fitted import Fitted
    from fbp.automl.store import load_model

    return Fitted(*load_model(path))
