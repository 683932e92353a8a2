"""A client: a small program of a library that calls JAX's transforms itself."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Program = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclass(frozen=True)
class Client:
    """A program whose gradients the library, or a user of it, asks JAX for.

    `make` imports the library and returns a function and its arguments; the function's result has
    the gradients in it. It is jitted as a whole. `ulps` is how far the two results may lie apart,
    in units in the last place of the largest entry of each leaf: where sums are long, or solvers
    iterate, the order of additions tells. `in_double` is for programs whose value in float32 is
    rounding.
    """

    name: str
    module: str
    make: Callable[[], Program]
    ulps: int = 64
    in_double: bool = False

    @property
    def is_installed(self) -> bool:
        """Say whether the library can be imported, without importing it."""
        return importlib.util.find_spec(self.module.partition(".")[0]) is not None


def client(
    module: str, ulps: int = 64, in_double: bool = False
) -> Callable[[Callable[[], Program]], Client]:
    """Make a client of the function that makes its program."""

    def decorate(make: Callable[[], Program]) -> Client:
        return Client(make.__name__, module, make, ulps, in_double)

    return decorate


def clients_of(names: dict[str, Any]) -> dict[str, Client]:
    """Return the clients that a module defines."""
    return {x.name: x for x in names.values() if isinstance(x, Client)}
