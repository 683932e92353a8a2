"""Jacobians in a `shard_map`: of each device's values with respect to values that devices share.

A pullback sums the devices' contributions to a shared value, so that a unit vector on all devices
gives the sum of their Jacobians. The Jacobian of each device is computed with a copy of the value
per device if the function does not communicate; else from one unit vector per device, zero on
the others.
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
from fbp.autodiff.table import RULES

COLLECTIVE = collectives.RULES.tagged("collective")


def device_copies(fun: Callable, primals: tuple, has_aux: bool) -> tuple:
    """Return the primals as one copy per device if `fun` does not communicate and all of its values
    vary along axes along which the primals do not."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return primals
    staged = flatten_function(fun, primals, has_aux, RULES)
    varying = {a.mat.varying for a in staged.value_avals}
    if len(varying) != 1 or _communicates(staged.graph.eqns):
        return primals
    (axes,) = varying
    copies = jax.tree.map(lambda x: _copy(x, axes), primals)
    try:
        flatten_function(fun, copies, has_aux, RULES)
    except ValueError:  # a function that says itself where a value begins to vary takes no copies
        return primals
    return copies


def _copy(x: Any, axes: frozenset[str]) -> Any:
    mat = jax.typeof(x).mat
    return lax.pcast(x, tuple(axes - mat.varying - mat.unreduced - mat.reduced), to="varying")


def _communicates(eqns: Sequence[g.JaxprEqn]) -> bool:
    return any(
        eqn.primitive in COLLECTIVE
        or any(_communicates(jaxpr.eqns) for jaxpr in jaxprs_in_params(eqn.params))
        for eqn in eqns
    )


def axes_apart(y: Any, primals: Any) -> tuple[str, ...]:
    """Return the manual axes along which a value varies, but something that it depends on may
    not."""
    varying = _varying(y)
    apart = [varying - _varying(x) for x in jax.tree.leaves(primals)]
    return tuple(name for name in _mesh_shape() if any(name in axes for axes in apart))


def by_device(y: Any, axes: Sequence[str]) -> Any:
    """Return the type that stacks the values of all devices along these axes."""
    sizes = [_mesh_shape()[name] for name in axes]
    return jax.ShapeDtypeStruct((*sizes, *y.shape), y.dtype)


def device_part(cts: Any, axes: Sequence[str]) -> Any:
    """Return each device's slice of a stack of cotangents by device."""
    for name in axes:
        cts = lax.dynamic_index_in_dim(cts, lax.axis_index(name), 1, keepdims=False)
    return cts


def device_rows(rows: Any, axes: Sequence[str], x: Any) -> Any:
    """Return each device's slice of the rows by device; their sum for an x that varies itself."""
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
