"""Pullbacks that do not keep the arguments themselves: who calls them gives those back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from fbp.autodiff.compat import NotNeeded, NotSaveable
from fbp.autodiff.flat_function import FlatFunction
from fbp.autodiff.partition import ForwardBackward
from fbp.autodiff.pullback import VJP


@jax.tree_util.register_pytree_node_class
@dataclass(eq=False)
class PartlySavedVJP(VJP):
    """A pullback without the arguments that may not be saved, until `args_res` is assigned.

    `numbers` says which leaf of the arguments a residual is, None for a computed one.
    """

    numbers: tuple[int | None, ...]

    def tree_flatten(self) -> tuple[list[Any], Any]:
        """Return the residuals as leaves."""
        return self.values, (self.staged, self.parts, self.numbers)

    @classmethod
    def tree_unflatten(
        cls, static: tuple[FlatFunction, ForwardBackward, Any], values: Any
    ) -> "PartlySavedVJP":
        """Build a pullback from residuals."""
        staged, parts, numbers = static
        return cls(list(values), staged, parts, numbers)

    def __call__(self, ct: Any, *more: Any) -> tuple:
        """Return the cotangents of the primals for a cotangent of the output."""
        absent = [n for n, x in zip(self.numbers, self.values, strict=True) if _is_absent(x)]
        if absent:
            paths = jax.tree_util.tree_leaves_with_path(_mirrored(self.staged.in_tree, range))
            names = sorted(f"args{jax.tree_util.keystr(path)}" for path, n in paths if n in absent)
            raise ValueError(
                "the pullback needs the arguments that saveable_args kept from being saved: assign "
                f"them to its args_res first. They are {', '.join(names)}."
            )
        return super().__call__(ct, *more)

    @property
    def args_res(self) -> list[Any]:
        """The arguments that the backward pass reads, each a tree: `NotSaveable()` where they are
        to be given back, `NotNeeded()` where they are not read."""
        held = {n: x for n, x in zip(self.numbers, self.values, strict=True) if n is not None}
        in_tree = self.staged.in_tree
        leaves = [held.get(n, NotNeeded()) for n in range(in_tree.num_leaves)]
        return list(_mirrored(in_tree, lambda _: leaves))

    @args_res.setter
    def args_res(self, args: Sequence[Any]) -> None:
        is_sentinel = lambda x: isinstance(x, NotNeeded) or _is_absent(x)
        leaves = jax.tree.leaves(list(args), is_leaf=is_sentinel)
        if len(leaves) != self.staged.in_tree.num_leaves:
            raise ValueError(
                f"args_res has {self.staged.in_tree.num_leaves} leaves, those of the arguments, "
                f"but got {len(leaves)}."
            )
        self.values = [
            x if n is None else leaves[n] for n, x in zip(self.numbers, self.values, strict=True)
        ]


def partly_saved(pullback: VJP, leaves: Sequence[Any], saveable: Sequence[bool]) -> VJP:
    """Return the pullback without those argument leaves that may not be saved."""
    by_id = {id(x): n for n, x in enumerate(leaves)}
    numbers = tuple(by_id.get(id(x)) for x in pullback.values)
    values = [
        x if n is None or saveable[n] else NotSaveable()
        for n, x in zip(numbers, pullback.values, strict=True)
    ]
    return PartlySavedVJP(values, pullback.staged, pullback.parts, numbers)


def saveable_flags(saveable_args: Any, args: Any) -> list[bool]:
    """Return one flag for each leaf of the arguments, from a tree of flags that is a prefix of
    theirs, whatever its containers are."""
    if NotSaveable is None:
        raise TypeError("saveable_args needs a JAX whose vjp takes it, which 0.12 is.")
    return _flags(saveable_args, jax.tree.structure(args), "saveable_args")


def _flags(prefix: Any, tree: Any, name: str) -> list[bool]:
    if isinstance(prefix, bool):
        return [prefix] * tree.num_leaves
    level = jax.tree_util.default_registry.flatten_one_level(prefix)
    if level is None or tree.node_data() is None:
        raise ValueError(
            f"{name} is {prefix!r}: give True, False, or a tree of them that is a prefix of the "
            "arguments'."
        )
    children, parts = list(level[0]), tree.children()
    if len(children) != len(parts):
        raise ValueError(
            f"{name} has {len(children)} children, where the arguments have {len(parts)}: give a "
            "prefix of their tree."
        )
    pairs = enumerate(zip(children, parts, strict=True))
    return [flag for i, (c, t) in pairs for flag in _flags(c, t, f"{name}[{i}]")]


def _is_absent(x: Any) -> bool:
    return NotSaveable is not None and isinstance(x, NotSaveable)


def _mirrored(tree: Any, leaves_of: Any) -> Any:
    """Build a tree of tuples, lists and dictionaries, a tuple for any other container."""
    leaves = iter(leaves_of(tree.num_leaves))

    def build(tree: Any) -> Any:
        if tree.node_data() is None:
            return next(leaves)
        kind, aux = tree.node_data()
        children = [build(child) for child in tree.children()]
        if kind is dict:
            return dict(zip(aux, children, strict=True))
        return None if kind is type(None) else children if kind is list else tuple(children)

    return build(tree)
