"""Errors of the functions that a user gives, told with the line that they come from."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fbp.autodiff import MissingRule
from fbp.errors import InputError

LIBRARIES = ("site-packages", "dist-packages")
PACKAGE = Path(__file__).parents[1]


@contextmanager
def running(name: str) -> Iterator[None]:
    """Raise InputError, with the user's line, for what a user's function raises.

    >>> try:
    ...     with running("loss"):
    ...         1 / 0
    ... except InputError as error:
    ...     print(str(error)[:13], str(error)[-35:])
    loss fails at ZeroDivisionError: division by zero
    """
    try:
        yield
    except (InputError, MissingRule):
        raise
    except Exception as error:
        raise InputError(f"{name} fails{error_text(error)}") from error


def error_text(error: BaseException) -> str:
    """Describe an error in a line: where in the user's code, its type, and how it begins.

    >>> error_text(ValueError("a negative size. More follows."))
    ': ValueError: a negative size.'
    """
    cause = error
    while isinstance(cause, InputError) and cause.__cause__ is not None:
        cause = cause.__cause__
    line = user_line(cause)
    first = str(cause).strip().split("\n")[0]
    sentence = first.split(". ")[0] + "." if ". " in first else first
    return f"{f' at {line}' if line else ''}: {type(cause).__name__}: {sentence}"


def user_line(error: BaseException) -> str | None:
    """Return the last line of the traceback that is neither fbp's nor a library's."""
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if _is_users(frame.filename)]
    return f"{users[-1].filename}:{users[-1].lineno}" if users else None


def _is_users(filename: str) -> bool:
    path = Path(filename)
    if any(part in LIBRARIES for part in path.parts) or path.is_relative_to(PACKAGE):
        return False
    standard = Path(sys.base_prefix) / "lib"
    return not filename.startswith("<frozen") and not path.is_relative_to(standard)
