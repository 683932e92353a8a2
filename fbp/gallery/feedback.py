"""Feedback alignment and its kin: the error travels back through other weights than the forward
pass, or to each layer directly.

In a layer y = x W, backpropagation has ct_x = ct_y W'. Here W is replaced by B on this way alone;
the weight's own gradient x' ct_y is as ever. Weights are found by what is computed with them, so
that feedback weights are a tree like the parameters: `network.init(another_key)` draws one. Of its
leaves those are read from which a layer's weight comes; biases are not.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import primitives as p
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

import fbp
from fbp.autodiff.rule import Edit
from fbp.errors import InputError
from fbp.gallery.layers import ProductLayer, layer_edit


def feedback_alignment(feedback: PyTree, among: Any = None) -> Edit:
    """Return the edit by which the error travels back through fixed random weights: ct_x = ct_y B'.

    Args:
      feedback: the weights B, a tree like the parameters that are differentiated; draw it once.
      among: a selector, or the pattern of a scope, of the layers; None for all.

    Returns:
      An edit, for `fbp.RULES | edit`.

    Raises:
      fbp.InputError: when differentiating, `feedback` has other leaves than the parameters.

    Source: Lillicrap et al., Nature Communications 7 (2016), arXiv 1411.0247.

    >>> import fbp, jax.numpy as jnp
    >>> f = lambda ws: jnp.sum(jnp.ones((1, 1)) @ ws[0] @ ws[1])
    >>> ws, bs = [jnp.ones((1, 1))] * 2, [jnp.full((1, 1), 5.0)] * 2
    >>> print(fbp.grad(f, rules=fbp.RULES | feedback_alignment(bs))(ws)[0])
    [[5.]]
    """
    leaves = jax.tree.leaves(feedback)
    return layer_edit(
        "feedback_alignment", lambda layer: layer._replace(w=of_leaf(layer, leaves)), among
    )


def uniform_sign_feedback(scale: float | None = None, among: Any = None) -> Edit:
    """Return the edit by which feedback weights have the signs of the weights: B = scale sign(W).

    Args:
      scale: a number; None for sqrt(2 / (fan in + fan out)), the deviation of Xavier's weights.
        Liao et al. have 1, and normalize otherwise.
      among: a selector, or the pattern of a scope, of the layers; None for all.

    Returns:
      An edit, for `fbp.RULES | edit`.

    Source: uSF in Liao, Leibo and Poggio, arXiv 1510.05067.

    >>> import fbp, jax.numpy as jnp
    >>> f = lambda ws: jnp.sum(jnp.ones((1, 1)) @ ws[0] @ ws[1])
    >>> edited = fbp.RULES | uniform_sign_feedback(1.0)
    >>> print(fbp.grad(f, rules=edited)([jnp.ones((1, 1)), jnp.full((1, 1), -3.0)])[0])
    [[-1.]]
    """
    signs = lambda layer: jnp.sign(layer.w) * scale_of(layer, scale)
    return layer_edit("uniform_sign_feedback", lambda layer: layer._replace(w=signs(layer)), among)


def fixed_random_sign_feedback(magnitudes: PyTree, among: Any = None) -> Edit:
    """Return the edit by which feedback weights have fixed magnitudes, and the signs of the
    weights: B = |M| sign(W).

    Args:
      magnitudes: M, a tree like the parameters that are differentiated; draw it once.
      among: a selector, or the pattern of a scope, of the layers; None for all.

    Returns:
      An edit, for `fbp.RULES | edit`.

    Raises:
      fbp.InputError: when differentiating, `magnitudes` has other leaves than the parameters.

    Source: frSF in Liao, Leibo and Poggio, arXiv 1510.05067.

    >>> import fbp, jax.numpy as jnp
    >>> f = lambda ws: jnp.sum(jnp.ones((1, 1)) @ ws[0] @ ws[1])
    >>> ws = [jnp.ones((1, 1)), jnp.full((1, 1), -3.0)]
    >>> edited = fbp.RULES | fixed_random_sign_feedback([jnp.full((1, 1), 0.5)] * 2)
    >>> print(fbp.grad(f, rules=edited)(ws)[0])
    [[-0.5]]
    """
    leaves = jax.tree.leaves(magnitudes)
    signed = lambda layer: jnp.abs(of_leaf(layer, leaves)) * jnp.sign(layer.w)
    return layer_edit(
        "fixed_random_sign_feedback", lambda layer: layer._replace(w=signed(layer)), among
    )


def batch_random_sign_feedback(key: Array, scale: float | None = None, among: Any = None) -> Edit:
    """Return the edit by which feedback weights have the signs of the weights, and magnitudes that
    are drawn anew for each batch: B = scale M sign(W), with M uniform in [0, 1].

    Args:
      key: the key of this batch, which may be traced. A layer that is used again, also in the
        iterations of a loop, has the same M.
      scale: a number; None for sqrt(2 / (fan in + fan out)).
      among: a selector, or the pattern of a scope, of the layers; None for all.

    Returns:
      An edit, for `fbp.RULES | edit`.

    Source: brSF in Liao, Leibo and Poggio, arXiv 1510.05067.

    >>> import fbp, jax, jax.numpy as jnp
    >>> f = lambda ws: jnp.sum(jnp.ones((1, 1)) @ ws[0] @ ws[1])
    >>> edited = fbp.RULES | batch_random_sign_feedback(jax.random.key(0), scale=1.0)
    >>> bool(-1 <= fbp.grad(f, rules=edited)([jnp.ones((1, 1)), -jnp.ones((1, 1))])[0] <= 0)
    True
    """

    def signed(layer: ProductLayer) -> Array:
        leaf_key = jax.random.fold_in(key, layer.use.origin.leaf)
        for number in layer.stack:
            leaf_key = jax.random.fold_in(leaf_key, number)
        m = jax.random.uniform(leaf_key, layer.w.shape, layer.w.dtype)
        return scale_of(layer, scale) * m * jnp.sign(layer.w)

    return layer_edit(
        "batch_random_sign_feedback", lambda layer: layer._replace(w=signed(layer)), among
    )


def of_leaf(layer: ProductLayer, leaves: Sequence[Array]) -> Array:
    """Return what stands in the place of a layer's weight in another tree of leaves."""
    number = layer.use.origin.leaf
    if number >= len(leaves):
        raise InputError(
            f"the feedback weights have {len(leaves)} leaves, and a layer reads leaf {number} of "
            "the parameters: give a tree like the parameters."
        )
    weight = layer.replayed(jnp.asarray(leaves[number]))
    if weight.shape != layer.w.shape:
        raise InputError(
            f"a feedback weight has the shape {list(weight.shape)}, and the weight "
            f"{list(layer.w.shape)}, at {layer.use.site.source}: give a tree like the parameters."
        )
    return weight.astype(layer.w.dtype)


