"""What is checked: a function as a scalar loss of the floating leaves of some arguments."""

import functools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fbp.autodiff.avals import is_complex, is_inexact
from fbp.errors import InputError

Arrays = list[Any]


class Array:
    """Stands for an array among the leaves of arguments; the others stand for themselves."""


ARRAY = Array()


@dataclass(frozen=True)
class CheckedFunction:
    """A function and the point at which its gradient is checked.

    Attributes:
      fun: the function; its outputs may be any pytree.
      argnums: the numbers of the arguments that are differentiated.
      single: whether one argument was chosen by its number, so that its gradient is no tuple.
      arrays: the leaves of the arguments that are arrays.
      leaves_or_settings: for each leaf of the arguments, itself, or `ARRAY` for an array.
      tree: how the arguments are made of them.
      places: which of the arrays are differentiated.
      names: the paths of those.
      paths: the same, as keys: the argument's number first.
    """

    fun: Callable
    argnums: tuple[int, ...]
    single: bool
    arrays: tuple[Any, ...]
    leaves_or_settings: tuple[Any, ...]
    tree: Any
    positions: tuple[int, ...]
    names: tuple[str, ...]
    paths: tuple[tuple[Any, ...], ...]

    @property
    def name(self) -> str:
        """Return the function's name."""
        return getattr(self.fun, "__name__", type(self.fun).__name__)

    @property
    def leaves(self) -> Arrays:
        """Return the leaves that are differentiated."""
        return [self.arrays[i] for i in self.positions]

    @property
    def point(self) -> tuple[Arrays, Arrays]:
        """Return the leaves and the arrays, as `loss` takes them."""
        return self.leaves, list(self.arrays)

    def at(self, leaves: Sequence[Any], arrays: Sequence[Any]) -> tuple[Any, ...]:
        """Return the arguments with other leaves, and with these in the places of the
        differentiated."""
        merged = list(arrays)
        for i, leaf in zip(self.positions, leaves, strict=True):
            merged[i] = leaf
        values = iter(merged)
        every = [next(values) if x is ARRAY else x for x in self.leaves_or_settings]
        return jax.tree.unflatten(self.tree, every)

    def loss(self, leaves: Sequence[Any], arrays: Sequence[Any]) -> Float[jax.Array, ""]:
        """Return the function's value: a scalar as it is, the entries of others weighed and summed.

        The weights are drawn once for each output, and are the same in every precision.
        """
        return weighed(self.fun(*self.at(leaves, arrays)))


def problem_of(fun: Callable, args: Sequence[Any], argnums: int | Sequence[int]) -> CheckedFunction:
    """Return the problem of checking the derivative of `fun(*args)`.

    What is no array among the leaves of the arguments (a string, a function, a number that a
    module holds as a setting) is kept as it is.

    Raises InputError where the chosen arguments hold no float.
    """
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if not all(-len(args) <= i < len(args) for i in chosen):
        raise InputError(f"{argnums=}, but there are {len(args)} arguments: choose among those.")
    chosen = tuple(i % len(args) for i in chosen)
    paths, tree = jax.tree_util.tree_flatten_with_path(tuple(args))
    leaves = [_array(leaf) for _, leaf in paths]
    known = [(path, x) for (path, _), x in zip(paths, leaves, strict=True) if is_array(x)]
    arrays = tuple(x for _, x in known)
    positions = tuple(
        i
        for i, ((first, *_), x) in enumerate(known)
        if first.idx in chosen and is_inexact(jax.typeof(x).dtype) and x.size
    )
    if not positions:
        raise InputError(
            f"the arguments {list(chosen)} hold no floating-point entry: there is no gradient to "
            "check. Give floats, or choose other arguments with argnums."
        )
    return CheckedFunction(
        fun,
        chosen,
        isinstance(argnums, int),
        arrays,
        tuple(ARRAY if is_array(x) else x for x in leaves),
        tree,
        positions,
        tuple(f"args{jax.tree_util.keystr(known[i][0])}" for i in positions),
        tuple(known[i][0] for i in positions),
    )


def is_array(x: Any) -> bool:
    """Return whether a leaf is an array."""
    return isinstance(x, jax.Array | np.ndarray)


def _array(leaf: Any) -> Any:
    """Return a floating-point number as an array, and whole numbers in numpy's arrays in the dtype
    that JAX would give them; what is no number, and whole numbers by themselves, as they are."""
    if isinstance(leaf, float | complex | np.generic):
        return jnp.asarray(leaf)
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "iu":
        return leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)
    return leaf


def weighed(out: Any) -> Float[jax.Array, ""]:
    """Return the sum of all floating entries of a tree, each times a weight of its own."""
    terms = [
        _weighed(jax.tree_util.keystr(path), jnp.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(out)
        if isinstance(leaf, jax.Array | np.ndarray | np.generic | float | complex)
        and is_inexact(jax.typeof(leaf).dtype)
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
    """Return the index of the entry with this number in an array of this shape."""
    return tuple(int(i) for i in np.unravel_index(int(entry), shape))
