"""The arguments with which a user called a function with a custom rule, from its equation, whose
operands are their leaves."""

import ast
from collections.abc import Sequence
from typing import Any

import jax
from jax.extend.core import JaxprEqn


def arguments_of(
    eqn: JaxprEqn, leaves: Sequence[Any], nondiff_argnums: Sequence[int] = ()
) -> tuple[Any, ...]:
    """Return the positional arguments that have these leaves.

    A custom_vjp equation holds the tree of its arguments, and the values of those in
    nondiff_argnums. A custom_jvp equation has the paths of its arguments' leaves only, so that
    its containers come back as dicts and tuples.

    Raises ValueError where the equation does not tell the arguments.
    """
    transforms = getattr(eqn.params.get("bwd"), "transforms", ())
    held = [x for _, args in transforms for x in args]
    trees = [x for x in held if isinstance(x, jax.tree_util.PyTreeDef)]
    if trees:
        arguments = list(jax.tree.unflatten(trees[0], leaves))
    else:
        arguments = _by_paths(_names(eqn), leaves)
    fixed = [x for group in held if isinstance(group, tuple) for x in group]
    values = [x.val for x in fixed if hasattr(x, "val")]
    if len(values) != len(nondiff_argnums):
        if not nondiff_argnums:
            return tuple(arguments)
        raise ValueError("the values of its nondiff_argnums are not known")
    for number, value in sorted(zip(nondiff_argnums, values, strict=True), key=lambda x: x[0]):
        arguments.insert(number, value)
    return tuple(arguments)


def _names(eqn: JaxprEqn) -> tuple[str, ...] | None:
    body = next(eqn.params[name] for name in ("call_jaxpr", "jaxpr") if name in eqn.params)
    return getattr(body, "jaxpr", body).debug_info.arg_names


def _by_paths(names: Sequence[str] | None, leaves: Sequence[Any]) -> list[Any]:
    """Return the arguments whose leaves have these paths, such as "p['w'][0]"."""
    if names is None or len(names) != len(leaves):
        return list(leaves)
    roots: dict[Any, Any] = {}
    for name, leaf in zip(names, leaves, strict=True):
        first, *rest = _keys(name)
        node: dict[Any, Any] = roots
        for key in rest:
            node = node.setdefault(first, {})
            first = key
        node[first] = leaf
    return [_containers(node) for node in roots.values()]


def _keys(path: str) -> list[Any]:
    node: Any = ast.parse(path, mode="eval").body
    keys: list[Any] = []
    while isinstance(node, ast.Subscript):
        keys.append(ast.literal_eval(node.slice))
        node = node.value
    if not isinstance(node, ast.Name):
        raise ValueError(f"its arguments are not known from the path {path}")
    return [node.id, *reversed(keys)]


def _containers(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    values = {key: _containers(value) for key, value in node.items()}
    in_order = list(values) == list(range(len(values)))
    return tuple(values.values()) if in_order else values
