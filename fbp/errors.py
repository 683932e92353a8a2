"""The error for input that fbp cannot use, and how it is raised for a value."""

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Bad input: the message says what was wrong, where, and what to do.

    The command line prints the message as one line and exits with status 2.

    >>> raise InputError("learning_rate is -0.1: give a positive number")
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: learning_rate is -0.1: give a positive number
    """


def require(condition: bool, field: str, value: Any, expected: str) -> None:
    """Raise InputError, `field` first, unless the condition holds.

    >>> require(False, "steps", 0, "at least 1")
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: steps: must be at least 1, got 0
    """
    if not condition:
        raise InputError(f"{field}: must be {expected}, got {value!r}")


def require_one_of(field: str, value: Any, valid: Iterable[str]) -> None:
    """Raise InputError, `field` first, unless the value is valid.

    >>> require_one_of("name", "adamm", ["sgd", "adam"])
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: name: unknown value 'adamm': did you mean adam? Valid: sgd, adam
    """
    valid = list(valid)
    if value not in valid:
        raise InputError(f"{field}: unknown value {value!r}: {suggestion(value, valid)}")


def suggestion(name: Any, valid: Iterable[str]) -> str:
    """List the valid names, the likeliest meant first."""
    valid = list(valid)
    return f"{likeliest(name, valid)}Valid: {', '.join(valid)}"


def likeliest(name: Any, valid: Iterable[str]) -> str:
    """Ask whether the valid name that is most like this one was meant; '' where none is like it.

    >>> likeliest("adamm", ["sgd", "adam"])
    'did you mean adam? '
    """
    close = difflib.get_close_matches(str(name), list(valid), n=1)
    return f"did you mean {close[0]}? " if close else ""
