"""Where a NaN, an infinity or a silent zero in a gradient comes from.

The function's value and gradient are one program, forward and backward. It is run once, watched:
each equation's flags come out beside its results. What is bad in the results is then followed
back to the equation that bore it, and that equation is looked at closely in a second run.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from fbp.autodiff import graph as g
from fbp.autodiff import value_and_grad
from fbp.autodiff.avals import is_inexact
from fbp.autodiff.masks import select
from fbp.autodiff.transforms import normalize_argnums
from fbp.verify.flags import FLAGS, flags_of
from fbp.verify.flow import flow
from fbp.verify.observe import observe
from fbp.verify.origin import Watched
from fbp.verify.report import Report
from fbp.verify.story import Result, Run, findings


def trace_nonfinite(fun: Callable, *args: Any, argnums: int | Sequence[int] = 0) -> Report:
    """Return where the NaNs and infinities in a scalar function's value and gradient come from.

    One compiled pass over forward and backward, in loops, branches and vmap too, without
    callbacks. The first finding is the origin: an overflow, a pole or 0/0 whose numbers reach the
    value or a gradient, or an overflow that a division made a silent zero; with its line, the
    loops' iteration, the operands' values, the gradient's leaf, and the usual mend. What is left
    out by a `where`, or is zero after exp(-inf), is not reported unless it returns as a NaN.

    Args:
      fun: a function of arrays with a real scalar value.
      args: its arguments.
      argnums: with respect to which of them the gradient is taken.

    Returns:
      The report, whose findings are the origins, the first one first.

    Raises:
      Exception: what `fbp.value_and_grad` raises.

    >>> import jax.numpy as jnp
    >>> f = lambda x: jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0.0))
    >>> print(trace_nonfinite(f, jnp.array([0.0, 1.0])).findings[0].message)
    pole: the derivative of sqrt is infinite: div(0.5, 0) = inf at entry [0], ...
    """
    argnums = normalize_argnums(argnums)
    chosen = {i % len(args) for i in ((argnums,) if isinstance(argnums, int) else argnums)}
    values, rebuilt = _values_of(args)
    numbers = [
        i
        for i, (path, x) in enumerate(values)
        if path[0].idx in chosen and is_inexact(jax.typeof(x).dtype)
    ]
    if not numbers:
        value_and_grad(fun, argnums)(*args)  # which says what is wrong with them

    def program(*leaves: Any) -> tuple[Any, list[Any]]:
        def loss(parts: list[Any]) -> Any:
            replaced = dict(zip(numbers, parts, strict=True))
            return fun(*rebuilt([replaced.get(i, x) for i, x in enumerate(leaves)]))

        return value_and_grad(loss)([leaves[i] for i in numbers])

    def named(path: tuple) -> Result:
        which, *rest = path
        if which.idx == 0:
            return Result("the value")
        leaf = f"args{jax.tree_util.keystr(values[numbers[rest[0].idx]][0])}"
        return Result(f"the gradient of {leaf}", leaf)

    return _trace(fun, program, values, named, frozenset(f"args[{i}]" for i in chosen))


def trace_program(fun: Callable, *args: Any) -> Report:
    """Return the same for any function as it stands: a training step, or a gradient made by JAX.

    Nothing is differentiated; all that the function returns is looked at. Pass a training step
    the state before it: if the step gives its state away (`donate_argnums`), a copy of it.

    Args:
      fun: a function of anything; what is no array among its arguments is passed on as it is.
      args: its arguments.

    Returns:
      The report, whose findings are the origins, the first one first.

    Raises:
      Exception: what the function raises.

    >>> import jax, jax.numpy as jnp
    >>> step = lambda w: w - 0.1 * jax.grad(jnp.log)(w)
    >>> print(trace_program(step, 0.0).findings[0].message)
    pole: div(1, 0) = inf. It reaches result. ...
    """

    values, rebuilt = _values_of(args)
    paths: list[Any] = []

    def program(*leaves: Any) -> list[Any]:
        results, _ = _values_of(fun(*rebuilt(leaves)))
        paths[:] = [path for path, _ in results]
        return [x for _, x in results]

    def named(path: tuple) -> Result:
        return Result(f"result{jax.tree_util.keystr(paths[path[0].idx])}")

    return _trace(fun, program, values, named, frozenset())


Values = list[tuple[Any, Any]]
"""Arrays and floating-point numbers, each with its path."""


def _values_of(tree: Any) -> tuple[Values, Callable[[Sequence[Any]], Any]]:
    """Return the values in a tree, and how it is made of such: what is none, such as a string, a
    bool or a function that a module holds, is as it was."""
    flat, structure = jax.tree_util.tree_flatten_with_path(tree)
    is_value = [isinstance(x, ARRAYS) for _, x in flat]

    def rebuilt(values: Sequence[Any]) -> Any:
        left = iter(values)
        leaves = [next(left) if v else x for v, (_, x) in zip(is_value, flat, strict=True)]
        return jax.tree.unflatten(structure, leaves)

    return select(is_value, flat), rebuilt


ARRAYS = (jax.Array, np.ndarray, np.generic, float, complex)


def _trace(
    subject: Callable,
    program: Callable,
    values: Values,
    named: Callable[[tuple], Result],
    differentiated: frozenset[str],
) -> Report:
    """Run a program, watched, and report on its results."""
    leaves = tuple(x for _, x in values)
    graph, out = g.stage(program, *leaves)

    @jax.jit
    def run(*leaves: Any) -> Any:
        outs, records = observe(graph, leaves, FLAGS)
        return flags_of(leaves), flags_of(outs), records

    inputs, flags, records = jax.device_get(run(*leaves))
    seen = Run(
        Watched(flow(graph), records, inputs),
        leaves,
        tuple(f"args{jax.tree_util.keystr(path)}" for path, _ in values),
        tuple(named(path) for path, _ in jax.tree_util.tree_leaves_with_path(out)),
        flags,
        differentiated,
    )
    equations = seen.watched.flow.equations.values()
    backward = sum(equation.backward for equation in equations)
    return Report(
        f"finite numbers in {getattr(subject, '__name__', subject)}",
        findings=tuple(findings(seen)),
        checked=(f"{len(equations)} equations, {backward} of them backward",),
    )
