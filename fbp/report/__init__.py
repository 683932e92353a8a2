"""Make records readable: statistics, figures, one page for each run and one for several."""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from fbp.errors import InputError

__all__ = ["compare", "write_report"]


def write_report(run: Path) -> Path:
    """Write the page and the pictures of a run into its directory.

    `report.html` holds everything, pictures too, and is read without a network; the pictures
    lie beside it in `figures/` as PNG. An interrupted run is reported as far as it was
    measured.

    Args:
      run: the directory that `fbp sweep` wrote.

    Returns:
      The page's path.

    Raises:
      InputError: the directory or a file in it is missing, damaged or cannot be written to, or
        matplotlib is not installed.

    >>> write_report(Path("nowhere"))
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: nowhere: no such directory: give the one that fbp sweep wrote
    """
    return _drawing("run_page").write_run_page(run)


def compare(runs: Sequence[Path], out: Path) -> Path:
    """Write one page that compares several runs.

    It says which run trained best and how surely, shows the score against the rate of all runs
    in one picture and the winners' learning curves, and lists what differs between the configs.

    Args:
      runs: directories that `fbp sweep` wrote, of the same task, metric and data set.
      out: the file to write.

    Returns:
      The page's path.

    Raises:
      InputError: the runs cannot be compared, a file is missing, damaged or cannot be written
        to, or matplotlib is not installed.

    >>> compare([Path("nowhere")], Path("comparison.html"))
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: 1 run to compare: give two directories or more
    """
    return _drawing("comparison_page").write_comparison(runs, out)


@contextmanager
def needs_report(what: str) -> Iterator[None]:
    """Raise InputError where an import within needs what draws pages, and it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in ("matplotlib", "jinja2", "markupsafe"):
            raise
        raise InputError(
            f"{what} draws with {module}, which is not installed: pip install 'fbp-jax[report]'"
        ) from error


def _drawing(module: str) -> ModuleType:
    with needs_report("the report"):
        return importlib.import_module(f"fbp.report.{module}")
