"""Distances between floating-point numbers, in units in the last place (ULPs)."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float64, Inexact


def ulp_distance(
    a: Inexact[ArrayLike, "..."],
    b: Inexact[ArrayLike, "..."],
    *,
    at: Inexact[ArrayLike, "..."] | None = None,
) -> Float64[np.ndarray, "..."]:
    """Return how many units in the last place lie between a and b: |a - b| / spacing(max(|a|,
    |b|)).

    The spacing of a magnitude is the distance between neighbouring numbers of the arrays' dtype
    there: eps * 2^floor(log2 magnitude), with the smallest normal number in place of what lies
    below. Two NaNs, and two equal infinities, are 0 apart; a NaN and a number, infinitely far.

    Args:
      a, b: arrays of one shape and one dtype, real or complex.
      at: the magnitude whose spacing is the unit, instead of each pair's own.

    Returns:
      The distances, in float64, of the shape of the two.

    Raises:
      ValueError: shapes or dtypes differ, or the dtype is not of floats.

    >>> import numpy as np
    >>> one = np.float32(1)
    >>> print(ulp_distance(one, np.nextafter(one, np.float32(2))))
    1.0
    """
    a, b = np.asarray(a), np.asarray(b)
    if (a.shape, a.dtype) != (b.shape, b.dtype) or not jnp.issubdtype(a.dtype, np.inexact):
        raise ValueError(
            f"got {a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}: "
            "give two arrays of floats, of one shape and one dtype"
        )
    info = jnp.finfo(a.dtype)
    wide = np.result_type(a.dtype if a.dtype.kind in "fc" else np.float32, np.float64)
    a, b = a.astype(wide), b.astype(wide)
    magnitude = np.maximum(abs(a), abs(b)) if at is None else abs(np.asarray(at)).astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    comparable = np.isfinite(a) & np.isfinite(b) & np.isfinite(magnitude)
    exponent = np.frexp(np.maximum(magnitude, float(info.tiny)))[1] - 1
    with np.errstate(invalid="ignore", over="ignore"):
        distance = abs(a - b) / np.ldexp(float(info.eps), exponent)
    return np.where(same, 0.0, np.where(comparable, distance, np.inf))
