"""The entry of an array that is farthest off, in units of an error bar."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from fbp.verify.precision import DOUBLE

TINY = float(jnp.finfo(jnp.float64).tiny)


class Row(NamedTuple):
    """The worst entry of one comparison.

    Attributes:
      ratio: its error over the bar.
      error: the error, as a share of the largest entry.
      bar: the bar, likewise.
      entry: the number of the entry.
      got: what the rule states there.
      expected: what it should be.
      cotangent: the number of the cotangent it was tried with.
    """

    ratio: Any
    error: Any
    bar: Any
    entry: Any
    got: Any
    expected: Any
    cotangent: Any


def worst_entry(got: Any, expected: Any, bar: Any, cotangent: int) -> Row:
    """Return the entry whose error is the most bars.

    Two NaNs are equal, and a NaN and a number infinitely far apart. The bar is a number, or one
    for each entry.
    """
    got, expected = jnp.ravel(got), jnp.ravel(expected)
    bar = jnp.maximum(jnp.broadcast_to(jnp.ravel(jnp.asarray(bar)), got.shape), TINY)
    apart = abs(got - expected)
    apart = jnp.where((got == expected) | (jnp.isnan(got) & jnp.isnan(expected)), 0.0, apart)
    apart = jnp.where(jnp.isnan(apart), jnp.inf, apart)
    ratios = apart / bar
    worst = jnp.argmax(ratios)
    size = jnp.maximum(magnitude(expected), magnitude(got))
    return Row(
        ratios[worst],
        apart[worst] / size,
        bar[worst] / size,
        worst,
        jnp.real(got[worst]),
        jnp.real(expected[worst]),
        cotangent,
    )


def worse(rows: Sequence[Row]) -> Row:
    """Return the worst of several."""
    worst = rows[0]
    for row in rows[1:]:
        is_worse = row.ratio > worst.ratio
        worst = Row(*(jnp.where(is_worse, b, a) for a, b in zip(worst, row, strict=True)))
    return worst


def wide(x: Any) -> Any:
    """Return an array in float64 or complex128."""
    return DOUBLE.cast(x)


def largest_finite(x: Any) -> Any:
    """Return the largest finite magnitude."""
    return jnp.max(jnp.where(jnp.isfinite(x), abs(x), 0.0), initial=0.0)


def magnitude(x: Any) -> Any:
    """Return the largest finite magnitude, by which one may divide."""
    return jnp.maximum(largest_finite(x), TINY)
