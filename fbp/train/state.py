"""The state that changes from one step to the next."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, Key

from fbp.errors import InputError


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """The state of one training run, a pytree.

    Attributes:
      params: the parameters, a pytree of arrays of floats.
      opt_state: the optimizer's state.
      step: number of updates so far.
      key: what the run's randomness is drawn from; step i uses `fold_in(key, i)`.
      carried: what the loss carries from step to step beside the parameters, such as batch
        statistics: a pytree, which no gradient changes.

    >>> state = initial_state({"w": jnp.zeros(3)}, optax.sgd(0.1), jax.random.key(0))
    >>> len(jax.tree.leaves(state.params)), state.step.dtype
    (1, dtype('int32'))
    """

    params: Any
    opt_state: optax.OptState
    step: Int[Array, ""]
    key: Key[Array, ""]
    carried: Any = ()


def initial_state(
    params: Any, tx: optax.GradientTransformation, key: Key[Array, ""], carried: Any = ()
) -> TrainState:
    """Make the state before the first step, in new buffers, which a step may take over.

    Args:
      params: the parameters, a pytree of arrays of floats.
      tx: any optax transformation.
      key: what the run's randomness is drawn from.
      carried: what the loss carries from step to step beside the parameters.

    Returns:
      The state at step 0.

    Raises:
      InputError: for a leaf of `params` that is not an array of floats, with its path.

    >>> state = initial_state({"w": jnp.zeros(3)}, optax.sgd(0.1), jax.random.key(0))
    >>> print(state.step)
    0
    """
    check_params(params)
    state = TrainState(params, tx.init(params), jnp.zeros((), jnp.int32), key, carried)
    return jax.tree.map(jnp.copy, state)


def check_params(params: Any) -> None:
    """Raise InputError for a leaf that no gradient step can change, with its path.

    >>> check_params({"w": jnp.zeros(3, jnp.int32)})
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: params['w'] is int32[3]: parameters must be floats, ...
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise InputError("params have no entries: there is nothing to train")
    for path, leaf in leaves:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise InputError(
                f"params{jax.tree_util.keystr(path)} is "
                f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}: parameters must be floats, "
                "since an update adds a fraction of the gradient; convert it, or pass it as data"
            )
