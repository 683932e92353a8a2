"""What is checked: a function as a scalar loss of the floating leaves of some arguments."""

import functools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fbp.autodiff.avals import is_complex, is_inexact
from fbp.errors import InputError

Arrays = list[Any]


@dataclass(frozen=True)
class Problem:
    """A function and the point at which its gradient is checked.

    Attributes:
      fun: the function; its outputs may be any pytree.
      argnums: the numbers of the arguments that are differentiated.
      arrays: the leaves of the arguments.
      tree: how the arguments are made of them.
      places: which of the leaves are differentiated.
      names: the paths of those.
    """

    fun: Callable
    argnums: tuple[int, ...]
    arrays: tuple[Any, ...]
    tree: Any
    places: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.fun, "__name__", type(self.fun).__name__)

    @property
    def leaves(self) -> Arrays:
        """The leaves that are differentiated."""
        return [self.arrays[i] for i in self.places]

    @property
    def point(self) -> tuple[Arrays, Arrays]:
        """The leaves and the arrays, as `loss` takes them."""
        return self.leaves, list(self.arrays)

    def at(self, leaves: Sequence[Any], arrays: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments with other leaves, and with these in the places of the differentiated."""
        merged = list(arrays)
        for i, leaf in zip(self.places, leaves, strict=True):
            merged[i] = leaf
        return jax.tree.unflatten(self.tree, merged)

    def chosen_leaves(self, gradient: Any) -> Arrays:
        """Of a gradient as `jax.grad(fun, argnums)` gives it, the differentiated leaves."""
        leaves = [x if hasattr(x, "dtype") else jnp.asarray(x) for x in jax.tree.leaves(gradient)]
        return [x for x in leaves if is_inexact(x.dtype) and x.size]

    def loss(self, leaves: Sequence[Any], arrays: Sequence[Any]) -> Float[Array, ""]:
        """The function's value: a scalar as it is, the entries of others weighed and summed.

        The weights are drawn once for each output, and are the same in every precision.
        """
        return weighed(self.fun(*self.at(leaves, arrays)))


def problem_of(fun: Callable, args: Sequence[Any], argnums: int | Sequence[int]) -> Problem:
    """The problem of checking the derivative of `fun(*args)`.

    Raises InputError where an argument holds what is no array, or the chosen ones no float.
    """
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if not all(-len(args) <= i < len(args) for i in chosen):
        raise InputError(f"{argnums=}, but there are {len(args)} arguments: choose among those.")
    chosen = tuple(i % len(args) for i in chosen)
    paths, tree = jax.tree_util.tree_flatten_with_path(tuple(args))
    names = [f"args{jax.tree_util.keystr(path)}" for path, _ in paths]
    arrays = tuple(_array(name, leaf) for name, (_, leaf) in zip(names, paths, strict=True))
    places = tuple(
        i
        for i, ((first, *_), _) in enumerate(paths)
        if first.idx in chosen and is_inexact(jax.typeof(arrays[i]).dtype) and arrays[i].size
    )
    if not places:
        raise InputError(
            f"the arguments {list(chosen)} hold no floating-point entry: there is no gradient to "
            "check. Give floats, or choose other arguments with argnums."
        )
    return Problem(fun, chosen, arrays, tree, places, tuple(names[i] for i in places))


def _array(name: str, leaf: Any) -> Any:
    try:
        return leaf if isinstance(leaf, jax.Array | np.ndarray) else jnp.asarray(leaf)
    except TypeError:
        raise InputError(
            f"{name} is {type(leaf).__name__}, which is no array: close over it, as in "
            "check(lambda params: loss(params, setting), params)."
        ) from None


def weighed(out: Any) -> Float[Array, ""]:
    """The sum of all floating entries of a tree, each times a weight of its own."""
    terms = [
        _weighed(jax.tree_util.keystr(path), jnp.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(out)
        if is_inexact(jax.typeof(leaf).dtype)
    ]
    if not terms:
        raise InputError("the function returns no floating-point entry: it has no derivative.")
    return functools.reduce(jnp.add, terms)


def _weighed(path: str, leaf: Any) -> Any:
    if leaf.shape == () and not is_complex(leaf.dtype):
        return leaf
    rng = np.random.default_rng(zlib.crc32(path.encode()))
    weights = rng.integers(1, 16, leaf.shape) / 8 * rng.choice([-1, 1], leaf.shape)
    if is_complex(leaf.dtype):
        weights = weights + 1j * np.roll(weights, 1)
    return jnp.real(jnp.sum(leaf * jnp.asarray(weights, leaf.dtype)))


def unraveled(entry: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of the entry with this number in an array of this shape."""
    return tuple(int(i) for i in np.unravel_index(int(entry), shape))
