"""Derivatives of non-scalar functions, and second derivatives: jacrev, hessian, hvp."""

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
    """Return the Jacobian, row by row: x -> dy/dx, of the shape of y followed by that of x.

    Takes and returns what `jax.jacrev` does: one pullback, mapped over the unit vectors of y.

    Args:
      fun: a function of arrays and pytrees; with `has_aux` it returns a pair (value, aux).
      argnums: the positional arguments to differentiate; with a tuple, one Jacobian per argument.
      has_aux: whether `fun` returns auxiliary output as well.
      holomorphic: whether `fun` is complex differentiable, with complex inputs and outputs.
      allow_int: whether arguments may be integers, whose Jacobians are zeros of dtype float0.
      rules: the table of rules to differentiate by.

    Returns:
      A function of the arguments of `fun` that returns a tree like y of trees like x, with entries
      of shape (*y.shape, *x.shape); with `has_aux`, (Jacobian, aux).

    Raises:
      TypeError: `fun` cannot be called; when called, for an argument or a value without a
        derivative.
      fbp.MissingRule: when called, for a primitive without a rule.

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
    """Stack the unit vectors of a list of arrays."""
    sizes = [x.size for x in leaves]
    ends = np.cumsum(sizes, dtype=int)
    return [
        jnp.eye(sum(sizes), n, n - end, dtype=x.dtype).reshape(sum(sizes), *x.shape)
        for x, n, end in zip(leaves, sizes, ends, strict=True)
    ]


def _split(rows: Any, leaves: Sequence[Any]) -> list[Any]:
    """Split rows into those that belong to each leaf, in its shape."""
    ends = np.cumsum([x.size for x in leaves], dtype=int)

    def rows_of(x: Any, end: int) -> Any:
        return jax.tree.map(
            lambda row: row[end - x.size : end].reshape(*x.shape, *row.shape[1:]), rows
        )

    return [rows_of(x, int(end)) for x, end in zip(leaves, ends, strict=True)]


def _split_columns(columns: Any, leaves: Sequence[Any]) -> list[Any]:
    """Split columns into those that belong to each leaf, in its shape."""
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
    """Return the second derivative: x -> d2y/dx2, of the shape of y followed by that of x, twice.

    Takes and returns what `jax.hessian` does: forward over reverse, by `jax.jvp` of fbp's Jacobian,
    if its program has a forward derivative like fbp's; else reverse over reverse.

    Args:
      fun: a function of arrays and pytrees; with `has_aux` it returns a pair (value, aux).
      argnums: the positional arguments to differentiate; a tuple gives all pairs of arguments.
      has_aux: whether `fun` returns auxiliary output as well.
      holomorphic: whether `fun` is complex differentiable, with complex inputs and outputs.
      rules: the table of rules to differentiate by.

    Returns:
      A function of the arguments of `fun` that returns a tree like y of trees like x of trees like
      x, with entries of shape (*y.shape, *x.shape, *x.shape); with `has_aux`, (Hessian, aux).

    Raises:
      TypeError: `fun` cannot be called; when called, for an argument or a value without a
        derivative.
      fbp.MissingRule: when called, for a primitive without a rule.

    >>> import fbp, jax.numpy as jnp
    >>> print(fbp.hessian(lambda x: x[0] ** 2 * x[1])(jnp.array([1.0, 2.0])))
    [[4. 2.]
     [2. 0.]]
    """
    inner = jacrev(fun, argnums, has_aux, holomorphic, rules=rules)
    reverse = jacrev(inner, argnums, has_aux, holomorphic, rules=rules.table)
    argnums = normalize_argnums(argnums)

    @functools.wraps(fun)
    def second(*args, **kwargs):
        partial, primals = argnums_partial(inner, argnums, args, kwargs)
        staged = None if holomorphic else stage_for_forward(partial, primals, has_aux, rules.table)
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
    """Multiply the Hessian of a scalar function by a vector: one product per primal.

    H v without H, forward over reverse: `jax.jvp` of fbp's gradient, if its program has a forward
    derivative like fbp's; else reverse over reverse, the pullback of the gradient, at v (H is
    symmetric). Pearlmutter, Fast exact multiplication by the Hessian, 1994.

    Args:
      fun: a function of the primals that returns a real scalar.
      primals: the arguments at which to differentiate, as a tuple.
      tangents: the vector v, a tuple of the structure, shapes and dtypes of the primals.
      rules: the table of rules to differentiate by.

    Returns:
      A tuple with one product per primal, of its structure, shapes and dtypes.

    Raises:
      TypeError: `fun` cannot be called, a primal has no derivative, or the value is not a real
        scalar.
      ValueError: the tangents do not fit the primals.
      fbp.MissingRule: a primitive has no rule.

    >>> import fbp, jax.numpy as jnp
    >>> x, v = jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0])
    >>> print(*fbp.hvp(lambda x: x[0] ** 2 * x[1], (x,), (v,)))
    [4. 2.]
    """
    gradient = grad(fun, tuple(range(len(primals))), rules=rules)
    staged = stage_for_forward(gradient, primals, False, rules.table)
    if staged is None:
        _, pullback = vjp(gradient, *primals, rules=rules.table)
        return pullback(tangents)
    check_tangents(primals, tangents)
    arrived = [
        jnp.asarray(t, x.dtype)
        for t, x in zip(jax.tree.leaves(tangents), staged.leaves, strict=True)
    ]
    return jax.tree.unflatten(staged.out_tree, push(staged, arrived)[1])
