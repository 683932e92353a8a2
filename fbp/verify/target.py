"""A check as words of a command line: a function by its name, and its arguments."""

import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.errors import InputError
from fbp.verify.check import check
from fbp.verify.ladders import Ladder, ladders
from fbp.verify.report import Report

NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
ARRAY = re.compile(r"([a-z]+\w*)\[((?:\d+(?:,\d+)*)?)\]")


def is_name(word: str) -> bool:
    """Whether a word names something in a module.

    >>> is_name("package.module:function"), is_name("configs/digits_mlp.toml")
    (True, False)
    """
    return NAME.fullmatch(word) is not None


def check_target(
    target: str, words: Sequence[str], pictures: bool
) -> tuple[Report, tuple[Ladder, ...]]:
    """Check the gradient of the function that `target` names, with ladders if they are wanted.

    Args:
      target: `package.module:function`, found from the current directory as well.
      words: the arguments: one `package.module:name` of a tuple of them or of a function that
        makes it, or one `dtype[shape]` for each, filled with random numbers.
      pictures: whether ladders are made.

    Raises InputError where there is nothing to check, and where the function raises.
    """
    function = named(target)
    if not callable(function):
        raise InputError(f"{target} is no function, but of type {type(function).__name__}.")
    if not words:
        raise InputError(f"{target} is checked at a point: give its arguments with --args.")
    args = arguments(words)
    try:
        return check(function, *args), ladders(function, *args) if pictures else ()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise _could_not(f"check {target}", error) from error


def named(word: str) -> Any:
    """What `package.module:name` names; modules in the current directory are found too.

    Raises InputError where there is nothing of that name.

    >>> named("math:pi")
    3.141592653589793
    """
    module, _, path = word.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise _could_not(f"import {module}", error) from error
    for name in path.split("."):
        if not hasattr(found, name):
            raise InputError(f"{word}: there is no {path!r} in {module}.")
        found = getattr(found, name)
    return found


def arguments(words: Sequence[str]) -> tuple[Any, ...]:
    """The arguments that the words name or describe.

    Raises InputError for words that do neither.

    >>> x, y = arguments(["float32[2,3]", "float32[]"])
    >>> x.shape, y.shape
    ((2, 3), ())
    """
    if len(words) == 1 and is_name(words[0]):
        return _tuple(words[0])
    return tuple(_random(word, seed) for seed, word in enumerate(words))


def _tuple(word: str) -> tuple[Any, ...]:
    found = named(word)
    try:
        args = found() if isinstance(found, Callable) else found
    except (Exception, SystemExit) as error:
        raise _could_not(f"call {word}", error) from error
    if not isinstance(args, tuple):
        raise InputError(
            f"{word} gives a value of type {type(args).__name__}: --args names a tuple of the "
            "function's arguments, or a function that makes one."
        )
    return args


def _random(word: str, seed: int) -> Any:
    match = ARRAY.fullmatch(word)
    if match is None:
        raise InputError(
            f"--args {word}: give one package.module:name of a tuple of the arguments, or one "
            "dtype[shape] for each argument, as in --args 'float32[5,4]' 'float32[4]'."
        )
    try:
        dtype = jnp.dtype(match[1])
    except TypeError:
        raise InputError(f"--args {word}: there is no dtype {match[1]}.") from None
    if not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(
            f"--args {word}: random arguments are floating-point. Name a tuple of the arguments."
        )
    if dtype == np.float64 and not jax.config.read("jax_enable_x64"):
        raise InputError(f"--args {word}: set JAX_ENABLE_X64=1 for arrays in float64.")
    shape = tuple(int(n) for n in match[2].split(",") if n)
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def _could_not(what: str, error: BaseException) -> InputError:
    """The first line of an error, and the last place in it that is no library's."""
    message = str(error).strip().split("\n")[0]
    places = [
        f" ({frame.filename}:{frame.lineno})"
        for frame in traceback.extract_tb(error.__traceback__)
        if not _of_library(frame.filename)
    ]
    return InputError(
        f"could not {what}: {type(error).__name__}: {message}{places[-1] if places else ''}"
    )


def _of_library(file: str) -> bool:
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return file.startswith((ours, "<", os.path.dirname(os.__file__))) or "site-packages" in file
