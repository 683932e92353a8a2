"""Checks of the arguments of grad and jacrev: conditions and wording are those of JAX."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import valid_jaxtype

from fbp.autodiff.avals import is_inexact


def check_callable(fun: Callable) -> None:
    """Raise TypeError unless `fun` can be called."""
    if not callable(fun):
        raise TypeError(f"Expected a callable value, got {fun!r}")


def check_arrays(primals: Any) -> None:
    """Raise TypeError for a leaf that is not an array or a number, with its path."""
    _check_leaves(primals, lambda _: None)


def check_inputs(name: str, primals: tuple, holomorphic: bool, allow_int: bool) -> None:
    """Raise TypeError for a leaf that has no derivative, with its path."""
    _check_leaves(primals, lambda leaf: _wrong_input(name, leaf, holomorphic, allow_int))


def _check_leaves(tree: Any, wrong: Callable[[Any], str | None]) -> None:
    for i, leaf in enumerate(jax.tree.leaves(tree)):
        complaint = (
            wrong(leaf)
            if valid_jaxtype(leaf)
            else f"Argument {leaf!r} of type {type(leaf)} is not a valid JAX type."
        )
        if complaint:
            path = jax.tree_util.tree_leaves_with_path(tree)[i][0]
            raise TypeError(f"{complaint} It is the argument {jax.tree_util.keystr(path)}.")


def _wrong_input(name: str, leaf: Any, holomorphic: bool, allow_int: bool) -> str | None:
    dtype = jax.typeof(leaf).dtype
    if holomorphic and not jnp.issubdtype(dtype, np.complexfloating):
        return f"{name} with holomorphic=True requires inputs with complex dtype, but got {dtype}."
    if not allow_int and not is_inexact(dtype):
        return (
            f"{name} requires real- or complex-valued inputs (input dtype that is a sub-dtype of "
            f"np.inexact), but got {dtype}. If you want to use Boolean- or integer-valued "
            "inputs, use vjp or set allow_int to True."
        )
    return None


def check_tangents(primals: tuple, tangents: Any) -> None:
    """Raise ValueError unless tangents have the structure, shapes and dtypes of the primals."""
    check_arrays(tangents)
    expected, got = jax.tree.structure(primals), jax.tree.structure(tangents)
    if got != expected:
        raise ValueError(
            f"the tangents of hvp must have the structure of its primals: expected {expected}, "
            f"got {got}."
        )
    leaves = zip(
        jax.tree_util.tree_leaves_with_path(primals), jax.tree.leaves(tangents), strict=True
    )
    for (path, x), t in leaves:
        expected, got = ((np.shape(y), jax.dtypes.result_type(y)) for y in (x, t))
        if got != expected:
            raise ValueError(
                f"the tangent of {jax.tree_util.keystr(path)} is {got[1]}{list(got[0])}, but its "
                f"primal is {expected[1]}{list(expected[0])}."
            )


def check_result(fun: Callable, value: Any) -> None:
    """Raise TypeError for a leaf of a function's value that is not an array or a number."""
    if not all(valid_jaxtype(leaf) for leaf in jax.tree.leaves(value)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(value):
            if not valid_jaxtype(leaf):
                at = f" at {jax.tree_util.keystr(path)}" if path else ""
                raise TypeError(
                    f"{getattr(fun, '__name__', fun)} returned {leaf!r} of type {type(leaf)}{at}, "
                    "which is not a valid JAX type."
                )


def check_scalar(avals: Sequence[Any], tree: Any) -> None:
    """Raise TypeError unless the value is one scalar."""
    if len(avals) != 1 or not jax.tree_util.treedef_is_leaf(tree):
        raise TypeError(f"Gradient only defined for scalar-output functions. Output was {tree}.")
    (aval,) = avals
    if aval.shape != ():
        raise TypeError(
            f"Gradient only defined for scalar-output functions. Output had shape: {aval.shape}."
        )


def check_outputs(name: str, avals: Sequence[Any], holomorphic: bool) -> None:
    """Raise TypeError unless the values are real (complex if holomorphic)."""
    for aval in avals:
        is_complex = jnp.issubdtype(aval.dtype, np.complexfloating)
        if holomorphic and not is_complex:
            raise TypeError(
                f"{name} with holomorphic=True requires outputs with complex dtype, but got "
                f"{aval.dtype.name}."
            )
        if not holomorphic and not jnp.issubdtype(aval.dtype, np.floating):
            advice = (
                "For holomorphic differentiation, pass holomorphic=True. For differentiation of "
                "non-holomorphic functions involving complex outputs, use fbp.vjp directly."
                if is_complex
                else "For differentiation of functions with integer outputs, use fbp.vjp directly."
            )
            raise TypeError(
                f"{name} requires real-valued outputs (output dtype that is a sub-dtype of "
                f"np.floating), but got {aval.dtype.name}. {advice}"
            )
