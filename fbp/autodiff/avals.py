"""Types of values, of their cotangents and of their shards; zeros and sums of cotangents."""

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import (
    primitives,
)
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fbp.autodiff.compat import get_axis_env


def as_array(x: Any) -> Any:
    """Convert a number, such as a literal of a program, to an array; return anything else as it
    is."""
    return x if hasattr(x, "shape") else jnp.asarray(x)


def as_dtype(x: Any, dtype: Any) -> Any:
    """Convert to a dtype, by the real part from complex to real numbers."""
    if x.dtype == dtype:
        return x
    if is_complex(x.dtype) and not is_complex(dtype):
        x = jax.lax.real(x)
    return jax.lax.convert_element_type(x, dtype)


@functools.cache
def is_inexact(dtype: Any) -> bool:
    """Test whether a dtype is floating or complex, bfloat16 and float8 included."""
    return jnp.issubdtype(dtype, np.inexact)


@functools.cache
def has_tangent(dtype: Any) -> bool:
    """Test whether a dtype has a derivative: floating, complex, and the extended ones that say
    so."""
    return is_inexact(dtype) or (is_extended(dtype) and tangent_dtype(dtype) != jax.dtypes.float0)


@functools.cache
def is_extended(dtype: Any) -> bool:
    """Test whether a dtype is one of JAX's extended ones, such as that of PRNG keys, which bring
    rules of their own."""
    return jnp.issubdtype(dtype, jax.dtypes.extended)


@functools.cache
def tangent_dtype(dtype: Any) -> Any:
    """Return the dtype of the tangents and cotangents of a dtype."""
    return ShapedArray((), dtype).to_tangent_aval().dtype


@functools.cache
def is_complex(dtype: Any) -> bool:
    """Test whether a dtype is complex."""
    return jnp.issubdtype(dtype, np.complexfloating)


def differentiable(aval: Any) -> bool:
    """Test whether a value of this type can carry a cotangent."""
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and has_tangent(dtype)


def is_plain_real(x: Any) -> bool:
    """Test whether a value is a number or an array of real numbers, on no mesh with explicit
    axes."""
    if not isinstance(x, jax.Array | np.ndarray | np.generic | float):
        return False
    dtype = jax.typeof(x).dtype
    return is_inexact(dtype) and not is_complex(dtype) and sharding_like(x) is None


def struct(x: Any) -> Any:
    """Return the type of a value as an argument that `stage` can trace with, its sharding and the
    manual axes along which it varies included."""
    return getattr(x, "aval", None) or (x if hasattr(x, "sharding") else jax.typeof(x))


def cotangent_type(aval: Any) -> Any:
    """Return the type of a value's cotangent: a value that is still to be summed over devices has a
    cotangent that is already summed, and vice versa."""
    return aval.to_ct_aval().update(weak_type=False)


def sharding_like(x: Any) -> Any:
    """Return the sharding of the cotangent of x if types carry one: on a mesh with explicit
    axes."""
    aval = jax.typeof(x) if isinstance(x, jax.Array) else struct(x)
    sharding = getattr(aval, "sharding", None)
    if sharding is None or AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    return cotangent_type(aval).sharding


def varying(x: Any) -> frozenset[str]:
    """Return the manual mesh axes along which a value, or a value of this type, varies."""
    return frozenset(struct(x).mat.varying)


def axes_of_vmaps() -> frozenset[str]:
    """Return the mesh axes over which the enclosing vmaps are divided (`spmd_axis_name`)."""
    return frozenset(get_axis_env().spmd_axis_names)


def partitioned(sharding: Any, partitions: Sequence[Any]) -> Any:
    """Return a sharding on the same mesh with other dimensions divided; None stays None."""
    if sharding is None:
        return None
    spec = sharding.spec
    spec = PartitionSpec(*partitions, unreduced=spec.unreduced, reduced=spec.reduced)
    return sharding.update(spec=spec)


def sharded_like(ct: Any, x: Any) -> Any:
    """Reshard the cotangent of x as x is, on the mesh of x. A value without a mesh belongs to the
    one in force, even if an `auto_axes` or `explicit_axes` inside uses it on another."""
    mesh, mesh_of_ct = _mesh(struct(x)), _mesh(struct(ct))
    if mesh.empty and mesh_of_ct.empty:
        return ct
    sharding = sharding_like(x)
    mesh = jax.sharding.get_abstract_mesh() if mesh.empty else mesh
    if _in_other_terms(mesh_of_ct, mesh):
        sharding = sharding or NamedSharding(mesh, PartitionSpec())
    elif sharding is None or jax.typeof(ct).sharding == sharding:
        return ct
    with terms_of(mesh):
        return jax.sharding.reshard(ct, sharding)


