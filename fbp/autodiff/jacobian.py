"""Derivatives of more than a scalar, and second ones: jacrev, hessian, hvp."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.autodiff.checks import check_callable, check_inputs, check_outputs, check_tangents
from fbp.autodiff.device_rows import axes_apart, by_device, device_copies, device_part, device_rows
from fbp.autodiff.forward_over_reverse import push, stage_for_forward
from fbp.autodiff.rule import Rules
from fbp.autodiff.table import RULES
from fbp.autodiff.transforms import argnums_partial, grad, normalize_argnums, vjp


def jacrev(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    rules: Rules = RULES,
) -> Callable:
    """The Jacobian, row by row: x -> dy/dx, of the shape of y followed by that of x.

    Takes and returns what `jax.jacrev` does: a tree like y of trees like x. One pullback, mapped
    over the unit vectors of y. Raises as `grad` does, but for the shape of the value.

    >>> import fbp, jax.numpy as jnp
    >>> print(fbp.jacrev(lambda x: x * x[0])(jnp.array([1.0, 2.0])))
    [[2. 0.]
     [2. 1.]]
    """
    check_callable(fun)
    argnums = normalize_argnums(argnums)

    @functools.wraps(fun)
    def jacobian(*args, **kwargs):
        partial, primals = argnums_partial(fun, argnums, args, kwargs)
        check_inputs("jacrev", primals, holomorphic, allow_int)
        primals = device_copies(partial, primals, has_aux)
        y, pullback, *aux = vjp(partial, *primals, has_aux=has_aux, rules=rules)
        ys, out_tree = jax.tree.flatten(y)
        check_outputs("jacrev", ys, holomorphic)
        axes = [axes_apart(y, primals) for y in ys]
        types = [by_device(y, names) for y, names in zip(ys, axes, strict=True)]
        cts = map(device_part, _unit_vectors(types), axes)
        rows = jax.vmap(pullback)(out_tree.unflatten(cts))
        jacs = [
            jax.tree.map(lambda rows, x, names=names: device_rows(rows, names, x), part, primals)
            for part, names in zip(_split(rows, types), axes, strict=True)
        ]
        jac = out_tree.unflatten(jac[0] if isinstance(argnums, int) else jac for jac in jacs)
        return (jac, *aux) if has_aux else jac

    return jacobian


def _unit_vectors(leaves: Sequence[Any]) -> list[Any]:
    """The unit vectors of a list of arrays, stacked."""
    sizes = [x.size for x in leaves]
    ends = np.cumsum(sizes, dtype=int)
    return [
        jnp.eye(sum(sizes), n, n - end, dtype=x.dtype).reshape(sum(sizes), *x.shape)
        for x, n, end in zip(leaves, sizes, ends, strict=True)
    ]


def _split(rows: Any, leaves: Sequence[Any]) -> list[Any]:
    """The rows that belong to each leaf, in its shape."""
    ends = np.cumsum([x.size for x in leaves], dtype=int)

    def rows_of(x: Any, end: int) -> Any:
        return jax.tree.map(
            lambda row: row[end - x.size : end].reshape(*x.shape, *row.shape[1:]), rows
        )

    return [rows_of(x, int(end)) for x, end in zip(leaves, ends, strict=True)]


def _split_columns(columns: Any, leaves: Sequence[Any]) -> list[Any]:
    """The columns that belong to each leaf, in its shape."""
    ends = np.cumsum([x.size for x in leaves], dtype=int)
    return [
        columns[..., end - x.size : end].reshape(*columns.shape[:-1], *x.shape)
        for x, end in zip(leaves, ends, strict=True)
    ]


def hessian(
    fun: Callable,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    *,
    rules: Rules = RULES,
) -> Callable:
    """The second derivative: x -> d2y/dx2, of the shape of y followed by that of x, twice.

    Takes and returns what `jax.hessian` does: forward over reverse, by `jax.jvp` of fbp's
    Jacobian, where its program has a forward derivative like fbp's; else reverse over reverse.
    Raises as `jacrev` does.

    >>> import fbp, jax.numpy as jnp
    >>> print(fbp.hessian(lambda x: x[0] ** 2 * x[1])(jnp.array([1.0, 2.0])))
    [[4. 2.]
     [2. 0.]]
    """
    inner = jacrev(fun, argnums, has_aux, holomorphic, rules=rules)
    reverse = jacrev(inner, argnums, has_aux, holomorphic, rules=rules)
    argnums = normalize_argnums(argnums)

    @functools.wraps(fun)
    def second(*args, **kwargs):
        partial, primals = argnums_partial(inner, argnums, args, kwargs)
        staged = None if holomorphic else stage_for_forward(partial, primals, has_aux, rules)
        if staged is None:
            return reverse(*args, **kwargs)
        columns = jax.vmap(lambda *ts: push(staged, ts), out_axes=(None, -1))
        outs, changes = columns(*_unit_vectors(staged.leaves))
        _, aux = staged.split_outs(outs)
        parts = [staged.in_tree.unflatten(_split_columns(c, staged.leaves)) for c in changes]
        parts = [part[0] if isinstance(argnums, int) else part for part in parts]
        result = jax.tree.unflatten(staged.out_tree, parts)
        return (result, aux) if has_aux else result

    return second


def hvp(fun: Callable, primals: tuple, tangents: tuple, *, rules: Rules = RULES) -> tuple:
    """The Hessian of a scalar function times a vector: one product per primal.

    H v without H, forward over reverse: `jax.jvp` of fbp's gradient, where its program has a
    forward derivative like fbp's; else reverse over reverse, the pullback of the gradient, at v (H
    is symmetric). Pearlmutter, Fast exact multiplication by the Hessian, 1994.

    Raises as `grad` does, and ValueError for tangents that are not of the primals' types.

    >>> import fbp, jax.numpy as jnp
    >>> x, v = jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0])
    >>> print(*fbp.hvp(lambda x: x[0] ** 2 * x[1], (x,), (v,)))
    [4. 2.]
    """
    gradient = grad(fun, tuple(range(len(primals))), rules=rules)
    staged = stage_for_forward(gradient, primals, False, rules)
    if staged is None:
        _, pullback = vjp(gradient, *primals, rules=rules)
        return pullback(tangents)
    check_tangents(primals, tangents)
    arrived = [
        jnp.asarray(t, x.dtype)
        for t, x in zip(jax.tree.leaves(tangents), staged.leaves, strict=True)
    ]
    return jax.tree.unflatten(staged.out_tree, push(staged, arrived)[1])
