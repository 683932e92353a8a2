"""What a row of the benchmark is: a rule as users write it, wrong, and its right twin."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Case:
    """A function of arrays whose gradient is checked at a point.

    Attributes:
      fun: the function.
      args: where it is checked.
      declared: what its author declares.
    """

    fun: Callable
    args: tuple[Any, ...]
    declared: Any = ()


@dataclass(frozen=True)
class Row:
    """One rule in two versions.

    Attributes:
      build: makes the function with the wrong rule, or with the right one.
      fault: what the wrong one does.
      source: where that kind of fault was published.
      function: the name of the function that has the rule.
      operand: the operand whose cotangent is wrong; None where that is not the fault.
      x64: whether the program is one of float64.
    """

    build: Callable[[bool], Case]
    fault: str
    source: str
    function: str
    operand: int | None
    x64: bool = False

    @property
    def name(self) -> str:
        """The name of the row."""
        return self.build.__name__

    @property
    def topic(self) -> str:
        """The module that the row stands in."""
        return self.build.__module__.rsplit(".", 1)[-1]


def row(
    function: str, fault: str, source: str, operand: int | None = 0, x64: bool = False
) -> Callable[[Callable[[bool], Case]], Row]:
    """Make a row of a function that builds its two versions."""
    return lambda build: Row(build, fault, source, function, operand, x64)


def custom(function: Callable, bwd: Callable, fwd: Callable | None = None) -> Any:
    """`jax.custom_vjp` of a function; its fwd keeps the arguments if none is given."""
    ruled = jax.custom_vjp(function)
    ruled.defvjp(fwd or (lambda *args: (function(*args), args)), bwd)
    return ruled


def normal(seed: int, *shape: int, dtype: Any = jnp.float32) -> jax.Array:
    """Random numbers, the same for each seed."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)