def add_cotangents(a: Any, b: Any) -> Any:
    """Add two cotangents of one value, on the mesh of the first."""
    mesh = _mesh(jax.typeof(a))
    if _in_other_terms(_mesh(jax.typeof(b)), mesh):
        b = jax.sharding.reshard(b, jax.typeof(a).sharding)
    with terms_of(mesh):
        return primitives.add_jaxvals_p.bind(a, b)


def terms_of(mesh: Any) -> AbstractContextManager:
    """Enter the mesh in which values of this mesh may be used, if the mesh in force is another."""
    other = _in_other_terms(mesh, jax.sharding.get_abstract_mesh())
    return jax.sharding.use_abstract_mesh(mesh) if other else nullcontext()


def _in_other_terms(mesh: Any, other: Any) -> bool:
    """Test whether values of two meshes cannot meet in one operation: those without a mesh, or with
    automatic axes alone on both sides, can."""
    if mesh.empty or other.empty or mesh == other:
        return False
    return not (mesh.are_all_axes_auto and other.are_all_axes_auto)


def _mesh(aval: Any) -> Any:
    """Return the mesh of a type; key types and references have one as arrays do."""
    return aval.sharding.mesh


def stacked(aval: Any, length: int) -> Any:
    """Return the type of an array that stacks `length` values of this type."""
    sharding = partitioned(aval.sharding, (None, *aval.sharding.spec.partitions))
    return aval.update(shape=(length, *aval.shape), weak_type=False, sharding=sharding)


def full(aval: Any, value: float) -> Any:
    """Return an array of this type filled with one number; where an extended dtype has a
    derivative, 0 is the neutral element of its own addition."""
    mesh, manual = aval.sharding.mesh, aval.mat
    if aval.memory_space != jax.memory.Space.Device:
        on_device = aval.update(memory_space=jax.memory.Space.Device)
        return jax.device_put(full(on_device, value), aval.memory_space)
    sharding = None if mesh.empty else aval.sharding
    with terms_of(mesh):
        if value == 0 and is_extended(aval.dtype) and has_tangent(aval.dtype):
            zero = aval.dtype._rules.zero(aval.dtype)
            x = jax.lax.broadcast(zero, aval.shape, out_sharding=sharding)
        else:
            x = jax.lax.full(aval.shape, value, aval.dtype, sharding=sharding)
    if mesh.empty and manual.empty:
        return x
    x = jax.lax.pcast(x, (*manual.varying, *manual.unreduced), to="varying")
    x = jax.lax.pcast(x, tuple(manual.unreduced), to="unreduced")
    return jax.lax.pcast(x, tuple(manual.reduced), to="reduced")


def varying_like(ct: Any, aval: Any) -> Any:
    """Convert a cotangent that may be the same on all devices to one that varies as this type
    does."""
    expected, got = cotangent_type(aval).mat, jax.typeof(ct).mat
    if expected == got:
        return ct
    same = expected.varying - got.varying - got.unreduced - got.reduced
    ct = jax.lax.pcast(ct, tuple(same), to="varying")
    ct = jax.lax.pcast(ct, tuple(expected.unreduced - got.unreduced), to="unreduced")
    return jax.lax.pcast(ct, tuple(expected.reduced - got.reduced), to="reduced")


def num_bytes(aval: Any) -> int:
    """Return the size in bytes of a value of this type."""
    return aval.size * getattr(aval.dtype, "itemsize", 8)


def user_cotangent(ct: Any, aval: Any) -> Any:
    """Return a cotangent as the user gets it: weakly typed as its primal is, zeros for None."""
    ct = zeros_cotangent(aval) if ct is None else ct
    weak = getattr(aval, "weak_type", False) and differentiable(aval)
    if weak == getattr(ct, "weak_type", False):
        return ct
    return primitives.convert_element_type_p.bind(
        ct, new_dtype=aval.dtype, weak_type=weak, sharding=None
    )


def zeros_cotangent(aval: Any) -> Any:
    """Return a cotangent of zeros for a value of this type: float0 for integers and keys."""
    if differentiable(aval):
        return full(cotangent_type(aval), 0)
    return np.zeros(aval.shape, jax.dtypes.float0)


def accumulate(a: Any, b: Any) -> Any:
    """Add two cotangents of one value, by its own addition for an extended dtype."""
    dtype = getattr(a, "dtype", None)
    if dtype is not None and is_extended(dtype):
        return dtype._rules.add(dtype, a, b)
    return add_cotangents(a, b)


def zeros(x: Any) -> Any:
    """Return zeros of the type of x, a value or a type."""
    return full(struct(x), 0)
