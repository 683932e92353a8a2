"""What a batch's examples say: their gradients, norms, variance, noise scale, clipped sums.

Each function takes loss(params, *batch), the mean or the sum of the losses of a batch, and returns
a function of the same arguments; `fbp.gallery.examples` says what is asked of it. The gradient of
an example is that of its own loss: it is not divided by the size of the batch (Opacus does the
same; BackPACK's `BatchGrad` divides by n if the loss is a mean).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from fbp.gallery.per_example import examples

Loss = Callable[..., Any]


def per_example_gradients(loss: Loss) -> Callable[..., PyTree]:
    """Return the gradient of each example: g_n = d loss_n / d params.

    Args:
      loss: loss(params, *batch).

    Returns:
      A function of (params, *batch) that returns a tree like params, whose arrays have a first axis
      that counts the examples.

    Source: Goodfellow, arXiv 1510.01799.

    >>> import jax.numpy as jnp
    >>> loss = lambda w, x: jnp.mean((x @ w) ** 2)
    >>> print(per_example_gradients(loss)(jnp.ones(1), jnp.array([[1.0], [2.0]])))
    [[2.]
     [8.]]
    """
    return lambda params, *batch: examples(loss, params, *batch).gradients()


def per_example_norms(loss: Loss, by_leaf: bool = False) -> Callable[..., PyTree]:
    """Return the norm of each example's gradient, |g_n|, without writing g_n down.

    A dense layer has |g_n|^2 = |a_n|^2 |ct_n|^2, with its input a and its output's cotangent ct;
    with T positions it is the sum over s, t of (a_s . a_t)(ct_s . ct_t), or g_n itself if cheaper.

    Args:
      loss: loss(params, *batch).
      by_leaf: whether to return a norm for each leaf, in a tree like params.

    Returns:
      A function of (params, *batch) that returns the norms [n].

    Source: Goodfellow, arXiv 1510.01799; with positions Li et al., arXiv 2110.05679.

    >>> import jax.numpy as jnp
    >>> loss = lambda w, x: jnp.mean((x @ w) ** 2)
    >>> print(per_example_norms(loss)(jnp.ones(1), jnp.array([[1.0], [2.0]])))
    [2. 8.]
    """

    def norms(params: PyTree, *batch: PyTree) -> PyTree:
        batched = examples(loss, params, *batch)
        return jax.tree.map(jnp.sqrt, batched.squared_norms()) if by_leaf else batched.norms()

    return norms


def batch_variance(loss: Loss) -> Callable[..., PyTree]:
    """Return the variance over a batch of each entry of the gradient: mean(g^2) - mean(g)^2.

    Args:
      loss: loss(params, *batch).

    Returns:
      A function of (params, *batch) that returns a tree like params. The mean is over n examples,
      not n - 1.

    Source: Dangel, Kunstner and Hennig, BackPACK (arXiv 1912.10985), `Variance`.

    >>> import jax.numpy as jnp
    >>> loss = lambda w, x: jnp.mean((x @ w) ** 2)
    >>> print(batch_variance(loss)(jnp.ones(1), jnp.array([[1.0], [2.0]])))
    [9.]
    """

    def variance(params: PyTree, *batch: PyTree) -> PyTree:
        batched = examples(loss, params, *batch)
        n = len(batched.losses)
        squares, means = batched.sum_of_squares(), batched.mean()
        return jax.tree.map(lambda s, m: s / n - m**2, squares, means)

    return variance


class NoiseScale(NamedTuple):
    """The gradient noise scale B = tr(S) / |G|^2, with the covariance S of the examples' gradients
    and the true gradient G, and its unbiased estimates from one batch.

    Attributes:
      scale: B.
      trace: tr(S).
      squared_gradient: |G|^2.

    >>> import jax.numpy as jnp
    >>> loss = lambda w, x: jnp.mean(w * x)
    >>> noise = gradient_noise_scale(loss)(jnp.ones(()), jnp.array([1.0, 3.0]))
    >>> float(noise.trace), float(noise.squared_gradient)
    (2.0, 3.0)
    """

    scale: Float[Array, ""]
    trace: Float[Array, ""]
    squared_gradient: Float[Array, ""]


def gradient_noise_scale(loss: Loss, by_leaf: bool = False) -> Callable[..., Any]:
    """Return the batch size beyond which averaging more examples helps little.

    With n examples' norms |g|^2 and the mean gradient m,

        |G|^2 = (n |m|^2 - mean |g|^2) / (n - 1)        tr(S) = (mean |g|^2 - |m|^2) n / (n - 1)

    both unbiased: McCandlish's estimates for batches of 1 and n.

    Args:
      loss: loss(params, *batch).
      by_leaf: whether to return the noise scale of each leaf, in a tree like params.

    Returns:
      A function of (params, *batch) that returns a NoiseScale, of two examples or more. Where the
      noise is larger than the gradient |G|^2 may come out negative: average both estimates over
      batches, and divide then.

    Source: McCandlish et al., arXiv 1812.06162, appendix A.1.

    >>> import jax.numpy as jnp
    >>> loss = lambda w, x: jnp.mean(x @ w)
    >>> batch = jnp.array([[1.0], [3.0]])
    >>> print(*gradient_noise_scale(loss)(jnp.ones(1), batch)[1:])
    2.0 3.0
    """

    def noise_scale(params: PyTree, *batch: PyTree) -> Any:
        batched = examples(loss, params, *batch)
        of_one = jax.tree.map(jnp.mean, batched.squared_norms())
        of_all = jax.tree.map(lambda m: jnp.sum(m**2), batched.mean())
        if not by_leaf:
            of_one, of_all = (sum(jax.tree.leaves(x)) for x in (of_one, of_all))
        return jax.tree.map(lambda a, b: _noise_scale(len(batched.losses), a, b), of_one, of_all)

    return noise_scale


def _noise_scale(n: int, of_one: Array, of_all: Array) -> NoiseScale:
    squared = (n * of_all - of_one) / (n - 1)
    trace = (of_one - of_all) * n / (n - 1)
    return NoiseScale(trace / squared, trace, squared)


def clipped_gradient(loss: Loss, limit: float) -> Callable[..., PyTree]:
    """Return the sum of the examples' gradients, each clipped to a norm: ghost clipping.

        sum over n of g_n min(1, limit / |g_n|)

    One backward pass: what it read gives the norms, and then the weighted sum.

    Args:
      loss: loss(params, *batch).
      limit: the largest norm of an example's gradient. (Opacus divides by |g_n| + 1e-6.)

    Returns:
      A function of (params, *batch) that returns a tree like params.

    Source: Li et al., arXiv 2110.05679; with one backward pass Bu et al., arXiv 2210.00038.

    >>> import jax.numpy as jnp
    >>> loss = lambda w, x: jnp.mean(x @ w)
    >>> print(clipped_gradient(loss, 1.0)(jnp.ones(1), jnp.array([[0.5], [-3.0]])))
    [-0.5]
    """

    def clipped(params: PyTree, *batch: PyTree) -> PyTree:
        batched = examples(loss, params, *batch)
        norms = batched.norms()
        over = norms > limit
        return batched.sum(jnp.where(over, limit / jnp.where(over, norms, 1), 1))

    return clipped


def dp_sgd_gradient(loss: Loss, limit: float, noise: float) -> Callable[..., PyTree]:
    """Return the gradient of a step of DP-SGD: clipped, summed, made private by noise, divided.

        (sum over n of g_n min(1, limit / |g_n|) + noise limit z) / n        z ~ N(0, 1)

    Args:
      loss: loss(params, *batch).
      limit: the largest norm of an example's gradient.
      noise: the noise multiplier: the deviation of the noise in units of `limit`.

    Returns:
      A function of (key, params, *batch) that returns a tree like params. The privacy spent is for
      an accountant to say, from how batches are drawn.

    Source: Abadi et al., arXiv 1607.00133, algorithm 1.

    >>> import jax, jax.numpy as jnp
    >>> loss = lambda w, x: jnp.mean(x @ w)
    >>> step = dp_sgd_gradient(loss, 1.0, 0.0)
    >>> print(step(jax.random.key(0), jnp.ones(1), jnp.array([[0.5], [-3.0]])))
    [-0.25]
    """

    def private(key: Array, params: PyTree, *batch: PyTree) -> PyTree:
        total, n = clipped_gradient(loss, limit)(params, *batch), len(jax.tree.leaves(batch)[0])
        leaves, tree = jax.tree.flatten(total)
        draws = [
            jax.random.normal(k, x.shape, x.dtype)
            for k, x in zip(jax.random.split(key, len(leaves)), leaves, strict=True)
        ]
        noisy = [(x + noise * limit * z) / n for x, z in zip(leaves, draws, strict=True)]
        return jax.tree.unflatten(tree, noisy)

    return private
