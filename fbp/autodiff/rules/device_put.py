"""Placement of values: a cotangent returns to the device and layout of its value."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.extend.core import primitives as p

from fbp.autodiff.avals import cotangent_type, struct
from fbp.autodiff.graph import primitive_of
from fbp.autodiff.rule import Cotangents, Rules, transpose, vjp_jointly


def constrain(ct: Any, _: Any, **params: Any) -> Any:
    """Pull back a sharding constraint: shard the cotangent as the value."""
    return p.sharding_constraint_p.bind(ct, **params)


def lay_out(ct: Any, _: Any, **params: Any) -> Any:
    """Pull back a layout constraint: lay the cotangent out as the value."""
    return layout_constraint_p.bind(ct, **params)


def reshard_back(ct: Any, x: Any, *, concrete_mesh: Any) -> Any:
    """Pull back a reshard: shard the cotangent as the operand, on the operand's mesh."""
    sharding = cotangent_type(struct(x)).sharding
    with jax.sharding.use_abstract_mesh(sharding.mesh):
        return reshard_p.bind(ct, dst_sharding=sharding, concrete_mesh=concrete_mesh)


def transfer_back(
    cts: Cotangents, _outs: Any, ins: Any, _needs_ct: Any, *, srcs: Sequence[Any]
) -> Cotangents:
    """Pull back a device_put: put the cotangent where the value was, if that is known."""
    return [
        None if ct is None else put_in(ct, x, src)
        for ct, x, src in zip(cts, ins, srcs, strict=True)
    ]


def put_in(ct: Any, x: Any, src: Any) -> Any:
    """Put the cotangent of x on the device of x, or at least in that kind of memory."""
    space = struct(x).memory_space
    src = space if src is None and struct(ct).memory_space != space else src
    return ct if src is None else jax.device_put(ct, src)


def _reshard_primitive() -> Any:
    mesh = jax.sharding.AbstractMesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.sharding.use_abstract_mesh(mesh):
        row = jax.ShapeDtypeStruct((1,), "float32")
        return primitive_of(lambda x: jax.sharding.reshard(x, jax.P("i")), row)


reshard_p = _reshard_primitive()
layout_constraint_p = primitive_of(
    lambda x: with_layout_constraint(x, Layout((0,))), jax.ShapeDtypeStruct((1,), "float32")
)

RULES = Rules(
    transpose(p.sharding_constraint_p, constrain),
    transpose(layout_constraint_p, lay_out),
    transpose(reshard_p, reshard_back),
    vjp_jointly(p.device_put_p, transfer_back),
).tag("moves")
