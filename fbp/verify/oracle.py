"""JAX's derivatives, the reference of a check: JAX's within an `fbp.override_jax` too."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from fbp.autodiff.override import by_jax


def grad(fun: Callable, **options: Any) -> Callable:
    """Return the gradient by `jax.grad`."""
    return _lifted(jax.grad(fun, **options))


def vjp(fun: Callable, *primals: Any) -> tuple[Any, Callable]:
    """Return the value and the pullback by `jax.vjp`."""
    value, pullback = _lifted(jax.vjp)(fun, *primals)
    return value, _lifted(pullback)


def jvp(fun: Callable, primals: Any, tangents: Any, **options: Any) -> Any:
    """Return the value and its change by `jax.jvp`."""
    return _lifted(jax.jvp)(fun, primals, tangents, **options)


def linear_transpose(fun: Callable, *primals: Any) -> Callable:
    """Return the transpose by `jax.linear_transpose`."""
    return _lifted(_lifted(jax.linear_transpose)(fun, *primals))


def _lifted(fun: Callable) -> Callable:
    """Return the same function, without the override that is in force when it is called."""

    @functools.wraps(fun)
    def run(*args, **kwargs):
        with by_jax():
            return fun(*args, **kwargs)

    return run
