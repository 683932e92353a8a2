"""Ragged products: a dimension of x is divided into groups, whose sizes are data.

Where g is the group that an index belongs to, there are three products:

    y[b,m,n] = sum_k x[b,m,k] z[g(m),b,k,n]         a free dimension of x is ragged
    y[g,b,m,n] = sum_(k in g) x[b,m,k] z[b,k,n]     a summed dimension is
    y[b,m,n] = sum_k x[b,m,k] z[b,k,n]              a batch dimension is: groups change nothing

The cotangents of the first are a product of the first kind and one of the second, those of
the second are two of the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import lax
from jax.lax import RaggedDotDimensionNumbers

from fbp.autodiff.avals import as_dtype
from fbp.autodiff.graph import primitive_of
from fbp.autodiff.rule import Rules, transpose
from fbp.autodiff.rules import products
from fbp.autodiff.rules.products import Factor, factor_dimensions, pair


@dataclass(frozen=True)
class Ragged:
    """The factors, the ragged dimension of x, the dimension of z that holds the groups (only in the
    first kind), the groups' sizes, and how to multiply."""

    of_x: Factor
    of_z: Factor
    ragged: int
    groups: tuple[int, ...]
    sizes: Any
    how: dict[str, Any]

    @property
    def batch(self) -> tuple[int, ...]:
        """Return the product's batch dimensions."""
        first = self.ragged in self.of_x.summed
        return tuple(range(first, first + len(self.of_x.batch)))

    def multiply(
        self, x: Any, z: Any, sides: Any, ragged: int, groups: Sequence[int], order: Sequence[int]
    ) -> Any:
        """Multiply over the same groups, and sort the dimensions by `order`."""
        numbers = RaggedDotDimensionNumbers(pair(*sides), (ragged,), groups)
        out = lax.ragged_dot_general(x, z, self.sizes, numbers, **self.how)
        return lax.transpose(out, np.argsort(order))


def read_ragged(x: Any, z: Any, sizes: Any, params: dict[str, Any]) -> Ragged:
    """Read a ragged product from its parameters."""
    numbers = params["ragged_dot_dimension_numbers"]
    (ragged,), groups = numbers.lhs_ragged_dimensions, numbers.rhs_group_dimensions
    of_x, of_z = factor_dimensions(x, z, numbers.dot_dimension_numbers, groups)
    if ragged in of_x.summed:  # the groups stand first in the product
        of_x, of_z = (
            f._replace(free_in_product=tuple(i + 1 for i in f.free_in_product))
            for f in (of_x, of_z)
        )
    how = {k: params[k] for k in ("precision", "preferred_element_type")}
    return Ragged(of_x, of_z, ragged, groups, sizes, how)


def ragged_factor_cotangent(ct: Any, x: Any, z: Any, sizes: Any, **params: Any) -> Any:
    """Pull back a ragged product to the ragged factor."""
    use = read_ragged(x, z, sizes, params)
    of_x, of_z = use.of_x, use.of_z
    if use.ragged in of_x.batch:
        return products.left_cotangent(ct, x, z, **without_groups(params))
    if use.ragged in of_x.summed:
        return as_dtype(by_group(use, z, of_z, ct, of_x), x.dtype)
    sides = (of_z.free_in_product, use.batch), (of_z.free, of_z.batch)
    summed = tuple(of_x.summed[of_z.summed.index(i)] for i in sorted(of_z.summed))
    ragged_dim = of_x.free_in_product[of_x.free.index(use.ragged)]
    order = (*of_x.batch, *of_x.free, *summed)
    return as_dtype(use.multiply(ct, z, sides, ragged_dim, use.groups, order), x.dtype)


def other_factor_cotangent(ct: Any, x: Any, z: Any, sizes: Any, **params: Any) -> Any:
    """Pull back a ragged product to the other factor."""
    use = read_ragged(x, z, sizes, params)
    of_x, of_z = use.of_x, use.of_z
    if use.ragged in of_x.batch:
        return products.right_cotangent(ct, x, z, **without_groups(params))
    if use.ragged in of_x.summed:
        return as_dtype(by_group(use, x, of_x, ct, of_z), z.dtype)
    sides = (of_x.free, of_x.batch), (of_x.free_in_product, use.batch)
    summed = tuple(of_z.summed[of_x.summed.index(i)] for i in sorted(of_x.summed))
    order = (*use.groups, *of_z.batch, *summed, *of_z.free)
    return as_dtype(use.multiply(x, ct, sides, use.ragged, (), order), z.dtype)


def by_group(use: Ragged, a: Any, of_a: Factor, ct: Any, of_other: Factor) -> Any:
    """Pull back the second kind to one factor, from `a`, the other: its ragged dimension becomes
    free."""
    a = lax.transpose(a, (*of_a.batch, *of_a.summed, *of_a.free))
    shared, summed = len(of_a.batch), len(of_a.summed)
    free = tuple(range(shared + summed, a.ndim))
    sides = (free, tuple(range(shared))), (of_a.free_in_product, use.batch)
    order = (*of_other.batch, *of_other.summed, *of_other.free)
    ragged_dim = shared + use.of_x.summed.index(use.ragged)
    return use.multiply(a, ct, sides, ragged_dim, (0,), order)


def without_groups(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of the product without groups."""
    numbers = params["ragged_dot_dimension_numbers"]
    return params | {"dimension_numbers": numbers.dot_dimension_numbers}


ONE_GROUP = RaggedDotDimensionNumbers((((1,), (1,)), ((), ())), (0,), (0,))
RAGGED_DOT_GENERAL = primitive_of(
    lambda x, z, sizes: lax.ragged_dot_general(x, z, sizes, ONE_GROUP),
    np.ones((1, 1), np.float32),
    np.ones((1, 1, 1), np.float32),
    np.ones(1, np.int32),
)

RULES = Rules(transpose(RAGGED_DOT_GENERAL, ragged_factor_cotangent, other_factor_cotangent, None))