def scale_of(layer: ProductLayer, scale: float | None) -> Array:
    """Return a scale as an array; None for the deviation of Xavier's initialization."""
    if scale is None:
        weight, numbers = layer.w, layer.use.site.eqn.params["dimension_numbers"]
        if layer.use.site.eqn.primitive is p.dot_general_p:
            contracting, batch = (axes[layer.use.operand] for axes in numbers)
            fan_in = math.prod(weight.shape[i] for i in contracting)
            fan_out = weight.size // fan_in // math.prod(weight.shape[i] for i in batch)
        else:  # of a convolution a fan counts the window too
            fan_in, fan_out = (weight.size // weight.shape[i] for i in numbers.rhs_spec[:2])
        scale = math.sqrt(2 / (fan_in + fan_out))
    return jnp.asarray(scale, layer.w.dtype)


def direct_feedback_alignment(
    network: Callable[..., Array], loss: Callable[..., Any], feedback: Array | Sequence[ArrayLike]
) -> Callable[..., PyTree]:
    """Return the gradient by which each layer gets the error of the outputs directly.

    With the error e = d loss / d outputs [n, C], the input of each layer but the first has the
    cotangent ct_x = e B, with its own fixed B [C, *x.shape[1:]].

    Args:
      network: network(params, *inputs) returns outputs [n, C].
      loss: loss(outputs, *targets) returns a number.
      feedback: the matrices B, one for each layer but the first, in the order in which they run; or
        a key, of which they are drawn with the deviation sqrt(2 / (C + size of x)).

    Returns:
      A function of (params, inputs, targets), each of the two an array or a tuple of arrays, that
      returns a tree like params.

    Raises:
      fbp.InputError: when called, too few matrices, or one that does not fit.

    Source: Nøkland, Direct feedback alignment provides learning in deep neural networks, NeurIPS
    2016, arXiv 1609.01596.

    >>> import jax.numpy as jnp
    >>> network, loss = (lambda ws, x: x @ ws[0] @ ws[1]), (lambda z, y: jnp.sum(z - y))
    >>> dfa = direct_feedback_alignment(network, loss, [jnp.full((1, 1), 7.0)])
    >>> print(dfa([jnp.ones((1, 1))] * 2, jnp.ones((1, 1)), jnp.zeros((1, 1)))[0])
    [[7.]]
    """

    def gradient(params: PyTree, inputs: Any, targets: Any) -> PyTree:
        inputs, targets = (x if isinstance(x, tuple) else (x,) for x in (inputs, targets))
        run = lambda params: network(params, *inputs)
        error = fbp.grad(lambda outputs: loss(outputs, *targets))(run(params))
        direct = lambda layer: layer._replace(x_ct=_directly(layer, error, feedback))
        return fbp.vjp(run, params, rules=fbp.RULES | layer_edit("dfa", direct))[1](error)[0]

    return gradient


def _directly(layer: ProductLayer, error: Array, feedback: Array | Sequence[ArrayLike]) -> Array:
    """Return e B in the shape of a layer's input."""
    if layer.number == 0:
        return jnp.zeros_like(layer.x)
    shape = (error.shape[-1], *layer.x.shape[1:])
    if is_key(feedback):
        deviation = (2 / (shape[0] + math.prod(shape[1:]))) ** 0.5
        layer_key = jax.random.fold_in(feedback, layer.number)  # pyright: ignore[reportArgumentType]
        b = deviation * jax.random.normal(layer_key, shape, layer.x.dtype)
    elif layer.number - 1 < len(feedback):
        b = jnp.asarray(feedback[layer.number - 1], layer.x.dtype)
    else:
        raise InputError(f"layer {layer.number} has no feedback matrix: {len(feedback)} are given.")
    if b.shape != shape or error.shape[0] != layer.x.shape[0]:
        raise InputError(
            f"layer {layer.number} at {layer.use.site.source} has the input {list(layer.x.shape)} "
            f"and the error is {list(error.shape)}: a feedback matrix {list(shape)} is needed, "
            f"not {list(b.shape)}."
        )
    return jnp.tensordot(error.astype(layer.x.dtype), b, axes=1)


def is_key(x: Any) -> bool:
    """Test whether something is a key of `jax.random`."""
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def angles(a: PyTree, b: PyTree) -> PyTree:
    """Return the angles between the leaves of two gradients, in degrees.

    Below 90 a step along one is a descent of the other: feedback alignment learns by it.

    Args:
      a, b: trees of arrays of the same structure.

    Returns:
      A tree of angles; NaN where an array is zero.

    Source: Lillicrap et al., figure 2.

    >>> import jax.numpy as jnp
    >>> print(angles(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])))
    90.0
    """

    def angle(x: Array, y: Array) -> Array:
        cosine = jnp.vdot(x, y) / (jnp.linalg.norm(x.ravel()) * jnp.linalg.norm(y.ravel()))
        return jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1)))

    return jax.tree.map(angle, a, b)
