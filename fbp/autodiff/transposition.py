"""The transpose of a linear function: the backward pass, without a forward one."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
from jax.core import ShapedArray
from jax.tree_util import Partial

from fbp.autodiff.avals import cotangent_type, differentiable
from fbp.autodiff.backprop import forward
from fbp.autodiff.checks import check_callable
from fbp.autodiff.edits.opened import opened
from fbp.autodiff.flat_function import FlatFunction, flatten_function
from fbp.autodiff.graph import Graph
from fbp.autodiff.rule import Rules
from fbp.autodiff.table import RULES
from fbp.autodiff.undefined import reads_linear_input, undefined


def linear_transpose(fun: Callable, *primals: Any, rules: Rules = RULES) -> Partial:
    """Return the transpose of a linear function A: ct -> A' ct, a tuple with one entry per primal.

    Args:
      fun: a linear function of arrays and pytrees.
      *primals: its arguments, or anything with their shapes and dtypes, which alone are read.
      rules: the table of rules to transpose by.

    Returns:
      A function from a cotangent of the type of the value to one cotangent per primal; like
      JAX's, it is a pytree, whose leaves are the constants that `fun` closes over.

    Raises:
      TypeError: inputs or outputs are not floating or complex; when called, for a cotangent that
        does not fit, and, with the line, for a function that is not linear.
      fbp.MissingRule: when called, for a primitive without a rule.

    >>> import fbp, jax, jax.numpy as jnp
    >>> x = jax.ShapeDtypeStruct((2,), "float32")
    >>> print(*fbp.linear_transpose(lambda x: 3 * x[0], x)(1.0))
    [3. 0.]
    """
    check_callable(fun)
    types = jax.tree.map(_typed, primals)
    staged = flatten_function(fun, types, False, rules, with_values=False)
    if not all(differentiable(a) for a in (*staged.in_avals, *staged.value_avals)):
        raise TypeError(
            "linear_transpose only supports [float or complex] -> [float or complex] functions, "
            f"but got {[str(a.dtype) for a in staged.in_avals]} -> "
            f"{[str(a.dtype) for a in staged.value_avals]}."
        )
    graph = replace(staged.graph, consts=())
    consts = list(staged.graph.consts)
    return Partial(functools.partial(_transposed, staged.without_values(), graph, rules), consts)


def _typed(x: Any) -> Any:
    """Return an array or a number as it is, and the type of what has a shape and a dtype alone."""
    is_known = isinstance(x, jax.Array | jax.ShapeDtypeStruct | ShapedArray)
    return x if is_known or not hasattr(x, "dtype") else jax.ShapeDtypeStruct(x.shape, x.dtype)


def _transposed(
    staged: FlatFunction, graph: Graph, rules: Rules, consts: list[Any], ct: Any
) -> tuple:
    """Run the transpose of a function whose program is `graph`, without its constants."""
    cts = check_cotangents(staged, ct)
    ins = undefined(graph.invars)
    has_out_ct = tuple(True for _ in graph.outvars)
    program = opened(rules, replace(staged, graph=replace(graph, consts=tuple(consts))))

    def run(*cts: Any) -> list[Any]:
        _, pullback = forward(program.rules, program.graph, ins, staged.needs_ct, has_out_ct)
        program.check_reached()
        return pullback(list(cts))

    try:
        return staged.cotangents(program.cleared(run, *cts))
    except (TypeError, AttributeError) as error:
        if not reads_linear_input(error):
            raise
        raise TypeError(
            f"linear_transpose of {staged.name}, which is not linear in its arguments: an "
            f"operation reads the value of one of them. ({error})"
        ) from error


def check_cotangents(staged: FlatFunction, ct: Any) -> list[Any]:
    """Return the leaves of a cotangent of the value of a function, or raise if it does not fit."""
    cts, tree = jax.tree.flatten(ct)
    if tree != staged.out_tree:
        raise TypeError(
            "cotangent tree does not match function output, expected "
            f"{staged.out_tree} but got {tree}"
        )
    got = [jax.typeof(x) for x in cts]
    needs_ct = [cotangent_type(a) for a in staged.value_avals]
    if [(a.shape, a.dtype) for a in got] != [(a.shape, a.dtype) for a in needs_ct]:
        raise TypeError(
            f"cotangent type does not match function output, expected {needs_ct} but got {got}"
        )
    return cts
