"""Strategies of hypothesis for those who test functions of arrays: points of many shapes."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from fbp.errors import InputError

WORD = re.compile(r"([a-z]+\w*)\[((?:\w+(?:,\w+)*)?)\]")


def points(*types: str, largest: int = 4) -> st.SearchStrategy[tuple[jax.Array, ...]]:
    """Draw the arguments of a function, of shapes in which named sides agree.

    Args:
      types: for each argument `dtype[side,side]`; a side is a number, or a name, whose length is
        drawn once for all arguments.
      largest: the largest length of a named side; the smallest is 1.

    Returns:
      A strategy of tuples of arrays, with normal random entries.

    Raises:
      InputError: a word is not a type.

    >>> from hypothesis import given, settings
    >>> @settings(max_examples=3)
    ... @given(points("float32[n,k]", "float32[k]"))
    ... def test_shapes_agree(args):
    ...     assert args[0].shape[1] == args[1].shape[0]
    >>> test_shapes_agree()
    """
    parsed = [_parsed(word) for word in types]
    names = sorted({side for _, sides in parsed for side in sides if not side.isdigit()})

    @st.composite
    def drawn(draw: Callable[..., Any]) -> tuple[jax.Array, ...]:
        lengths = {name: draw(st.integers(1, largest), label=name) for name in names}
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
        shapes = [[lengths.get(s) or int(s) for s in sides] for _, sides in parsed]
        return tuple(
            jnp.asarray(rng.normal(size=shape), dtype)
            for shape, (dtype, _) in zip(shapes, parsed, strict=True)
        )

    return drawn()


def _parsed(word: str) -> tuple[Any, list[str]]:
    match = WORD.fullmatch(word)
    if match is None:
        raise InputError(f"{word} is no dtype[side,side], as 'float32[n,3]' is.")
    return jnp.dtype(match[1]), [side for side in match[2].split(",") if side]
