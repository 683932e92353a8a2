"""Sizes of parameters, states and residuals, from shapes alone."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax

from fbp.autodiff import vjp


@dataclass(frozen=True)
class Size:
    """Arrays under one name: how many numbers, and how many bytes."""

    name: str
    numbers: int
    bytes: int


def by_layer(params: Any) -> list[Size]:
    """Return the size of each layer's parameters, from arrays or their shapes.

    >>> import jax.numpy as jnp
    >>> by_layer({"0_dense": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}})
    [Size(name='0_dense', numbers=9, bytes=36)]
    """
    paths = jax.tree_util.tree_leaves_with_path(params)
    layer = lambda path: jax.tree_util.keystr(path[:-1], simple=True, separator="/")
    return _sums((layer(path), leaf.shape, leaf.dtype.itemsize) for path, leaf in paths)


def total(tree: Any, name: str) -> Size:
    """Return the size of a whole tree of arrays, or of their shapes."""
    (size,) = _sums((name, x.shape, x.dtype.itemsize) for x in jax.tree.leaves(tree)) or [
        Size(name, 0, 0)
    ]
    return size


def residual_sizes(loss_fn: Callable[..., Any], params: Any, batch: Any, key: Any) -> list[Size]:
    """Return the sizes of what the gradient stores of its forward pass, by source line.

    These are the residuals of `fbp.vjp`. Nothing is computed: the arguments may be shapes.
    Parameters and batch, which are in memory anyway, come under these names.
    """
    residuals: list[tuple[str, tuple[int, ...], int]] = []

    def forward(params: Any, batch: Any, key: Any) -> None:
        _, pullback = vjp(lambda params: loss_fn(params, batch, key), params)
        batch_ids = {id(leaf) for leaf in jax.tree.leaves(batch)}
        for info, value in zip(pullback.residuals, pullback.values, strict=True):
            anyway = "the batch" if id(value) in batch_ids else "parameters"
            line = info.source.rpartition(" ")[0] or info.source
            residuals.append((line or anyway, info.shape, info.dtype.itemsize))

    jax.eval_shape(forward, params, batch, key)
    return sorted(_sums(residuals), key=lambda size: -size.bytes)


def _sums(arrays: Iterable[tuple[str, tuple[int, ...], int]]) -> list[Size]:
    numbers: dict[str, int] = defaultdict(int)
    sizes: dict[str, int] = defaultdict(int)
    for name, shape, itemsize in arrays:
        numbers[name] += math.prod(shape)
        sizes[name] += math.prod(shape) * itemsize
    return [Size(name, numbers[name], sizes[name]) for name in numbers]
