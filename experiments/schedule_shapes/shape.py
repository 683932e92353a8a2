"""Schedules as numbers: straight lines between knots, and cosines."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Knots = Float[Array, " knots"]


def through_knots(knots: Knots, steps: int) -> Float[Array, " steps"]:
    """Return the rate of every step: straight lines between knots, spread evenly over the steps.

    >>> print(through_knots(jnp.array([0.0, 1.0, 0.0]), 5))
    [0.  0.5 1.  0.5 0. ]
    """
    return jnp.interp(jnp.linspace(0.0, 1.0, steps), jnp.linspace(0.0, 1.0, len(knots)), knots)


def warm_cosine(
    warmup: Float[Array, ""], peak: Float[Array, ""], steps: int
) -> Float[Array, " steps"]:
    """Return the rate of every step: up in the first share of the steps, then half a cosine to 0.

    >>> print(warm_cosine(0.5, 1.0, 5).round(3))
    [0.  0.5 1.  0.5 0. ]
    """
    time = jnp.linspace(0.0, 1.0, steps)
    rise = time / jnp.maximum(warmup, 1e-9)
    after = jnp.clip((time - warmup) / (1 - warmup), 0.0, 1.0)
    return peak * jnp.where(time < warmup, rise, 0.5 * (1 + jnp.cos(jnp.pi * after)))


def drawn_knots(
    seed: int, trials: int, knots: int, log2_peaks: tuple[float, float]
) -> Float[np.ndarray, "trials knots"]:
    """Draw schedules: the highest knot log-uniform between the peaks, the others shares of it.

    A share is the square of a uniform number, so that low rates are as well tried as high ones.

    >>> peaks = drawn_knots(0, 100, 3, (-2.0, -1.0)).max(axis=1)
    >>> bool(0.25 <= peaks.min() < 0.26), bool(0.49 < peaks.max() < 0.5)
    (True, True)
    """
    draw = np.random.default_rng(seed)
    shares = draw.uniform(size=(trials, knots)) ** 2
    peaks = 2.0 ** draw.uniform(*log2_peaks, size=(trials, 1))
    return peaks * shares / shares.max(axis=1, keepdims=True)


def varied_knots(
    seed: int, parents: Float[np.ndarray, "parents knots"], variants: int
) -> Float[np.ndarray, "children knots"]:
    """Vary each schedule: every knot by half an octave (one standard deviation), up or down.

    >>> children = varied_knots(0, np.ones((2, 3)), 500)
    >>> children.shape, round(float(np.log2(children).std()), 2)
    ((1000, 3), 0.5)
    """
    children = np.repeat(parents, variants, axis=0)
    return children * 2.0 ** np.random.default_rng(seed).normal(0.0, 0.5, children.shape)


def best_of(scores: Float[np.ndarray, "candidates ..."], count: int) -> Int[np.ndarray, " count"]:
    """Return the candidates with the lowest mean score, the best first; what is not finite is last.

    >>> best_of(np.array([[2.0, 2.0], [1.0, np.nan], [0.5, 1.5]]), 2).tolist()
    [2, 0]
    """
    means = scores.reshape(len(scores), -1).mean(axis=1)
    return np.argsort(np.where(np.isfinite(means), means, np.inf), kind="stable")[:count]
