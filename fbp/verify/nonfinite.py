"""Where a NaN, an infinity or a silent zero in a gradient comes from.

The function's value and gradient are one program, forward and backward. It is run once, watched:
each equation's flags come out beside its results. What is bad in the results is then followed
back to the equation that bore it, and that equation is looked at closely in a second run.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from fbp.autodiff import graph as g
from fbp.autodiff import value_and_grad
from fbp.autodiff.transforms import normalize_argnums
from fbp.verify.flags import FLAGS, flags_of
from fbp.verify.flow import flow
from fbp.verify.observe import observe
from fbp.verify.origin import Watched
from fbp.verify.report import Report
from fbp.verify.story import Result, Run, findings


def trace_nonfinite(fun: Callable, *args: Any, argnums: int | Sequence[int] = 0) -> Report:
    """Where the NaNs and infinities in a scalar function's value and gradient come from.

    One compiled pass over forward and backward, in loops, branches and vmap too, without
    callbacks. The first finding is the origin: an overflow, a pole or 0/0 whose numbers reach the
    value or a gradient, or an overflow that a division made a silent zero; with its line, the
    loops' iteration, the operands' values, the gradient's leaf, and the usual mend. What is left
    out by a `where`, or is zero after exp(-inf), is not reported unless it returns as a NaN.

    Args:
      fun: a function of arrays with a real scalar value.
      args: its arguments.
      argnums: with respect to which of them the gradient is taken.

    Raises what `fbp.value_and_grad` raises.

    >>> import jax.numpy as jnp
    >>> f = lambda x: jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0.0))
    >>> print(trace_nonfinite(f, jnp.array([0.0, 1.0])).findings[0].message)
    pole: the derivative of sqrt is infinite: div(0.5, 0) = inf at entry [0], ...
    """
    argnums = normalize_argnums(argnums)
    chosen = (argnums,) if isinstance(argnums, int) else argnums

    def named(path: tuple) -> Result:
        which, *rest = path
        if which.idx == 0:
            return Result("the value")
        number = chosen[0 if isinstance(argnums, int) else rest.pop(0).idx]
        leaf = f"args[{number % len(args)}]{jax.tree_util.keystr(tuple(rest))}"
        return Result(f"the gradient of {leaf}", leaf)

    wanted = frozenset(f"args[{i % len(args)}]" for i in chosen)
    return _trace(fun, value_and_grad(fun, argnums), args, named, wanted)


def trace_program(fun: Callable, *args: Any) -> Report:
    """The same for any function as it stands: a training step, or a gradient made by JAX.

    Nothing is differentiated; all that the function returns is looked at. Pass a training step
    the state before it: if the step gives its state away (`donate_argnums`), a copy of it.

    >>> import jax, jax.numpy as jnp
    >>> step = lambda w: w - 0.1 * jax.grad(jnp.log)(w)
    >>> print(trace_program(step, 0.0).findings[0].message)
    pole: div(1, 0) = inf. It reaches result. ...
    """

    def named(path: tuple) -> Result:
        return Result(f"result{jax.tree_util.keystr(path)}")

    return _trace(fun, fun, args, named, frozenset())


def _trace(
    subject: Callable,
    program: Callable,
    args: tuple,
    named: Callable[[tuple], Result],
    wanted: frozenset[str],
) -> Report:
    """Run a program, watched, and report on its results."""
    graph, out = g.stage(program, *args)

    @jax.jit
    def run(*leaves: Any) -> Any:
        outs, records = observe(graph, leaves, FLAGS)
        return flags_of(leaves), flags_of(outs), records

    paths, leaves = zip(*jax.tree_util.tree_leaves_with_path(args), strict=True)
    inputs, flags, records = jax.device_get(run(*leaves))
    seen = Run(
        Watched(flow(graph), records, inputs),
        leaves,
        tuple(f"args{jax.tree_util.keystr(path)}" for path in paths),
        tuple(named(path) for path, _ in jax.tree_util.tree_leaves_with_path(out)),
        flags,
        wanted,
    )
    places = seen.watched.flow.places.values()
    backward = sum(place.backward for place in places)
    return Report(
        f"finite numbers in {getattr(subject, '__name__', subject)}",
        findings=tuple(findings(seen)),
        checked=(f"{len(places)} equations, {backward} of them backward",),
    )
