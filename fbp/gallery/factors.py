"""A layer's product as matrices: y = sum over d of a[t, d] w[d, p], whatever its axes are.

    gradient of w [b, d, p] = sum over t of a[b, t, d] g[b, t, p]

where g is the cotangent of y; t counts the positions at which one example uses the weight (a
sequence, the windows of a convolution, the iterations of a loop); d are the entries that a product
sums over, p the outputs; b the groups and batched axes of the weight, each with a block of its own.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives as p
from jaxtyping import Array, Float

from fbp.gallery.uses import ParameterUse


class Factors(NamedTuple):
    """The two sides of a layer's gradient, each with the examples first: inputs a [n, b, t, d] and
    cotangents g [n, b, t, p]."""

    a: Float[Array, "n b t d"]
    g: Float[Array, "n b t p"]

    @property
    def positions(self) -> int:
        """Return the number of positions t."""
        return self.a.shape[2]

    def squared_norms(self) -> Float[Array, " n"]:
        """Return |gradient|^2 of each example by the cheaper way: from the two Gram matrices of the
        positions, t^2 (d + p), or from the gradient itself, t d p."""
        t, d, p = self.positions, self.a.shape[-1], self.g.shape[-1]
        if t == 1:
            blocks = jnp.sum(self.a**2, axis=(2, 3)) * jnp.sum(self.g**2, axis=(2, 3))
            return jnp.sum(blocks, axis=1)
        if t * (d + p) <= d * p:
            grams = [jnp.einsum("nbtd,nbsd->nbts", x, x) for x in self]
            return jnp.sum(grams[0] * grams[1], axis=(1, 2, 3))
        return jnp.sum(jnp.einsum("nbtd,nbtp->nbdp", *self) ** 2, axis=(1, 2, 3))


def factors(use: ParameterUse, other: Array, ct: Array) -> Factors:
    """Return the factors of a layer from its other operand and its output's cotangent, both with
    the examples first, then the iterations of the loops around."""
    pair = _of_product if use.site.eqn.primitive is p.dot_general_p else _of_convolution
    loops = use.origin.loops
    split = lambda x, ct: pair(use, x, ct)
    for _ in range(1 + len(loops)):
        split = jax.vmap(split)
    dtype = jnp.promote_types(other.dtype, ct.dtype)
    return Factors(*(_with_loops(x.astype(dtype), loops) for x in split(other, ct)))


def _with_loops(x: Array, loops: Sequence[Any]) -> Array:
    """Return an array [n, *loops, b, t, d] as [n, b, t, d]: a loop whose iterations have slices of
    their own counts with the blocks b, any other with the positions t."""
    numbers = range(1, 1 + len(loops))
    sliced = [i for i, loop in zip(numbers, loops, strict=True) if loop.sliced]
    shared = [i for i, loop in zip(numbers, loops, strict=True) if not loop.sliced]
    b, t, d = (1 + len(loops) + i for i in range(3))
    sizes = [math.prod(x.shape[i] for i in axes) for axes in ([*sliced, b], [*shared, t])]
    return x.transpose(0, *sliced, b, *shared, t, d).reshape(x.shape[0], *sizes, x.shape[d])


def _of_product(use: ParameterUse, x: Array, ct: Array) -> tuple[Array, Array]:
    """Return a [b, t, d] and g [b, t, p] of a `dot_general`."""
    contracting, batch = use.site.eqn.params["dimension_numbers"]
    of_x, nb = 1 - use.operand, len(batch[0])
    summed, batched = contracting[of_x], batch[of_x]
    free = [i for i in range(x.ndim) if i not in (*summed, *batched)]
    b, t = (math.prod(x.shape[i] for i in axes) for axes in (batched, free))
    a = x.transpose(*batched, *free, *summed).reshape(b, t, -1)
    if of_x == 1:  # the weight's axes come first in the output
        ct = ct.transpose(
            *range(nb), *range(ct.ndim - len(free), ct.ndim), *range(nb, ct.ndim - len(free))
        )
    return a, ct.reshape(b, t, math.prod(ct.shape[nb + len(free) :]))


def _of_convolution(use: ParameterUse, x: Array, ct: Array) -> tuple[Array, Array]:
    """Return a [b, t, d] and g [b, t, p] of a convolution: the windows of x, and ct. The groups of
    features are the blocks b; d goes over features, then window."""
    params = use.site.eqn.params
    x_spec, w_spec, y_spec = params["dimension_numbers"]
    weight: Any = use.site.eqn.invars[1].aval
    kernel, groups = weight.shape, params["feature_group_count"]
    x, ct = x.transpose(x_spec), ct.transpose(y_spec)
    holes = [d - 1 for d in params["lhs_dilation"]]
    edges = [(low, high, h) for (low, high), h in zip(params["padding"], holes, strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), *edges])
    spatial = zip(params["window_strides"], params["rhs_dilation"], strict=True)
    for i, (stride, dilation) in enumerate(spatial):
        starts = stride * jnp.arange(ct.shape[2 + i])[:, None]
        within = dilation * jnp.arange(kernel[w_spec[2 + i]])[None, :]
        x = jnp.take(x, starts + within, axis=2 + 2 * i)
    n, features, *rest = x.shape
    windows, sizes = math.prod(rest[::2]), math.prod(rest[1::2])
    count = len(rest) // 2
    a = x.reshape(n, groups, features // groups, *rest).transpose(
        1, 0, *range(3, 3 + 2 * count, 2), 2, *range(4, 3 + 2 * count, 2)
    )
    g = ct.reshape(n, groups, ct.shape[1] // groups, windows).transpose(1, 0, 3, 2)
    t = n * windows
    return (
        a.reshape(groups, t, features // groups * sizes),
        g.reshape(groups, t, ct.shape[1] // groups),
    )
