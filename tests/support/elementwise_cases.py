"""Cases for elementwise functions: on their domain, on numbers, on nothing, at their edges."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import Primitive

from fbp.testing import FLOATS, Case, uniform, values

INF, NAN = float("inf"), float("nan")


def unary(
    primitive: Primitive,
    fun: Callable,
    low: float,
    high: float,
    edges: tuple = (),
    dtypes: tuple[str, ...] = FLOATS,
    tolerance: float = 4,
) -> Iterator[Case]:
    """A function on its domain, on arrays without elements, and at its edges."""
    how: dict[str, Any] = {"tolerance": tolerance, "per_element": True}
    yield Case(primitive, fun, (uniform(low, high, 3, 4),), dtypes, name="inside", **how)
    how["composed"] = False
    yield Case(primitive, fun, (uniform(low, high),), dtypes[:1], name="scalar", **how)
    yield Case(primitive, fun, (uniform(low, high, 0, 3),), dtypes[:1], name="empty", **how)
    if edges:
        floats = tuple(dtype for dtype in dtypes if dtype in FLOATS)
        yield Case(primitive, fun, (values(*edges),), floats, name="edges", **how)


def binary(
    primitive: Primitive,
    fun: Callable,
    x: tuple[float, float] = (-2, 2),
    y: tuple[float, float] = (-2, 2),
    edges: tuple[tuple, tuple] | None = None,
    dtypes: tuple[str, ...] = FLOATS,
    tolerance: float = 4,
    constant: float = 1.5,
) -> Iterator[Case]:
    """A function of two operands, of which each may be a number."""
    how: dict[str, Any] = {"tolerance": tolerance, "per_element": True}
    for shape in ((3, 4), (), (0, 3)):
        args = (uniform(*x, *shape), uniform(*y, *shape))
        yield Case(primitive, fun, args, dtypes if shape else dtypes[:1], name=f"{shape}", **how)
        how["composed"] = False

    def left(y: Any) -> Any:
        return fun(np.asarray(constant, y.dtype), y)

    def right(x: Any) -> Any:
        return fun(x, np.asarray(constant, x.dtype))

    def twice(x: Any) -> Any:
        return lax.add(fun(x, x), lax.square(x))

    yield Case(primitive, left, (uniform(*y, 3),), dtypes[:1], name="number left", **how)
    yield Case(primitive, right, (uniform(*x, 3),), dtypes[:1], name="number right", **how)
    yield Case(primitive, twice, (uniform(*y, 3),), dtypes[:1], tolerance, name="same twice")
    if edges:
        floats = tuple(dtype for dtype in dtypes if dtype in FLOATS)
        yield Case(
            primitive,
            fun,
            tuple(values(*e) for e in edges),
            floats,
            name="edges",
            **how,
        )


def grid(*entries: float) -> tuple[tuple, tuple]:
    """All pairs of the entries."""
    return tuple(zip(*((a, b) for a in entries for b in entries), strict=True))


FINITE = (0.0, -0.0, 1.0, -1.0, 30.0, -30.0)
ALL = (*FINITE, INF, -INF, NAN)
PAIRS = grid(*ALL)
JAX_POWERS = tuple(
    zip(
        *((x, y) for x, y in zip(*PAIRS, strict=True) if y != 0 or (x not in (0,) and x == x)),
        strict=True,
    )
)
