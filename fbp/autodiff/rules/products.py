"""Products of arrays.  y[b,m,n] = sum_k x[b,m,k] z[b,k,n]:

    ct_x[b,m,k] = sum_n ct[b,m,n] z[b,k,n]        ct_z[b,k,n] = sum_m x[b,m,k] ct[b,m,n]

where each letter stands for any number of dimensions, in any order.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.avals import as_dtype, partitioned, sharding_like
from fbp.autodiff.rule import Rules, transpose


class Factor(NamedTuple):
    """The dimensions of a factor: shared by both (b), summed over (k) and free (m or n); also the
    positions of its free dimensions in the product."""

    batch: tuple[int, ...]
    summed: tuple[int, ...]
    free: tuple[int, ...]
    free_in_product: tuple[int, ...]


def factor_dimensions(
    x: Any, z: Any, dimension_numbers: Any, groups: Sequence[int] = ()
) -> tuple[Factor, Factor]:
    """Sort each factor's dimensions by what becomes of them; leave out those of z that hold
    groups."""
    factors, position = [], len(dimension_numbers[1][0])
    sides = zip((x, z), *dimension_numbers, ((), groups), strict=True)
    for a, summed, batch, left_out in sides:
        gone = {*batch, *summed, *left_out}
        free = tuple(i for i in range(a.ndim) if i not in gone)
        factors.append(Factor(batch, summed, free, tuple(range(position, position + len(free)))))
        position += len(free)
    return factors[0], factors[1]


def factor_cotangent(
    ct: Any, z: Any, of_x: Factor, of_z: Factor, params: dict[str, Any], x: Any = None
) -> Any:
    """Return the cotangent of x: ct times z, in the order that leaves least to transpose."""
    sharding = None if x is None else sharding_like(x)
    how = {k: params[k] for k in ("precision", "preferred_element_type")}
    batch = tuple(range(len(of_x.batch)))
    ct_side, z_side = (of_z.free_in_product, batch), (of_z.free, of_z.batch)
    summed = tuple(of_x.summed[of_z.summed.index(i)] for i in sorted(of_z.summed))
    if is_sorted((*of_x.batch, *summed, *of_x.free)):
        return lax.dot_general(z, ct, pair(z_side, ct_side), **how, out_sharding=sharding)
    order = (*of_x.batch, *of_x.free, *summed)
    sharding = sharding and partitioned(sharding, [sharding.spec.partitions[i] for i in order])
    factors = lax.dot_general(ct, z, pair(ct_side, z_side), **how, out_sharding=sharding)
    return factors if is_sorted(order) else lax.transpose(factors, np.argsort(order))


def pair(lhs: Any, rhs: Any) -> Any:
    """Return dimension numbers from the summed and the batch dimensions of each side."""
    return tuple(zip(lhs, rhs, strict=True))


def is_sorted(order: Sequence[int]) -> bool:
    """Test whether a permutation is the identity."""
    return list(order) == sorted(order)


def left_cotangent(ct: Any, x: Any, z: Any, **params: Any) -> Any:
    """Pull back y = x z to x."""
    of_x, of_z = factor_dimensions(x, z, params["dimension_numbers"])
    return as_dtype(factor_cotangent(ct, z, of_x, of_z, params, x), x.dtype)


def right_cotangent(ct: Any, x: Any, z: Any, **params: Any) -> Any:
    """Pull back y = x z to z."""
    of_x, of_z = factor_dimensions(x, z, params["dimension_numbers"])
    return as_dtype(factor_cotangent(ct, x, of_z, of_x, params, z), z.dtype)


RULES = Rules(transpose(p.dot_general_p, left_cotangent, right_cotangent)).tag(
    "analytic", "forward_mode", "sums"
)
