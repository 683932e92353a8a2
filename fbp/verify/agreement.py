"""fbp's gradient beside that of `jax.grad`, element by element."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.autodiff import grad
from fbp.verify import oracle
from fbp.verify.ulps import ulp_distance


@dataclass(frozen=True)
class Agreement:
    """Where two gradients differ most, and by how much.

    Attributes:
      max_ulps: the largest difference, in units of the spacing at the largest entry of its leaf.
        This is the verdict: an entry that is the small remainder of large terms carries their
        rounding error, so that its own spacing says nothing about the rule that made it.
      leaf: path of the leaf where that difference lies.
      expected: the entry as `jax.grad` has it.
      got: the entry as `fbp.grad` has it.
      raw_max_ulps: the largest difference over all leaves in units of the spacing at each entry
        itself.
      eps: the spacing at 1 of that leaf's dtype.

    >>> Agreement(2.0, "params['w']", 0.5, 0.5000001, 2.0, 1.2e-7).agrees
    True
    """

    max_ulps: float
    leaf: str
    expected: float | complex
    got: float | complex
    raw_max_ulps: float
    eps: float

    @property
    def agrees(self) -> bool:
        """Return whether half of the digits or more are the same: max_ulps * eps <= sqrt(eps).

        A wrong rule is wrong by a share of the entry, millions of ULPs in float32. Two right
        programs differ by the rounding of sums taken in another order, by a few ULPs.
        """
        return self.max_ulps * self.eps <= self.eps**0.5

    def __str__(self) -> str:
        return (
            f"largest difference from jax.grad: {self.max_ulps:.3g} ULPs, at {self.leaf} "
            f"(jax {self.expected:.9g}, fbp {self.got:.9g})"
        )


def compare_with_jax(loss_fn: Callable[..., Any], params: Any, *args: Any) -> Agreement:
    """Return how far the gradients of a function by fbp and by `jax.grad`, both compiled, are
    apart.

    Args:
      loss_fn: a function with a real scalar value, of the parameters and the other arguments.
      params: the parameters, a pytree of arrays.
      args: the other arguments.

    Returns:
      The entry that differs most, of all leaves.

    Raises:
      ValueError: `params` has no entry to compare.
      Exception: what `fbp.grad` raises.

    >>> import jax.numpy as jnp
    >>> compare_with_jax(lambda p: jnp.sum(jnp.sin(p["w"])), {"w": jnp.arange(4.0)}).agrees
    True
    """
    expected = jax.jit(oracle.grad(loss_fn))(params, *args)
    got = jax.jit(grad(loss_fn))(params, *args)
    leaves = jax.tree_util.tree_leaves_with_path(expected)
    pairs = [
        _compare_leaf(f"params{jax.tree_util.keystr(path)}", np.asarray(want), np.asarray(have))
        for (path, want), have in zip(leaves, jax.tree.leaves(got), strict=True)
        if want.size
    ]
    if not pairs:
        raise ValueError("params have no entries: there is no gradient to compare")
    worst = max(pairs, key=lambda pair: pair.max_ulps)
    return replace(worst, raw_max_ulps=max(pair.raw_max_ulps for pair in pairs))


def _compare_leaf(leaf: str, expected: np.ndarray, got: np.ndarray) -> Agreement:
    scale = max(np.max(abs(expected)), np.max(abs(got)))
    distance = ulp_distance(expected, got, at=scale)
    worst = np.unravel_index(np.argmax(distance), distance.shape)
    return Agreement(
        max_ulps=float(distance[worst]),
        leaf=leaf,
        expected=expected[worst].item(),
        got=got[worst].item(),
        raw_max_ulps=float(np.max(ulp_distance(expected, got))),
        eps=float(jnp.finfo(expected.dtype).eps),
    )
