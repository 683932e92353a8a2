"""Count the work of a function, before anything is compiled."""

import math
from collections.abc import Callable
from typing import Any

import jax


def flops(fun: Callable[..., Any], *args: Any) -> float:
    """Count the floating-point operations of `fun(*args)`, as XLA does before it compiles.

    The body of a loop counts once. The program is one for the CPU, whatever the device: XLA does
    not count those for a GPU, whose products are a library's. Infinite where JAX was told to do
    without its CPU (`JAX_PLATFORMS=cuda`).

    >>> x = jax.ShapeDtypeStruct((8, 16), "float32")
    >>> flops(lambda x: x @ x.T, x)
    2048.0
    """
    try:
        cpu, *_ = jax.local_devices(backend="cpu")
    except RuntimeError:
        return math.inf
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
    with jax.default_device(cpu):
        cost = jax.jit(fun).lower(*shapes).cost_analysis()
    return math.inf if cost is None else cost.get("flops", 0.0)  # none: it says nothing of them
