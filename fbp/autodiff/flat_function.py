"""A user's function as a program over the leaves of its arguments."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray

from fbp.autodiff import graph as g
from fbp.autodiff.avals import differentiable, user_cotangent
from fbp.autodiff.backprop import Evaluated
from fbp.autodiff.checks import check_result
from fbp.autodiff.eager import recorder
from fbp.autodiff.graph import Graph
from fbp.autodiff.rule import Rules

STAGING = (
    "Under jax.jit there are no values that Python's if, while and float() could see: use "
    "jax.lax.cond, jax.lax.scan, jax.lax.fori_loop or jnp.where, or call fbp.grad outside of jit."
)

NUMPY = (
    "NumPy's functions have no derivatives: use those of jax.numpy, or np.asarray(jax.lax."
    "stop_gradient(x)) for a value that is to be held constant."
)

NEEDS_A_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


@dataclass(frozen=True, eq=False)
class FlatFunction:
    """A staged function, the leaves to run it on, and the trees of its inputs and outputs.

    The first `len(value_avals)` outputs are the leaves of the value, the others the arrays of
    the auxiliary output.
    """

    name: str
    graph: Graph
    leaves: list[Any]
    in_tree: Any
    in_avals: tuple[Any, ...]
    out_tree: Any
    value_avals: tuple[Any, ...]
    aux_of: Callable[[Sequence[Any]], Any]
    has_values: bool
    """Whether Python can ask for values: outside of jit."""
    evaluated: Mapping[int, Evaluated]
    """What ran while the function was staged, since Python asked for a value."""

    @property
    def needs_ct(self) -> tuple[bool, ...]:
        """Say which inputs have a derivative."""
        return tuple(differentiable(a) for a in self.in_avals)

    @property
    def has_out_ct(self) -> tuple[bool, ...]:
        """Say which outputs have a cotangent: never the auxiliary ones."""
        values = tuple(differentiable(a) for a in self.value_avals)
        return (*values, *(False for _ in self.graph.outvars[len(values) :]))

    def split_outs(self, outs: Sequence[Any]) -> tuple[list[Any], Any]:
        """Return the leaves of the value, and the auxiliary output."""
        arrays = [x if isinstance(x, jax.Array) else jnp.asarray(x) for x in outs]
        num_values = len(self.value_avals)
        return arrays[:num_values], self.aux_of(arrays[num_values:])

    def cotangents(self, cts: Sequence[Any]) -> tuple:
        """Build the tree of cotangents: zeros where none arrived, float0 for integers and keys."""
        cotangents = [user_cotangent(ct, aval) for ct, aval in zip(cts, self.in_avals, strict=True)]
        return jax.tree.unflatten(self.in_tree, cotangents)

    def without_values(self) -> "FlatFunction":
        """Return the same function without the leaves, which keep arrays alive."""
        empty = Graph((), (), ())
        return replace(self, graph=empty, leaves=[], aux_of=tuple, evaluated={})


def flatten_function(
    fun: Callable, primals: tuple, has_aux: bool, rules: Rules, with_values: bool = True
) -> FlatFunction:
    """Trace a function of `primals`; with `has_aux` it returns a pair (value, aux). Python may ask
    for values if there are any, and it is not to be told that there are none."""
    leaves, in_tree = jax.tree.flatten(primals)
    leaves = [
        x if isinstance(x, jax.Array | jax.ShapeDtypeStruct | ShapedArray) else jnp.asarray(x)
        for x in leaves
    ]
    out_tree, num_values, aux_of = None, 0, tuple

    @functools.wraps(fun)
    def flat(*leaves):
        nonlocal out_tree, num_values, aux_of
        out = fun(*jax.tree.unflatten(in_tree, leaves))
        value, aux = _pair(out) if has_aux else (out, None)
        check_result(fun, value)
        values, out_tree = jax.tree.flatten(value)
        num_values = len(values)
        arrays, aux_of = _separate(aux)
        return [*values, *arrays]

    recording = recorder(rules.table, leaves, with_values)
    try:
        graph, _ = g.stage(flat, *leaves, recording=recording)
    except NEEDS_A_VALUE as e:
        if recording.around is None:
            e.add_note(STAGING)
        elif isinstance(e, jax.errors.TracerArrayConversionError):
            e.add_note(NUMPY)
        raise
    return FlatFunction(
        getattr(fun, "__name__", str(fun)),
        graph,
        leaves,
        in_tree,
        tuple(v.aval for v in graph.invars),
        out_tree,
        tuple(v.aval for v in graph.outvars[:num_values]),
        aux_of,
        recording.around is not None,
        recording.take_evaluated(),
    )


def _pair(out: Any) -> tuple[Any, Any]:
    if isinstance(out, Sequence) and len(out) == 2:
        return out[0], out[1]
    raise TypeError(
        "expected function with aux output to return a two-element tuple (value, aux), but got "
        f"type {type(out)} with value {out!r}"
    )


def _separate(aux: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """Return the arrays of a tree, and the tree as a function of them; other leaves stay in it."""
    leaves, tree = jax.tree.flatten(aux)
    is_array = [isinstance(x, jax.Array) for x in leaves]
    others = [None if array else x for x, array in zip(leaves, is_array, strict=True)]

    def rebuild(arrays: Sequence[Any]) -> Any:
        values = iter(arrays)
        merged = [next(values) if array else x for x, array in zip(others, is_array, strict=True)]
        return jax.tree.unflatten(tree, merged)

    return [x for x, array in zip(leaves, is_array, strict=True) if array], rebuild
