"""fbp's gradient beside that of `jax.grad`, element by element."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.autodiff import grad
from fbp.verify import oracle
from fbp.verify.ulps import ulp_distance

DRAWS = 4  # of moved parameters: that none of them changes a rounding has a chance of 1 in 16
ROUNDINGS = 16  # times what a draw changes: two programs differ by the rounding of all their steps


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
      rounding: leaves that consist of rounding errors alone, in either gradient, as that of a bias
        before a batch norm, which is zero. They have no digit to compare, and are named instead.
      reference: what the gradient was compared with.

    >>> Agreement(2.0, "params['w']", 0.5, 0.5000001, 2.0, 1.2e-7).agrees
    True
    """

    max_ulps: float
    leaf: str
    expected: float | complex
    got: float | complex
    raw_max_ulps: float
    eps: float
    rounding: tuple[str, ...] = ()
    reference: str = "jax.grad"

    @property
    def agrees(self) -> bool:
        """Return whether half of the digits or more are the same: max_ulps * eps <= sqrt(eps), or
        there are none: every leaf that differs by more is rounding alone.

        A wrong rule is wrong by a share of the entry, millions of ULPs in float32. Two right
        programs differ by the rounding of sums taken in another order, by a few ULPs.
        """
        return self.leaf in self.rounding or self.max_ulps * self.eps <= self.eps**0.5

    def __str__(self) -> str:
        alone = f"; nothing but rounding: {', '.join(self.rounding)}" if self.rounding else ""
        return (
            f"largest difference from {self.reference}: {self.max_ulps:.3g} ULPs, at {self.leaf} "
            f"(jax {self.expected:.9g}, fbp {self.got:.9g}){alone}"
        )


def compare_with_jax(loss_fn: Callable[..., Any], params: Any, *args: Any) -> Agreement:
    """Return how far the gradients of a function by fbp and by `jax.grad`, both compiled, are
    apart.

    Where they disagree, both are made again at parameters moved by a unit in the last place, up or
    down at random: what that changes is rounding (Monte Carlo arithmetic, Parker 1997). A leaf is
    rounding alone if the two differ by no more than `ROUNDINGS` times as much, and by at most
    sqrt(eps) of the largest entry of the whole gradient.

    What `jax.grad` cannot differentiate, as a `while_loop`, is compared with `jax.jvp` along a
    random direction of each leaf.

    Args:
      loss_fn: a function with a real scalar value, of the parameters and the other arguments.
      params: the parameters, a pytree of arrays.
      args: the other arguments.

    Returns:
      The entry that differs most, of all leaves, for its dtype.

    Raises:
      ValueError: `params` has no entry to compare.
      Exception: what `fbp.grad` raises.

    >>> import jax.numpy as jnp
    >>> compare_with_jax(lambda p: jnp.sum(jnp.sin(p["w"])), {"w": jnp.arange(4.0)}).agrees
    True
    """
    gradients, reference = [jax.jit(oracle.grad(loss_fn)), jax.jit(grad(loss_fn))], "jax.grad"
    got = gradients[1](params, *args)
    try:
        expected = gradients[0](params, *args)
    except Exception:  # whatever JAX raises where it has no reverse mode
        gradients = _slopes(loss_fn, gradients[1], params)
        reference = "jax.jvp along a random direction"
        expected, got = (gradient(params, *args) for gradient in gradients)
    leaves = jax.tree_util.tree_leaves_with_path(expected)
    pairs = [
        _compare_leaf(f"params{jax.tree_util.keystr(path)}", np.asarray(want), np.asarray(have))
        for (path, want), have in zip(leaves, jax.tree.leaves(got), strict=True)
        if want.size
    ]
    if not pairs:
        raise ValueError("params have no entries: there is no gradient to compare")
    rounding: set[str] = set()
    if not all(pair.agrees for pair in pairs):
        rounding = _rounding_alone(pairs, gradients, (expected, got), params, args)
    told = [pair for pair in pairs if pair.leaf not in rounding] or pairs
    return replace(
        max(told, key=lambda pair: pair.max_ulps * pair.eps**0.5),  # the share of what may be
        raw_max_ulps=max(pair.raw_max_ulps for pair in pairs),
        rounding=tuple(pair.leaf for pair in pairs if pair.leaf in rounding),
        reference=reference,
    )


def _slopes(
    loss_fn: Callable[..., Any], gradient: Callable[..., Any], params: Any
) -> list[Callable[..., Any]]:
    """Return two functions, of the slope along a random direction of each leaf: by `jax.jvp`, and
    by a gradient."""
    rng = np.random.default_rng(0)
    leaves, tree = jax.tree.flatten(params)
    signs = [rng.choice([-1.0, 1.0], jnp.shape(leaf)) for leaf in leaves]
    directions = [
        jnp.asarray(sign * (1 + 1j) if jnp.iscomplexobj(leaf) else sign, jnp.result_type(leaf))
        for leaf, sign in zip(leaves, signs, strict=True)
    ]
    zeros = [jnp.zeros_like(direction) for direction in directions]

    @jax.jit
    def slope(params: Any, direction: Any, *args: Any) -> Any:
        return oracle.jvp(lambda moved: loss_fn(moved, *args), (params,), (direction,))[1]

    def by_jvp(params: Any, *args: Any) -> Any:
        one_moved = [[*zeros[:i], d, *zeros[i + 1 :]] for i, d in enumerate(directions)]
        return of_leaves(slope(params, tree.unflatten(moved), *args) for moved in one_moved)

    def by_grad(params: Any, *args: Any) -> Any:
        grads = tree.flatten_up_to(gradient(params, *args))
        pairs = zip(grads, directions, strict=True)
        return of_leaves(np.vdot(np.conj(_wide(g)), _wide(d)).real for g, d in pairs)

    def of_leaves(slopes: Iterable[Any]) -> Any:
        pairs = zip(slopes, leaves, strict=True)
        return tree.unflatten([np.asarray(s, jnp.finfo(leaf.dtype).dtype) for s, leaf in pairs])

    return [by_jvp, by_grad]


def _wide(leaf: Any) -> np.ndarray:
    return np.asarray(leaf, np.complex128)


def _rounding_alone(
    pairs: Sequence[Agreement],
    gradients: Sequence[Callable[..., Any]],
    values: Sequence[Any],
    params: Any,
    args: tuple[Any, ...],
) -> set[str]:
    """Return the leaves that disagree by no more than rounding changes them."""
    rng = np.random.default_rng(0)

    def move(leaf: Any) -> Any:
        dtype = jnp.result_type(leaf)
        steps = rng.choice([-1.0, 1.0], jnp.shape(leaf)) * float(jnp.finfo(dtype).eps)
        return leaf * jnp.asarray(1 + steps, dtype)

    changes = np.zeros(len(pairs))
    for _ in range(DRAWS):
        moved = jax.tree.map(move, params)
        for gradient, value in zip(gradients, values, strict=True):
            largest = [
                np.max(abs(_wide(new) - _wide(old)))
                for new, old in zip(
                    jax.tree.leaves(gradient(moved, *args)), jax.tree.leaves(value), strict=True
                )
                if old.size
            ]
            changes = np.maximum(changes, largest)
    largest = max(np.max(abs(np.asarray(leaf))) for leaf in jax.tree.leaves(values[0]) if leaf.size)
    return {
        pair.leaf
        for pair, change in zip(pairs, changes, strict=True)
        if not pair.agrees
        and abs(pair.got - pair.expected) <= ROUNDINGS * change
        and abs(pair.got - pair.expected) <= pair.eps**0.5 * largest
    }


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
