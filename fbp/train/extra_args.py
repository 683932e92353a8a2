"""What an optax transformation may ask for beside the gradient."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float


def extra_args_of(
    loss_and_grads: Callable[[Any], tuple[Float[Array, ""], Any]],
    loss: Float[Array, ""],
    grads: Any,
) -> dict[str, Any]:
    """Return what transformations ask for by name, of the loss of a step's batch.

    - `value` and `grad`: of this step, for `optax.polyak_sgd`, `optax.contrib.momo`, a line search;
    - `value_fn` and `obj_fn`, `params -> loss`: for `optax.lbfgs` and `optax.contrib.sophia`, which
      differentiate it; JAX then takes the gradient of `loss_and_grads` for it, as a `custom_vjp`;
    - `grad_fn`, `(params, step) -> grads`: for `optax.contrib.sam`.

    Args:
      loss_and_grads: `params -> (loss, grads)`.
      loss, grads: what it returns of the parameters of this step.

    >>> extra = extra_args_of(lambda w: (w * w, 2 * w), jnp.float32(9), jnp.float32(6))
    >>> print(extra["value_fn"](5.0), jax.grad(extra["obj_fn"])(5.0), extra["grad_fn"](5.0, 0))
    25.0 10.0 10.0
    """

    @jax.custom_vjp
    def value(params: Any) -> Any:
        return loss_and_grads(params)[0]

    value.defvjp(loss_and_grads, lambda grads, ct: (jax.tree.map(lambda g: ct * g, grads),))

    def value_fn(params: Any, obj_fn: Any = None, grad_fn: Any = None) -> Any:
        del obj_fn, grad_fn  # a line search passes on what it does not take itself
        return value(params)

    functions = {"obj_fn": value_fn, "grad_fn": lambda params, _: loss_and_grads(params)[1]}
    return {"value": loss, "grad": grads, "value_fn": value_fn, **functions}


def update_alone(
    tx: optax.GradientTransformation, grads: Any, opt_state: Any, params: Any
) -> tuple[Any, Any]:
    """Return a transformation's update of gradients that no loss made: to trace it by itself.

    >>> update, _ = update_alone(optax.sgd(0.5), 1.0, optax.sgd(0.5).init(0.0), 0.0)
    >>> print(update)
    -0.5
    """
    zero = jnp.zeros(())
    extra = extra_args_of(lambda params: (zero, params), zero, grads)
    return accepting(tx).update(grads, opt_state, params, **extra)


def accepting(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Return a transformation that passes over what it does not ask for.

    That of `optax.contrib.sam` takes `grad_fn` and nothing else.

    >>> tx = optax.GradientTransformationExtraArgs(
    ...     lambda params: (), lambda updates, state, params, *, value: (value, state)
    ... )
    >>> accepting(tx).update(1.0, (), 1.0, value=2.0, grad=3.0)
    (2.0, ())
    """
    tx = optax.with_extra_args_support(tx)
    parameters = inspect.signature(tx.update).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return tx
    names = {parameter.name for parameter in parameters}

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        known = {name: value for name, value in extra.items() if name in names}
        return tx.update(updates, state, params, **known)

    return optax.GradientTransformationExtraArgs(tx.init, update)
