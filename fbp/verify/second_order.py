"""A gradient and its own derivative, in one program: the second costs little beside the first."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from fbp.autodiff.override import as_overridden_now
from fbp.verify import oracle
from fbp.verify.problem import Arrays


def with_derivative(gradient: Callable) -> Callable:
    """Return the leaves of a gradient g(x), and after them those of H (1 + x), where H is the
    derivative of g by `jax.grad`, the Hessian."""
    gradient = as_overridden_now(gradient)

    def along(leaves: Sequence[Any], arrays: Sequence[Any]) -> tuple[Any, Arrays]:
        grads = gradient(leaves, arrays)
        terms = [
            jnp.real(jnp.sum(lax.stop_gradient(1 + x) * slope))
            for x, slope in zip(leaves, grads, strict=True)
        ]
        return sum(terms), grads

    def both(leaves: Sequence[Any], arrays: Sequence[Any]) -> Arrays:
        second, first = oracle.grad(along, has_aux=True)(leaves, arrays)
        return [*first, *second]

    return both


def halves(both: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return the leaves of the gradient and those of its derivative."""
    middle = len(both) // 2
    return both[:middle], both[middle:]
