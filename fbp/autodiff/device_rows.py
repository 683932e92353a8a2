"""Jacobians in a `shard_map`: of what each device computes, in what all devices share.

A pullback sums what the devices send to a value that they share, so that a unit vector on all of
them gives the sum of their Jacobians. Each device's own: with the value as a copy of its own, where
nothing is communicated; else from one unit vector per device, which is zero on the others.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import jaxprs_in_params

from fbp.autodiff import graph as g
from fbp.autodiff.flat_function import flatten_function
from fbp.autodiff.rules import collectives

CASTS = frozenset({collectives.pvary_p, collectives.preduced_p, collectives.reduced_vary_cast_p})


def device_copies(fun: Callable, primals: tuple, has_aux: bool) -> tuple:
    """The primals, as copies of each device's own if `fun` is without communication, and all of
    its values vary along the axes along which the primals do not."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return primals
    staged = flatten_function(fun, primals, has_aux)
    varying = {a.mat.varying for a in staged.value_avals}
    if len(varying) != 1 or _communicates(staged.graph.eqns):
        return primals
    (axes,) = varying
    copies = jax.tree.map(lambda x: _copy(x, axes), primals)
    try:
        flatten_function(fun, copies, has_aux)
    except ValueError:  # a function that says itself where a value begins to vary takes no copies
        return primals
    return copies


def _copy(x: Any, axes: frozenset[str]) -> Any:
    mat = jax.typeof(x).mat
    return lax.pcast(x, tuple(axes - mat.varying - mat.unreduced - mat.reduced), to="varying")


def _communicates(eqns: Sequence[g.JaxprEqn]) -> bool:
    return any(
        (eqn.primitive in collectives.RULES and eqn.primitive not in CASTS)
        or any(_communicates(jaxpr.eqns) for jaxpr in jaxprs_in_params(eqn.params))
        for eqn in eqns
    )


def axes_apart(y: Any, primals: Any) -> tuple[str, ...]:
    """The manual axes along which a value varies, but something that it depends on may not."""
    varying = _varying(y)
    apart = [varying - _varying(x) for x in jax.tree.leaves(primals)]
    return tuple(name for name in _mesh_shape() if any(name in axes for axes in apart))


def by_device(y: Any, axes: Sequence[str]) -> Any:
    """The type of the values of all devices along these axes."""
    sizes = [_mesh_shape()[name] for name in axes]
    return jax.ShapeDtypeStruct((*sizes, *y.shape), y.dtype)


def device_part(cts: Any, axes: Sequence[str]) -> Any:
    """Of a stack of cotangents by device, each device's own."""
    for name in axes:
        cts = lax.dynamic_index_in_dim(cts, lax.axis_index(name), 1, keepdims=False)
    return cts


def device_rows(rows: Any, axes: Sequence[str], x: Any) -> Any:
    """Of the rows by device, each device's own; their sum for an x that varies itself."""
    for name in axes:
        if rows.dtype == jax.dtypes.float0:
            rows = rows[0]
        elif name in _varying(x):
            rows = jnp.sum(rows, 0)
        else:
            rows = lax.dynamic_index_in_dim(rows, lax.axis_index(name), 0, keepdims=False)
    return rows


def _varying(x: Any) -> frozenset[str]:
    return jax.typeof(x).mat.varying


def _mesh_shape() -> dict[str, int]:
    return dict(jax.sharding.get_abstract_mesh().shape)
