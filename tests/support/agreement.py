"""Whether two gradients are the same: structure, shape, dtype, and values in ULPs of the leaf.

An error is measured against the largest entry of its leaf, since that is what cancellation in
a sum of terms of that size leaves.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

import fbp
from fbp.testing import ulps as ulps


def assert_same(got: Any, want: Any, tolerance: float = 4) -> None:
    """Two trees of gradients are the same, to `tolerance` ULPs of each leaf."""
    chex.assert_trees_all_equal_structs(got, want)
    chex.assert_trees_all_equal_shapes_and_dtypes(got, want)
    for path, b in jax.tree_util.tree_leaves_with_path(want):
        a = _at(got, path)
        where = jax.tree_util.keystr(path) or "the leaf"
        weak = [getattr(x, "weak_type", False) for x in (a, b)]
        assert weak[0] == weak[1], f"{where}: weak types {weak}"
        assert ulps(a, b) <= tolerance, f"{where}: {ulps(a, b)} ULPs\n{a}\n{b}"


def _at(tree: Any, path: tuple) -> Any:
    return dict(jax.tree_util.tree_leaves_with_path(tree))[path]


def assert_grad(
    fun: Callable, *args: Any, argnums: Any = 0, tolerance: float = 4, **options: Any
) -> None:
    """fbp and JAX give the same value and gradient of a scalar function, within jit and not."""
    want = jax.value_and_grad(fun, argnums, **options)(*args)
    want = jax.tree.map(jnp.asarray, want)
    assert_same(fbp.value_and_grad(fun, argnums, **options)(*args), want, tolerance)
    assert_jitted_grad(fun, *args, argnums=argnums, tolerance=tolerance, **options)


def assert_jitted_grad(
    fun: Callable, *args: Any, argnums: Any = 0, tolerance: float = 4, **options: Any
) -> None:
    """fbp and JAX give the same value and gradient of a scalar function, within jit."""
    want = jax.jit(jax.value_and_grad(fun, argnums, **options))(*args)
    got = jax.jit(fbp.value_and_grad(fun, argnums, **options))(*args)
    assert_same(got, want, tolerance)


def assert_agree(ours: Callable, theirs: Callable, *args: Any, tolerance: float = 4) -> None:
    """Two functions give the same; one program computes both, which costs less than two."""
    got, want = jax.jit(lambda *args: (ours(*args), theirs(*args)))(*args)
    assert_same(got, want, tolerance)


def total(tree: Any) -> jax.Array:
    """A scalar that depends on every entry of a tree, with unequal weights."""
    return sum(
        (jnp.sum(jnp.sin(x) * (1 + jnp.arange(x.size, dtype=x.dtype).reshape(x.shape) / 8)))
        for x in map(jnp.asarray, jax.tree.leaves(tree))
    )
