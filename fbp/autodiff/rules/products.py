"""Products of arrays.  y[b,m,n] = sum_k x[b,m,k] z[b,k,n]:

    ct_x[b,m,k] = sum_n ct[b,m,n] z[b,k,n]        ct_z[b,k,n] = sum_m x[b,m,k] ct[b,m,n]

where each letter stands for any number of dimensions, in any order.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.rule import Rules, transpose


class Factor(NamedTuple):
    """The dimensions of a factor: shared by both (b), summed over (k) and its own (m or n);
    also where its own dimensions stand in the product."""

    batch: tuple[int, ...]
    summed: tuple[int, ...]
    own: tuple[int, ...]
    own_in_product: tuple[int, ...]


def dimensions(lhs: Any, rhs: Any, dimension_numbers: Any) -> tuple[Factor, Factor]:
    """Sort each factor's dimensions by what becomes of them."""
    factors, position = [], len(dimension_numbers[1][0])
    for x, summed, batch in zip((lhs, rhs), *dimension_numbers, strict=True):
        own = tuple(i for i in range(x.ndim) if i not in batch and i not in summed)
        where = tuple(range(position, position + len(own)))
        factors.append(Factor(tuple(batch), tuple(summed), own, where))
        position += len(own)
    return factors[0], factors[1]


def multiply(ct: Any, x: Any, z: Any, of_x: Factor, of_z: Factor, **how: Any) -> Any:
    """The cotangent of x: ct times z, in the order that leaves least to transpose."""
    batch = tuple(range(len(of_x.batch)))
    ct_side, z_side = (of_z.own_in_product, batch), (of_z.own, of_z.batch)
    summed = tuple(of_x.summed[of_z.summed.index(i)] for i in sorted(of_z.summed))
    if is_sorted(z_first := (*of_x.batch, *summed, *of_x.own)):
        order, made = z_first, lax.dot_general(z, ct, pair(z_side, ct_side), **how)
    else:
        order = (*of_x.batch, *of_x.own, *summed)
        made = lax.dot_general(ct, z, pair(ct_side, z_side), **how)
    return as_dtype(made if is_sorted(order) else lax.transpose(made, np.argsort(order)), x.dtype)


def pair(lhs: Any, rhs: Any) -> Any:
    """Dimension numbers, from (summed, batch) of each side."""
    return tuple(zip(lhs, rhs, strict=True))


def is_sorted(order: Sequence[int]) -> bool:
    """Whether a permutation leaves all as it is."""
    return list(order) == sorted(order)


def as_dtype(ct: Any, dtype: Any) -> Any:
    """In the operand's dtype: what is accumulated in more precision is rounded once."""
    if ct.dtype == dtype:
        return ct
    if np.issubdtype(ct.dtype, np.complexfloating) and not np.issubdtype(dtype, np.complexfloating):
        ct = lax.real(ct)
    return lax.convert_element_type(ct, dtype)


def lhs(ct: Any, x: Any, z: Any, *, dimension_numbers, precision, preferred_element_type) -> Any:
    """The cotangent of the left factor."""
    of_x, of_z = dimensions(x, z, dimension_numbers)
    how = {"precision": precision, "preferred_element_type": preferred_element_type}
    return multiply(ct, x, z, of_x, of_z, **how)


def rhs(ct: Any, x: Any, z: Any, *, dimension_numbers, precision, preferred_element_type) -> Any:
    """The cotangent of the right factor."""
    of_x, of_z = dimensions(x, z, dimension_numbers)
    how = {"precision": precision, "preferred_element_type": preferred_element_type}
    return multiply(ct, z, x, of_z, of_x, **how)


RULES = Rules(transpose(p.dot_general_p, lhs, rhs))
