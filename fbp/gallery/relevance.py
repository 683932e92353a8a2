"""Layer-wise relevance propagation (LRP): the output is shared out among the inputs, layer by
layer.

Affine layers have a rule each, with bias and stabilizer as Zennit has them (arXiv 2106.13200):

    R_j = sum over k of q_jk R_k / stab(sum over j of q_jk + bias_k)

with stab(z) = z + eps sign(z), sign(0) = 1. Elsewhere: an activation function hands its output's
relevance on; max pooling and what moves entries, to where the entries come from; sums and mean
pooling share it out by the terms' values; a sum or product with a constant hands it on, a product
of two values that depend on the input gives half to each (Achtibat et al., arXiv 2402.05602), a
quotient all to the numerator.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

import fbp
from fbp.gallery.affine import Affine, AffineEdit, AffineLayers, Entry, Rule
from fbp.gallery.propagation import elsewhere, stabilized

EPSILON = 1e-6


def positive(x: Any) -> Any:
    """Return max(x, 0) of an array, or of each array of a list."""
    return [positive(y) for y in x] if isinstance(x, list) else jnp.maximum(x, 0)


def negative(x: Any) -> Any:
    """Return min(x, 0) of an array, or of each array of a list."""
    return [negative(y) for y in x] if isinstance(x, list) else jnp.minimum(x, 0)


def no(b: Sequence[Array]) -> list[Array]:
    """Return zeros in the place of a bias."""
    return [jnp.zeros_like(x) for x in b]


def split(
    layer: Affine, of_positive: Array, of_negative: Array, b: Sequence[Array]
) -> tuple[Array, Callable[[Array], Array]]:
    """Return the output, and what shares it out, of a layer with other weights for the positive and
    the negative part of its input."""
    z1, share1 = layer.term(positive(layer.x), of_positive, b)
    z2, share2 = layer.term(negative(layer.x), of_negative, no(b))
    return z1 + z2, lambda s: share1(s) + share2(s)


def epsilon(epsilon: float = EPSILON) -> Rule:
    """Return the rule q_jk = x_j w_jk, with the bias in the denominator.

    Args:
      epsilon: the stabilizer.

    Returns:
      A rule, for `lrp`.

    Source: Bach et al., PLoS ONE 10 (2015), equation 58.

    >>> import jax.numpy as jnp
    >>> f = lambda x: x @ jnp.array([[1.0], [3.0]])
    >>> print(lrp(f, epsilon(0.0))(jnp.array([[2.0, 1.0]])))
    [[2. 3.]]
    """

    def rule(layer: Affine) -> Array:
        z, share = layer.term(layer.x, layer.w, layer.b)
        return share(layer.r / stabilized(z, epsilon))

    return rule


def gamma(gamma: float = 0.25, epsilon: float = EPSILON) -> Rule:
    """Return the rule q_jk = x_j (w_jk + gamma max(w_jk, 0)), the bias likewise.

    For outputs below zero, and inputs of both signs, it is Zennit's: what has the sign of the
    output is favored, which for x >= 0 and z > 0 is the rule of the paper. (Captum's has no gamma
    in the bias.)

    Args:
      gamma: by how much.
      epsilon: the stabilizer.

    Returns:
      A rule, for `lrp`.

    Source: Montavon et al., Layer-wise relevance propagation: an overview (2019).

    >>> import jax.numpy as jnp
    >>> f = lambda x: x @ jnp.array([[1.0], [-1.0]])
    >>> print(lrp(f, gamma(1.0, 0.0))(jnp.array([[2.0, 1.0]])))
    [[ 1.3333334  -0.33333334]]
    """

    def rule(layer: Affine) -> Array:
        w, b = layer.w, list(layer.b)
        z, total = layer.run(layer.x, w, b), jnp.zeros_like(layer.x)
        for sign, up, down in ((z > 0, positive, negative), (z < 0, negative, positive)):
            favored = [y + gamma * up(y) for y in b]
            by_sign, share = split(layer, w + gamma * up(w), w + gamma * down(w), favored)
            total += share(jnp.where(sign, layer.r / stabilized(by_sign, epsilon), 0))
        return total

    return rule


def alpha_beta(alpha: float = 2.0, beta: float = 1.0, epsilon: float = EPSILON) -> Rule:
    """Return alpha times the rule of the positive q_jk = x_j w_jk, less beta times that of the
    negative ones; the positive part of the bias is with the first, the negative with the second.

    Args:
      alpha, beta: alpha - beta = 1 leaves the sum as it is, but for the bias.
      epsilon: the stabilizer.

    Returns:
      A rule, for `lrp`.

    Source: Bach et al., PLoS ONE 10 (2015), equation 60.

    >>> import jax.numpy as jnp
    >>> f = lambda x: x @ jnp.array([[1.0], [-1.0]])
    >>> print(lrp(f, alpha_beta(2.0, 1.0, 0.0))(jnp.array([[3.0, 1.0]])))
    [[ 4. -2.]]
    """

    def rule(layer: Affine) -> Array:
        w, total = layer.w, jnp.zeros_like(layer.x)
        for factor, up, down in ((alpha, positive, negative), (-beta, negative, positive)):
            z, share = split(layer, up(w), down(w), up(list(layer.b)))
            total += share(factor * layer.r / stabilized(z, epsilon))
        return total

    return rule


def z_plus(epsilon: float = EPSILON) -> Rule:
    """Return the rule of the positive q_jk = max(x_j w_jk, 0), with the positive part of the bias:
    alpha-beta with alpha = 1, beta = 0.

    Args:
      epsilon: the stabilizer.

    Returns:
      A rule, for `lrp`.

    Source: Montavon et al., Explaining nonlinear classification decisions with deep Taylor
    decomposition, Pattern Recognition 65 (2017).

    >>> import jax.numpy as jnp
    >>> f = lambda x: x @ jnp.array([[1.0], [-1.0]])
    >>> print(lrp(f, z_plus(0.0))(jnp.array([[2.0, 1.0]])))
    [[1. 0.]]
    """

    def rule(layer: Affine) -> Array:
        w = layer.w
        z, share = split(layer, positive(w), negative(w), positive(list(layer.b)))
        return share(layer.r / stabilized(z, epsilon))

    return rule


def w_squared(epsilon: float = EPSILON, bias: bool = True) -> Rule:
    """Return the rule q_jk = w_jk^2, with the square of the bias in the denominator.

    Args:
      epsilon: the stabilizer.
      bias: whether the bias takes part, as in Zennit; in the paper it does not.

    Returns:
      A rule, for `lrp`.

    Source: Montavon et al., Pattern Recognition 65 (2017).

    >>> import jax.numpy as jnp
    >>> f = lambda x: x @ jnp.array([[1.0], [2.0]])
    >>> print(lrp(f, w_squared(0.0))(jnp.array([[3.0, 1.0]])))
    [[1. 4.]]
    """

    def rule(layer: Affine) -> Array:
        b = [x**2 for x in layer.b] if bias else no(layer.b)
        z, share = layer.term(jnp.ones_like(layer.x), layer.w**2, b)
        return share(layer.r / stabilized(z, epsilon))

    return rule


def flat(epsilon: float = EPSILON, bias: bool = False) -> Rule:
    """Return the rule q_jk = 1; the bias has no part.

    Args:
      epsilon: the stabilizer.
      bias: whether the bias counts like one more input; neither in Zennit nor in the paper.

    Returns:
      A rule, for `lrp`.

    Source: Lapuschkin et al., Nature Communications 10 (2019), arXiv 1902.10178.

    >>> import jax.numpy as jnp
    >>> f = lambda x: x @ jnp.array([[1.0], [2.0]])
    >>> print(lrp(f, flat(0.0))(jnp.array([[2.0, 1.0]])))
    [[2. 2.]]
    """

    def rule(layer: Affine) -> Array:
        ones, b = jnp.ones_like(layer.x), [jnp.full_like(x, bias) for x in layer.b]
        z, share = layer.term(ones, jnp.ones_like(layer.w), b)
        return share(layer.r / stabilized(z, epsilon))

    return rule


def z_box(low: Any, high: Any, epsilon: float = EPSILON) -> Rule:
    """Return the rule q_jk = x_j w_jk - low_j max(w_jk, 0) - high_j min(w_jk, 0), for inputs that
    lie in a box, such as pixels; the bias cancels.

    Args:
      low, high: the bounds: numbers, or arrays that broadcast with the layer's input.
      epsilon: the stabilizer.

    Returns:
      A rule, for `lrp`: of the first layer.

    Source: Montavon et al., Pattern Recognition 65 (2017).

    >>> import jax.numpy as jnp
    >>> f = lambda x: x @ jnp.array([[1.0], [-1.0]])
    >>> print(lrp(f, z_box(-1.0, 1.0, 0.0))(jnp.array([[1.0, 0.0]])))
    [[0.6666667  0.33333334]]
    """

    def rule(layer: Affine) -> Array:
        x, w, b = layer.x, layer.w, list(layer.b)
        bounds = (jnp.broadcast_to(jnp.asarray(y, x.dtype), x.shape) for y in (low, high))
        terms = [layer.term(x, w, b)]
        for bound, part in zip(bounds, (positive, negative), strict=True):
            terms.append(layer.term(bound, part(w), part(b)))
        (z, share), (z_low, share_low), (z_high, share_high) = terms
        s = layer.r / stabilized(z - z_low - z_high, epsilon)
        return share(s) - share_low(s) - share_high(s)

    return rule


def lrp(
    fun: Callable[[Array], Array],
    rules: Rule | Sequence[Entry] = epsilon(),  # noqa: B008
    stabilizer: float = EPSILON,
) -> Callable[..., Array]:
    """Return the relevance of each entry of an input for a function's outputs.

    Args:
      fun: from an input to outputs [n, ...]; pick a class inside, `network(params, x)[:, 3]`.
      rules: a rule for all affine layers, or pairs (site, rule), of which a layer has the first
        that it is in: a site is a selector of `fbp.at`, the pattern of a scope, the number of a
        layer in the order in which they run (-1 is the last), or None for all.
      stabilizer: of the sums outside of affine layers.

    Returns:
      A function of (x, relevance=None) that returns an array like x. `relevance` is that of the
      outputs, by default the outputs themselves (as in Captum); Zennit begins with a one.

    Raises:
      fbp.InputError: when called, there is no affine layer, or a site has none.

    Source: Bach et al., On pixel-wise explanations for non-linear classifier decisions by
    layer-wise relevance propagation, PLoS ONE 10 (2015).

    >>> import jax, jax.numpy as jnp
    >>> w, v = jnp.array([[1.0, -1.0], [2.0, 0.5]]), jnp.array([[1.0], [4.0]])
    >>> f = lambda x: jax.nn.relu(x @ w) @ v
    >>> x = jnp.array([[1.0, 3.0]])
    >>> mixed = lrp(f, [(0, z_plus()), (None, epsilon())])
    >>> print(f(x), jnp.round(lrp(f)(x)), jnp.round(mixed(x)))
    [[9.]] [[-3. 12.]] [[1. 8.]]
    """
    entries = tuple(rules) if isinstance(rules, Sequence) else ((None, rules),)
    edit = AffineEdit(AffineLayers(entries), lambda *_: [])
    table = fbp.RULES | elsewhere(stabilizer) | edit

    def relevances(x: Array, relevance: Array | None = None) -> Array:
        y, pullback = fbp.vjp(fun, x, rules=table)
        return pullback(y if relevance is None else relevance)[0]

    return relevances
