"""Select from lists by boolean masks, and merge lists."""

from collections.abc import Iterable, Sequence
from typing import Any


def select(mask: Sequence[bool], values: Iterable[Any]) -> list[Any]:
    """Return the values where the mask is true."""
    return [x for x, keep in zip(values, mask, strict=True) if keep]


def merge_by_mask(
    mask: Sequence[bool], chosen: Iterable[Any], others: Iterable[Any] | None = None
) -> list:
    """Put the chosen values where the mask is true, the others (or None) elsewhere."""
    chosen = iter(chosen)
    rest = None if others is None else iter(others)
    return [next(chosen) if m else None if rest is None else next(rest) for m in mask]


def not_(mask: Sequence[bool]) -> tuple[bool, ...]:
    """Return the complement of a mask."""
    return tuple(not m for m in mask)
