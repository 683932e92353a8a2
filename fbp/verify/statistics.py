"""How gradients fare from layer to layer: where they vanish, and where they explode."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

TYPICAL_RATIO = 1e-3


class LeafStatistics(NamedTuple):
    """One leaf of the parameters, its gradient, and its update.

    Attributes:
      norm: the Euclidean norm of the gradient.
      zeros: the share of the gradient's entries that are zero.
      update_ratio: the norm of the update over that of the parameter; about 1e-3 is usual.
    """

    norm: Float[Array, ""]
    zeros: Float[Array, ""]
    update_ratio: Float[Array, ""]


def gradient_statistics(params: Any, grads: Any, updates: Any) -> Any:
    """Return norm, share of zeros and update-to-weight ratio of each leaf, as a LeafStatistics.

    A pure function: call it within a compiled step, or under vmap over steps.

    Args:
      params: the parameters, a pytree of arrays.
      grads: the gradient, of the same structure.
      updates: what is added to the parameters, as an optax transformation returns it.

    Returns:
      The same structure, with a LeafStatistics in the place of each leaf.

    Raises:
      ValueError: the structures differ.

    >>> params, grads = {"w": jnp.array([3.0, 4.0])}, {"w": jnp.array([0.0, 2.0])}
    >>> gradient_statistics(params, grads, {"w": -0.1 * grads["w"]})["w"].norm.item()
    2.0
    """

    def of_leaf(param: Any, grad: Any, update: Any) -> LeafStatistics:
        weight = jnp.maximum(_norm(param), jnp.finfo(param.dtype).tiny)
        return LeafStatistics(_norm(grad), jnp.mean(grad == 0), _norm(update) / weight)

    return jax.tree.map(of_leaf, params, grads, updates)


def plot_gradients(statistics: Any) -> Any:
    """Draw the three statistics from the first leaf to the last.

    Norms and ratios are on log axes, where vanishing is a line that falls towards the first
    leaves, exploding one that rises. A norm of zero is not drawn; its share of zeros is 100%.

    Args:
      statistics: what `gradient_statistics` returned.

    Returns:
      A figure of matplotlib.

    Raises:
      ImportError: matplotlib is not installed.

    >>> ones = {"w": jnp.ones(2)}
    >>> plot_gradients(gradient_statistics(ones, ones, ones)).axes[0].get_ylabel()
    'gradient norm'
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    leaves = jax.tree_util.tree_leaves_with_path(statistics, is_leaf=_is_statistics)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    ticks = np.arange(len(leaves))
    figure = Figure(figsize=(6.4, 7.6), layout="constrained")
    norm, ratio, zeros = figure.subplots(3, 1, sharex=True)
    for axes, field in ((norm, "norm"), (ratio, "update_ratio"), (zeros, "zeros")):
        values = np.array([getattr(leaf, field) for _, leaf in leaves], np.float64)
        shown = values if field == "zeros" else np.where(values > 0, values, np.nan)
        axes.plot(ticks, shown, "o-", color="#31688e", markersize=5)
        axes.grid(alpha=0.3)
    norm.set(yscale="log", ylabel="gradient norm")
    ratio.set(yscale="log", ylabel="update / weight")
    ratio.axhline(TYPICAL_RATIO, color="black", linestyle="--", linewidth=1, label="usual")
    ratio.legend()
    zeros.set(ylabel="zero entries", ylim=(-0.02, 1.02))
    zeros.yaxis.set_major_formatter(PercentFormatter(1.0))
    zeros.set_xticks(ticks, names, rotation=90, fontsize=8)
    return figure


def _norm(x: Any) -> Any:
    """Return the Euclidean norm, of which the square may overflow."""
    scale = jnp.max(jnp.abs(x), initial=0)
    safe = jnp.where((scale > 0) & jnp.isfinite(scale), scale, jnp.ones_like(scale))
    return safe * jnp.sqrt(jnp.sum(jnp.square(jnp.abs(x / safe))))


def _is_statistics(x: Any) -> bool:
    return isinstance(x, LeafStatistics)
