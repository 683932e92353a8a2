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
    """Train a network on data, with nothing to tune."""
    from fbp.fit.run import fit_network

    return fit_network(
        x, y, task=task, test=test, seed=seed, target_name=target_name, progress=progress
    )


def load_fitted(path: "str | Path") -> "Fitted":
    """The model in a file that `Fitted.save` wrote, or in a directory of `fbp fit`.

    Raises InputError for a file that is missing, damaged, or of another format.
    """
    from fbp.fit.store import load_fitted

    return load_fitted(path)
