"""Linear inputs, which have no value to read: tangents, and the arguments of a linear function.

A program is run with an `UndefinedPrimal` for each. Outputs that depend on one are undefined
too; everything else is computed.
"""

from collections.abc import Iterable
from typing import Any


class LinearInputRead(TypeError):
    """An equation reads the value of a linear input, which has none."""

    def __init__(self, what: str, where: str = ""):
        self.where = where
        super().__init__(f"{what}, at {where}" if where else what)


class UndefinedPrimal:
    """A linear input, or a value that depends on one: a type, but no value to read."""

    __slots__ = ("aval",)

    def __init__(self, aval: Any):
        self.aval = aval

    shape = property(lambda self: self.aval.shape)
    dtype = property(lambda self: self.aval.dtype)
    ndim = property(lambda self: len(self.aval.shape))
    size = property(lambda self: self.aval.size)

    def __repr__(self) -> str:
        return f"UndefinedPrimal({self.aval})"

    def _read(self, *_: Any) -> Any:
        raise LinearInputRead(f"the value of a linear input, {self.aval}, is read")

    __array__ = __bool__ = __float__ = __int__ = __complex__ = __index__ = _read
    __len__ = __iter__ = __getitem__ = _read


def is_undefined(x: Any) -> bool:
    """Test whether x is, or depends on, a linear input."""
    return isinstance(x, UndefinedPrimal)


def reads_linear_input(error: Exception) -> bool:
    """Test whether an error was raised by reading the value of a linear input."""
    return isinstance(error, LinearInputRead) or UndefinedPrimal.__name__ in str(error)


def undefined(variables: Iterable[Any]) -> list[Any]:
    """Return the undefined values of variables that depend on a linear input."""
    return [UndefinedPrimal(v.aval) for v in variables]
