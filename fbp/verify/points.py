"""Many points of many shapes in one check."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.errors import InputError
from fbp.verify.report import Report, ordered

ARRAY = re.compile(r"([a-z]+\w*)\[((?:\d+(?:,\d+)*)?)\]")


def drawn(shape: Any) -> tuple[Any, ...]:
    """Return a point: for each argument an array as it is given, or random numbers of a type.

    Raises InputError for what describes no array of floats.

    >>> [x.shape for x in drawn(("float32[2,3]", "float32[]"))]
    [(2, 3), ()]
    """
    items = shape if isinstance(shape, tuple) else (shape,)
    return tuple(
        random_array(x, i) if isinstance(x, str) else _filled(x, i) for i, x in enumerate(items)
    )


def random_array(word: str, seed: int) -> jax.Array:
    """Random numbers of a type `dtype[shape]`.

    Raises InputError for words that are none.

    >>> random_array("float32[2]", 0).dtype
    dtype('float32')
    """
    match = ARRAY.fullmatch(word)
    if match is None:
        raise InputError(f"{word} is no dtype[shape], as 'float32[5,4]' is.")
    try:
        dtype = jnp.dtype(match[1])
    except TypeError:
        raise InputError(f"{word}: there is no dtype {match[1]}.") from None
    if not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(f"{word}: random arguments are floating-point. Give an array instead.")
    if dtype == np.float64 and not jax.config.read("jax_enable_x64"):
        raise InputError(f"{word}: set JAX_ENABLE_X64=1 for arrays in float64.")
    shape = tuple(int(n) for n in match[2].split(",") if n)
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def _filled(x: Any, seed: int) -> Any:
    if isinstance(x, jax.ShapeDtypeStruct):
        return jnp.asarray(np.random.default_rng(seed).normal(size=x.shape), x.dtype)
    return x


def merged(reports: Sequence[tuple[str, Report]]) -> Report:
    """Return one report of those at several points: a finding at several of them stands there
    once."""
    first = reports[0][1]
    leaves = [
        replace(leaf, leaf=f"{leaf.leaf} at {name}") for name, r in reports for leaf in r.leaves
    ]
    findings: dict[tuple, Any] = {}
    for name, r in reports:
        for f in r.findings:
            where = None if f.leaf is None else f"{f.leaf} at {name}"
            key = (f.kind, f.leaf, f.source, f.operand)
            findings.setdefault(key, replace(f, leaf=where))
    return Report(
        first.subject,
        tuple(leaves),
        ordered(list(findings.values())),
        tuple(dict.fromkeys(x for _, r in reports for x in r.checked)),
        tuple(dict.fromkeys(x for _, r in reports for x in r.rules)),
        tuple(dict.fromkeys(x for _, r in reports for x in r.unchecked)),
    )
