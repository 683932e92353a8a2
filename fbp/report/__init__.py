"""Records made readable: statistics, figures and one page for each run."""

from pathlib import Path

from fbp.errors import InputError


def write(run: Path) -> Path:
    """Write the page and the pictures of a run into its directory; the page's path.

    `report.html` holds everything, pictures too, and is read without a network; the pictures
    lie beside it in `figures/` as PNG. An interrupted run is reported as far as it was
    measured.

    Args:
      run: the directory that `fbp sweep` wrote.

    Raises:
      InputError: the directory or a file in it is missing, damaged or cannot be written to, or
        matplotlib is not installed.
    """
    try:
        from fbp.report import page
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("matplotlib"):
            raise
        raise InputError(
            "the report draws with matplotlib, which is not installed: "
            "pip install 'fbp-jax[experiments]'"
        ) from error
    return page.write(run)
