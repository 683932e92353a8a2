"""What a user declares: rules that deviate on purpose, and from what; leaves without a gradient."""

import inspect
import os
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jax.extend.core import JaxprEqn

from fbp.autodiff import graph as g
from fbp.errors import InputError
from fbp.verify.precision import function_of

LIBRARIES = tuple(sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib"))
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

Declarable = Callable | str | tuple[Callable | str, int]
Declarations = Sequence[Declarable] | Mapping[Declarable, Any]


@dataclass(frozen=True)
class RuleName:
    """A function with a custom rule, by its name and where it is written."""

    name: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.name} at {self.file}:{self.line}"


@dataclass(frozen=True)
class Declaration:
    """One thing that is declared.

    Attributes:
      name: the function's name, or a leaf's path.
      file: where the function is written; None for one that is given by name.
      operand: the operand whose cotangent deviates; None for all.
      stands_for: None for a rule that may be anything; the function whose derivative it is; or
        the largest error that it may have, as a share of the largest entry.
      nondiff_argnums: those of the function, as far as it is given as one.
    """

    name: str
    file: str | None
    operand: int | None
    stands_for: Callable | float | None
    nondiff_argnums: tuple[int, ...] = ()

    def matches(self, rule: RuleName, operand: int | None) -> bool:
        """Return whether it is about a rule, and an operand of it."""
        return (
            self.name == rule.name
            and self.file in (None, rule.file)
            and (self.operand is None or operand is None or self.operand == operand)
        )


def declarations(declared: Declarations) -> tuple[Declaration, ...]:
    """Read what the user declares: a sequence of functions, names and paths, or a mapping from
    these to what they stand for.

    Raises InputError for anything else.

    >>> [d.name for d in declarations(["straight_through", declarations])]
    ['straight_through', 'declarations']
    """
    items = declared.items() if isinstance(declared, Mapping) else [(d, None) for d in declared]
    return tuple(_declaration(key, value) for key, value in items)


def _declaration(key: Any, stands_for: Any) -> Declaration:
    function, operand = key if isinstance(key, tuple) else (key, None)
    if isinstance(stands_for, bool) or not (
        stands_for is None or callable(stands_for) or isinstance(stands_for, int | float)
    ):
        raise InputError(
            f"declared: {key} stands for {stands_for!r}: give a function whose derivative the rule "
            "is, or a number, the largest error that it may have as a share of the largest entry."
        )
    if isinstance(function, str):
        return Declaration(function, None, operand, stands_for)
    if not callable(function):
        raise InputError(f"declared: {key!r} is no function, no name and no path of a leaf.")
    plain = inspect.unwrap(getattr(function, "fn", function))
    code = getattr(plain, "__code__", None)
    name = getattr(plain, "__name__", type(plain).__name__)
    argnums = tuple(getattr(function, "nondiff_argnums", ()))
    return Declaration(name, code.co_filename if code else None, operand, stands_for, argnums)


def rule_name(eqn: JaxprEqn) -> RuleName:
    """Return the user's function to which a custom rule belongs: not a library's wrapper around
    it."""
    name, _, position = function_of(eqn).rpartition(" at ")
    file, _, line = position.rpartition(":")
    if not of_library(file):
        return RuleName(name, file, int(line))
    around = _frame(eqn)
    for inner in g.body(eqn.params).eqns:
        frame = _frame(inner)
        if frame is not None and around is not None and frame != around:
            function, file, line_number = frame
            return RuleName(function.rsplit(".", 1)[-1], file, line_number)
    return RuleName(name, file, int(line))


def user_source(eqn: JaxprEqn) -> str:
    """`file:line (function)` of the innermost line that is no library's; where a library's call
    around it keeps that to itself, as shard_map, the line where the function is written."""
    source = g.source(eqn)
    if source and not of_library(source):
        return source
    if frame := _frame(eqn):
        return f"{frame[1]}:{frame[2]} ({frame[0]})"
    name = rule_name(eqn)
    return source or f"{name.file}:{name.line} ({name.name})"


def _frame(eqn: JaxprEqn) -> tuple[str, str, int] | None:
    """Return function, file and line of the innermost frame that is no library's."""
    traceback = eqn.source_info.traceback
    for frame in traceback.frames if traceback else ():
        if not of_library(frame.file_name):
            return frame.function_name, frame.file_name, frame.line_num
    return None


def of_library(file: str) -> bool:
    """Return whether a file is Python's, an installed package's, or fbp's own."""
    return file.startswith(("<", PACKAGE, *LIBRARIES)) or "site-packages" in file
