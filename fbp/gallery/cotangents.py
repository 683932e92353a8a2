"""Other cotangents of layers: sparse, of few bits, reversed, clipped."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array

import fbp
from fbp.autodiff.rule import Edit
from fbp.gallery.layers import layer_edit, layers

Change = Callable[[Array, Any, Array], Array]


def meprop(k: int, among: Any = None) -> Edit:
    """Return the edit by which, of the cotangent of a layer's output, the k largest features of
    each example (and position) are left, by absolute value; of equal ones the first.

    Input and weight get their gradients from these; a bias that is added afterwards has its own, as
    in the authors' code.

    Args:
      k: the number of features.
      among: a selector, or the pattern of a scope, of the layers; None for all.

    Returns:
      An edit, for `fbp.RULES | edit`.

    Source: Sun, Ren, Ma and Wang, meProp, ICML 2017, arXiv 1706.06197.

    >>> import fbp, jax.numpy as jnp
    >>> f = lambda w: jnp.sum(jnp.array([[1.0, -3.0]]) * (jnp.ones((1, 1)) @ w))
    >>> print(fbp.grad(f, rules=fbp.RULES | meprop(1))(jnp.ones((1, 2))))
    [[ 0. -3.]]
    """
    largest = fbp.edit.top_k(k).function
    return layer_edit("meprop", lambda x: x._replace(ct=x.on_features(largest)), among)


def gradient_reversal(site: Any, factor: float = 1.0) -> Edit:
    """Return the edit by which the cotangent that arrives at a site is reversed: ct -> -factor ct.

    Args:
      site: a selector, or the pattern of a scope: the features that shall not tell domains apart.
      factor: lambda of the paper.

    Returns:
      An edit, for `fbp.RULES | edit`.

    Source: Ganin et al., arXiv 1505.07818.

    >>> import fbp, jax.numpy as jnp
    >>> reversed_ = gradient_reversal(fbp.at.primitive("sin"), 2.0)
    >>> print(fbp.grad(jnp.sin, rules=fbp.RULES | reversed_)(0.0))
    -2.0
    """
    return fbp.edit.cotangent(site, fbp.edit.scale(-factor))


def clip_by_layer(limit: float, among: Any = None) -> Edit:
    """Return the edit by which the cotangent of each layer's output is clipped to a norm, on its
    way: ct -> ct min(1, limit / |ct|), with the norm over the whole batch.

    Args:
      limit: the largest norm.
      among: a selector, or the pattern of a scope, of the layers; None for all.

    Returns:
      An edit, for `fbp.RULES | edit`.

    Source: Pascanu, Mikolov and Bengio, arXiv 1211.5063, whose clipping is of the whole gradient;
    on the way back Graves, arXiv 1308.0850, by entry.

    >>> import fbp, jax.numpy as jnp
    >>> f = lambda w: 5.0 * jnp.sum(jnp.ones((1, 1)) @ w)
    >>> print(fbp.grad(f, rules=fbp.RULES | clip_by_layer(2.0))(jnp.ones((1, 1))))
    [[2.]]
    """
    return fbp.edit.cotangent(layers(among), fbp.edit.clip_norm(limit))


def quantized_backward(bits: int, among: Any = None) -> Edit:
    """Return the edit by which cotangents of layers' outputs are rounded to integers of few bits,
    times a step, up or down at random such that the mean is right.

        step = max |ct| / (2^(bits - 1) - 1)        ct -> step floor(ct / step + u),  u ~ U[0, 1)

    Args:
      bits: at least 2; one is the sign.
      among: a selector, or the pattern of a scope, of the layers; None for all.

    Returns:
      An edit, for `(fbp.RULES | edit).with_key(key)`.

    Source: Gupta et al., arXiv 1502.02551, for the rounding; Banner et al., arXiv 1805.11046.

    >>> import fbp, jax, jax.numpy as jnp
    >>> f = lambda w: jnp.sum(jnp.array([[3.0, -7.0]]) * (jnp.ones((1, 1)) @ w))
    >>> rules = (fbp.RULES | quantized_backward(4)).with_key(jax.random.key(0))
    >>> print(fbp.grad(f, rules=rules)(jnp.ones((1, 2))))
    [[ 3. -7.]]
    """

    def rounded(ct: Array, _: Any, key: Array) -> Array:
        largest = jnp.max(jnp.abs(ct), initial=0)
        step = jnp.where(largest > 0, largest, 1) / (2 ** (bits - 1) - 1)
        return jnp.floor(ct / step + jax.random.uniform(key, ct.shape, ct.dtype)) * step

    return fbp.edit.cotangent(layers(among), rounded)


def fp8_backward(dtype: DTypeLike = "float8_e5m2", among: Any = None) -> Edit:
    """Return the edit by which cotangents of layers' outputs are rounded to 8-bit floats, up or
    down at random such that the mean is right; beyond the largest float they are that one.

        ct -> q floor(ct / q + u),  u ~ U[0, 1)        q = the distance of neighbours at ct

    Args:
      dtype: a floating dtype of few bits.
      among: a selector, or the pattern of a scope, of the layers; None for all.

    Returns:
      An edit, for `(fbp.RULES | edit).with_key(key)`. Rounding to the nearest is
      `fbp.edit.cotangent(layers(), fbp.edit.cast("float8_e5m2"))`.

    Source: Wang et al., arXiv 1812.08011; the formats Micikevicius et al., arXiv 2209.05433.

    >>> import fbp, jax, jax.numpy as jnp
    >>> f = lambda w: jnp.sum(jnp.array([[1.25, -7.0]]) * (jnp.ones((1, 1)) @ w))
    >>> rules = (fbp.RULES | fp8_backward()).with_key(jax.random.key(0))
    >>> print(fbp.grad(f, rules=rules)(jnp.ones((1, 2))))
    [[ 1.25 -7.  ]]
    """
    info = jnp.finfo(dtype)

    def rounded(ct: Array, _: Any, key: Array) -> Array:
        exponent = jnp.maximum(jnp.frexp(ct)[1] - 1, int(info.minexp)) - info.nmant
        q = jnp.ldexp(jnp.ones_like(ct), exponent)
        y = jnp.floor(ct / q + jax.random.uniform(key, ct.shape, ct.dtype)) * q
        return jnp.clip(y, float(info.min), float(info.max))

    return fbp.edit.cotangent(layers(among), rounded)
