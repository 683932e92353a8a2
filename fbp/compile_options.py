"""Programs that run once are compiled quickly."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer

QUICK = {"xla_backend_optimization_level": "1"}
"""On a CPU the last of LLVM's optimizations take three quarters of the time in which drawing random
numbers is compiled, and such a program runs no faster for them."""


def jit_to_run_once(
    fun: Callable[..., Any], platform: str | None = None, **options: Any
) -> Callable[..., Any]:
    """Compile a function as `jax.jit` does, with fewer optimizations on a CPU.

    Floating-point sums may differ in their last bit from those of other programs.

    Args:
      fun: a function of arrays.
      platform: where it runs; by default JAX's default backend when it is called.
      **options: those of `jax.jit`.

    >>> jit_to_run_once(lambda x: x + 1)(2).item()
    3
    """
    plain = jax.jit(fun, **options)
    quick = jax.jit(fun, compiler_options=QUICK, **options)

    @functools.wraps(fun)
    def call(*args: Any) -> Any:
        nested = any(isinstance(x, Tracer) for x in jax.tree.leaves(args))
        if nested or (platform or jax.default_backend()) != "cpu":  # JAX refuses it in another jit
            return plain(*args)
        return quick(*args)

    return call
