"""What commands print: the outcome on stdout; warnings, and progress beside JSON, on stderr."""

import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any


def teller(json: bool, quiet: bool) -> Callable[[str], None]:
    """Return what prints progress and notes: nowhere if quiet, on stderr beside JSON.

    >>> teller(json=False, quiet=False)("note: the file has no header")
    note: the file has no header
    >>> teller(json=False, quiet=True)("note: the file has no header")
    """

    def tell(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr if json else sys.stdout, flush=True)

    return tell


def warn(text: str) -> None:
    """Print a warning on stderr."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def print_json(outcome: Any) -> None:
    """Print an outcome as JSON; a number that is not finite is null, a path is text.

    >>> print_json({"page": Path("index.html"), "loss": float("nan")})
    {
     "page": "index.html",
     "loss": null
    }
    """
    from fbp.records import to_json

    print(to_json(_plain(outcome), indent=1))


def open_page(page: Path) -> None:
    """Open a page in the browser."""
    webbrowser.open(page.resolve().as_uri())


def _plain(value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value  # a number or array of NumPy's
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
