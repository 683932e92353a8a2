"""A check as words of a command line: a function by its name, and its arguments."""

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fbp.errors import InputError, likeliest
from fbp.verify.check import check
from fbp.verify.declared import of_library
from fbp.verify.ladders import Ladder, ladders
from fbp.verify.points import random_array
from fbp.verify.report import Report

NAME = re.compile(r"([A-Za-z_][\w.]*|[^:]*\.py):[A-Za-z_][\w.]*")


def is_name(word: str) -> bool:
    """Return whether a word names something in a module or in a file.

    >>> is_name("package.module:function"), is_name("losses.py:huber"), is_name("configs/mlp.toml")
    (True, True, False)
    """
    return NAME.fullmatch(word) is not None


def check_target(
    target: str,
    words: Sequence[str],
    pictures: bool,
    *,
    argnums: Sequence[int] = (0,),
    declared: Sequence[str] = (),
    reference: str | None = None,
    gradient: str | None = None,
    seed: int = 0,
) -> tuple[Report, tuple[Ladder, ...]]:
    """Check the gradient of the function that `target` names, with ladders if they are wanted.

    Args:
      target: `package.module:function` or `file.py:function`, found from the current directory,
        and from its `src`, as well.
      words: the arguments: one name of a tuple of them or of a function that makes it, or one
        `dtype[shape]` for each, filled with random numbers.
      pictures: whether ladders are made.
      argnums: the numbers of the arguments that are differentiated.
      declared: names of functions whose rule deviates, of leaves whose gradient is zero; or
        `name=tolerance`, or `name=module:function` for the function whose derivative a rule is.
      reference: the name of a second implementation.
      gradient: the name of the gradient that is checked.
      seed: what random arguments are drawn from.

    Raises InputError where there is nothing to check, and where the function raises; and what
    `check` raises for Ctrl-C.
    """
    function = callable_named(target)
    if not words:
        raise InputError(f"{target} is checked at a point: give its arguments with --args.")
    args = arguments(words, seed)
    chosen: Any = argnums[0] if len(argnums) == 1 else tuple(argnums)
    settings: dict[str, Any] = {"argnums": chosen}
    settings["gradient"] = callable_named(gradient) if gradient else None
    settings_of_check = {
        "declared": dict(map(_declaration, declared)),
        "reference": callable_named(reference) if reference else None,
    }
    try:
        report = check(function, *args, **settings, **settings_of_check)
        return report, ladders(function, *args, **settings) if pictures else ()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise _could_not(f"check {target}", error) from error


def _declaration(word: str) -> tuple[str, Any]:
    """Return what a word declares, and what it stands for."""
    name, sign, value = word.partition("=")
    if not sign or name.startswith("args["):
        return word, None
    if is_name(value):
        return name, callable_named(value)
    try:
        return name, float(value)
    except ValueError:
        raise InputError(
            f"--declared {word}: give a name, name=tolerance, or name=package.module:function."
        ) from None


def callable_named(word: str) -> Callable:
    """Return the function that a word names. Raises InputError where it names none.

    >>> callable_named("math:sqrt")(4.0)
    2.0
    """
    if not is_name(word):
        raise InputError(f"{word} is no package.module:function and no file.py:function.")
    function = named(word)
    if not callable(function):
        raise InputError(f"{word} is no function, but of type {type(function).__name__}.")
    return function


def named(word: str) -> Any:
    """Return what `package.module:name` or `file.py:name` names; modules in the current directory,
    and in its `src`, are found too.

    Raises InputError where there is nothing of that name.

    >>> named("math:pi")
    3.141592653589793
    """
    module, _, path = word.rpartition(":")
    _extend_path([Path.cwd(), Path.cwd() / "src"])
    try:
        value = (
            _module_of_file(module) if module.endswith(".py") else importlib.import_module(module)
        )
    except (Exception, SystemExit) as error:
        raise _could_not(f"import {module}", error) from error
    for name in path.split("."):
        if not hasattr(value, name):
            meant = likeliest(name, dir(value))
            raise InputError(f"{word}: there is no {path!r} in {module}. {meant}".rstrip())
        value = getattr(value, name)
    return value


def _extend_path(folders: Sequence[Path]) -> None:
    for folder in folders:
        if folder.is_dir() and str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def _module_of_file(file: str) -> Any:
    """Return the module in a file: of its package, if it lies in one, so that its relative imports
    work; by itself otherwise."""
    path = Path(file).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    names, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        names, folder = [folder.name, *names], folder.parent
    _extend_path([folder])
    name = ".".join(names)
    loaded = sys.modules.get(name)
    if loaded is not None and Path(getattr(loaded, "__file__", None) or "").resolve() == path:
        return loaded
    if len(names) > 1:
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def arguments(words: Sequence[str], seed: int = 0) -> tuple[Any, ...]:
    """Return the arguments that the words name or describe; random ones are drawn from `seed`.

    Raises InputError for words that do neither.

    >>> x, y = arguments(["float32[2,3]", "float32[]"])
    >>> x.shape, y.shape
    ((2, 3), ())
    """
    if len(words) == 1 and is_name(words[0]):
        return _tuple(words[0])
    return tuple(_random(word, number) for number, word in enumerate(words, seed))


def _tuple(word: str) -> tuple[Any, ...]:
    value = named(word)
    try:
        args = value() if callable(value) else value
    except (Exception, SystemExit) as error:
        raise _could_not(f"call {word}", error) from error
    if not isinstance(args, tuple):
        raise InputError(
            f"{word} gives a value of type {type(args).__name__}: --args names a tuple of the "
            "function's arguments, or a function that makes one."
        )
    return args


def _random(word: str, seed: int) -> Any:
    try:
        return random_array(word, seed)
    except InputError as error:
        hint = (
            ""
            if "[" in word
            else (
                " Or give one package.module:name of a tuple of the arguments, or one dtype[shape] "
                "for each argument, as in --args 'float32[5,4]' 'float32[4]'."
            )
        )
        raise InputError(f"--args {error}{hint}") from None


def _could_not(what: str, error: BaseException) -> InputError:
    """Return the first line of an error, and the last place in it that is no library's."""
    message = str(error).strip().split("\n")[0]
    lines = [
        f" ({frame.filename}:{frame.lineno})"
        for frame in traceback.extract_tb(error.__traceback__)
        if not of_library(frame.filename)
    ]
    return InputError(
        f"could not {what}: {type(error).__name__}: {message}{lines[-1] if lines else ''}"
    )
