"""Changes of a cotangent: what `fbp.edit.cotangent` does at a site."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


@dataclass(frozen=True)
class Change:
    """A function of (cotangent, value, key), of which it takes the first one, two or three.

    None as its result is a zero that is never computed.
    """

    name: str
    function: Callable[..., Any]
    arity: int

    def __repr__(self) -> str:
        return self.name

    def __call__(self, ct: Any, value: Any, key: Any) -> Any:
        """Return the cotangent that goes on."""
        return self.function(*(ct, value, key)[: self.arity])


def change(function: "Change | Callable[..., Any]") -> Change:
    """Return a function of (cotangent, value, key), or of the first of them, as a change.

    >>> change(lambda ct, value: ct * (value > 0)).arity
    2
    """
    if isinstance(function, Change):
        return function
    return Change(getattr(function, "__name__", str(function)), function, required(function, 3))


def required(function: Callable, most: int) -> int:
    """Count the arguments that a function requires, of which it may have `most`."""
    if not callable(function):
        raise TypeError(f"a function is needed, not {function!r}.")
    parameters = inspect.signature(function).parameters.values()
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [x for x in parameters if x.kind in by_position]
    if any(x.kind is inspect.Parameter.VAR_POSITIONAL for x in parameters):
        return most
    number = max(1, sum(x.default is inspect.Parameter.empty for x in positional))
    if number > most or not positional:
        raise TypeError(
            f"{getattr(function, '__name__', function)} takes {number if positional else 0} "
            f"arguments: give a function of one to {most}."
        )
    return number


def scale(factor: float) -> Change:
    """Return the change ct -> factor ct; -1 reverses a gradient.

    Args:
      factor: a number.

    Returns:
      A change, for `fbp.edit.cotangent`.

    >>> scale(-1.0)
    scale(-1.0)
    """
    return Change(f"scale({factor})", partial(_scaled, factor), 1)


def stop() -> Change:
    """Return the change ct -> 0, by which nothing is computed further down.

    Returns:
      A change, for `fbp.edit.cotangent`.

    >>> stop()
    stop()
    """
    return Change("stop()", _stopped, 1)


def clip(limit: float) -> Change:
    """Return the change that clips each entry to [-limit, limit].

    Args:
      limit: the largest absolute value.

    Returns:
      A change, for `fbp.edit.cotangent`.

    >>> print(clip(1.0).function(jnp.array([-3.0, 0.5])))
    [-1.   0.5]
    """
    return Change(f"clip({limit})", partial(_clipped, limit), 1)


def clip_norm(limit: float) -> Change:
    """Return the change ct -> ct min(1, limit / |ct|), with the Euclidean norm of all entries.

    Args:
      limit: the largest norm.

    Returns:
      A change, for `fbp.edit.cotangent`.

    >>> print(clip_norm(1.0).function(jnp.array([3.0, 4.0])))
    [0.6 0.8]
    """
    return Change(f"clip_norm({limit})", partial(_shrunk, limit), 1)


def top_k(k: int) -> Change:
    """Return the change that leaves the k largest entries of each row, by absolute value: meProp.

    A row is what lies along the last axis. Of equal entries the first ones stay.

    Args:
      k: the number of entries.

    Returns:
      A change, for `fbp.edit.cotangent`.

    Source: Sun, Ren, Ma and Wang, meProp (ICML 2017).

    >>> print(top_k(1).function(jnp.array([[3.0, -4.0], [1.0, 0.0]])))
    [[ 0. -4.]
     [ 1.  0.]]
    """
    return Change(f"top_k({k})", partial(_largest, k), 1)


def cast(dtype: Any) -> Change:
    """Return the change that rounds a cotangent to another precision, and back.

    Args:
      dtype: a floating dtype, such as `bfloat16` or `float8_e5m2`.

    Returns:
      A change, for `fbp.edit.cotangent`.

    >>> print(cast("bfloat16").function(jnp.float32(1.001)))
    1.0
    """
    name = jnp.dtype(dtype).name
    return Change(f"cast({name})", partial(_rounded, name), 1)


def noise(deviation: float) -> Change:
    """Return the change that adds normal noise; the table needs a key (`rules.with_key(key)`).

    Args:
      deviation: the standard deviation.

    Returns:
      A change, for `fbp.edit.cotangent`.

    >>> noise(0.1)
    noise(0.1)
    """
    return Change(f"noise({deviation})", partial(_noisy, deviation), 3)


# The functions: of a module, so that a table with edits can be pickled


def _scaled(factor: float, ct: Any) -> Any:
    return ct * jnp.asarray(factor, ct.dtype)


def _stopped(_: Any) -> None:
    return None


def _clipped(limit: float, ct: Any) -> Any:
    return jnp.clip(ct, -limit, limit)


def _shrunk(limit: float, ct: Any) -> Any:
    norm = jnp.sqrt(jnp.sum(jnp.square(jnp.abs(ct))))
    factor = jnp.where(norm > limit, limit / jnp.where(norm > limit, norm, 1), 1)
    return ct * factor.astype(ct.dtype)


def _largest(k: int, ct: Any) -> Any:
    if ct.ndim == 0 or k >= ct.shape[-1]:
        return ct
    indices = lax.top_k(jnp.abs(ct), k)[1]
    none = jnp.zeros(ct.shape, bool)
    chosen = jnp.put_along_axis(none, indices, True, axis=-1, inplace=False)
    return jnp.where(chosen, ct, jnp.zeros_like(ct))


def _rounded(dtype: str, ct: Any) -> Any:
    return ct.astype(dtype).astype(ct.dtype)


def _noisy(deviation: float, ct: Any, _: Any, key: Any) -> Any:
    return ct + jnp.asarray(deviation, ct.dtype) * jax.random.normal(key, ct.shape, ct.dtype)
