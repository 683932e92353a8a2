"""The cotangents with which a custom rule is tried."""

import zlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from fbp.autodiff import avals
from fbp.verify.rule_use import RuleUse, ct_outputs

FAR = 1024.0
"""How far above the arriving cotangent the larger random one is."""
HIGHEST = {"float16": 2048.0}
"""How large it may be in a dtype that ends early, so that a right rule does not overflow; in the
others 1e30."""
COMPARED = 3
"""How many of the cotangents, the first ones, are compared with plain differentiation."""


def tried_cotangents(use: RuleUse, cts: Sequence[Any]) -> list[Any]:
    """Return, for each output, as rows: what arrived; a random cotangent near that in size; one
    far above it; the sum of these two; a multiple of what is near; and zero.

    The random ones have long mantissas, so that what rounds or casts them is seen.
    """
    sizes = [jnp.max(jnp.where(jnp.isfinite(ct), abs(ct), 0), initial=0) for ct in cts]
    factor = _factor(cts, sizes)
    rows = []
    for number, (ct, v, size) in enumerate(zip(cts, ct_outputs(use), sizes, strict=True)):
        size = jnp.where(size > 0, size, 1).astype(ct.dtype)
        near, far = (_random(k, number, v.aval, ct.dtype) * size for k in (0, 1))
        times = factor.astype(ct.dtype)
        far = far * times
        rows.append(jnp.stack([ct, near, far, near + far, near * times, jnp.zeros_like(ct)]))
    return rows


def _factor(cts: Sequence[Any], sizes: Sequence[Any]) -> Any:
    """Return the power of two by which the far cotangents are above the near ones."""
    infos = [jnp.finfo(ct.dtype) for ct in cts]
    highest = min(HIGHEST.get(str(info.dtype), 1e30) for info in infos)
    size = jnp.max(jnp.stack([jnp.real(s).astype(jnp.float32) for s in sizes]))
    size = jnp.where(size > 0, size, 1)
    return jnp.exp2(jnp.floor(jnp.log2(jnp.minimum(FAR, highest / size))))


def _random(k: int, number: int, aval: Any, dtype: Any) -> Any:
    rng = np.random.default_rng(zlib.crc32(f"{k} {number}".encode()))
    x = rng.uniform(0.25, 1, aval.shape) * rng.choice([-1, 1], aval.shape)
    x = x + 1j * np.roll(x, 1) if avals.is_complex(dtype) else x
    return jnp.asarray(x, dtype)
