"""One update: carry the error back, adjust the parameters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key

from fbp.autodiff import value_and_grad
from fbp.autodiff.edits.opened import Taps
from fbp.errors import InputError
from fbp.train.batches import check_batch
from fbp.train.extra_args import accepting, extra_args_of
from fbp.train.layout import Layout
from fbp.train.microbatches import mean_over_microbatches
from fbp.train.sharding import sharded_update
from fbp.train.state import TrainState, check_params

Loss = Float[Array, ""]
LossFn = Callable[[Any, Any, Key[Array, ""]], Loss]
Update = Callable[[TrainState, Any], tuple[TrainState, Any]]


def loss_and_grads_fn(
    loss_fn: Callable[..., Any],
    *,
    has_state: bool = False,
    has_aux: bool = False,
    memory: float | None = None,
    taps: Taps | None = None,
) -> Callable[..., Any]:
    """Make `(params, batch, key) -> (loss, grads)` of a loss, by `fbp.value_and_grad`.

    With `has_state` it is `(params, carried, batch, key) -> ((loss, carried), grads)` of a loss
    `(params, carried, batch, key) -> (loss, carried)`; with `has_aux` what the loss returns beside
    itself is `aux`, with both `(carried, aux)`. No gradient is taken in `carried`.
    `memory` is the budget of `fbp.value_and_grad`, and `taps` are its taps, whose readings are then
    returned as well.

    Raises InputError where a leaf of the parameters is not of floats, the batch's leaves differ in
    their number of examples, or the loss is not one real number.
    """
    beside = has_state or has_aux

    def checked(params: Any, *rest: Any) -> Any:
        out = loss_fn(params, *rest)
        if beside and not (isinstance(out, tuple) and len(out) == 2):
            names = "(carried, aux)" if has_state and has_aux else "carried" if has_state else "aux"
            raise InputError(f"the loss must return (loss, {names}), not {type(out).__name__}")
        check_loss(out[0] if beside else out)
        return out

    def loss_and_grads(params: Any, *rest: Any) -> Any:
        check_params(params)
        check_batch(rest[-2])
        gradient = value_and_grad(checked, has_aux=beside, memory=memory, taps=taps)
        return gradient(params, *rest)

    return loss_and_grads


def check_loss(loss: Any) -> None:
    """Raise InputError for a loss that is not one real number.

    >>> check_loss(jnp.ones(3))
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: the loss is float32[3]: loss_fn must return one real number; ...
    """
    if not hasattr(loss, "dtype") and not isinstance(loss, float):
        raise InputError(
            f"the loss is of type {type(loss).__name__}: loss_fn must return one real number; what "
            "it returns beside that is announced by has_aux or has_state"
        )
    if jnp.shape(loss) != () or not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
        raise InputError(
            f"the loss is {jnp.result_type(loss)}{list(jnp.shape(loss))}: loss_fn must "
            "return one real number; take the mean over the batch"
        )


def make_update(
    loss_and_grads: Callable[..., tuple[Any, Any]],
    tx: optax.GradientTransformation,
    *,
    has_state: bool = False,
    has_aux: bool = False,
) -> Update:
    """Make the update `(state, batch) -> (next state, loss)`, of a gradient that `tx` transforms.

    With `has_aux` it returns `(next state, (loss, aux))`; the arguments are those of
    `loss_and_grads_fn`. Transformations that ask for the loss or its gradient elsewhere, such as
    `optax.lbfgs`, get them, see `fbp.train.extra_args`.
    """
    tx, has_beside = accepting(tx), has_state or has_aux
    loss_alone = lambda out, grads: (out[0] if has_beside else out, grads)

    def update(state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        key = jax.random.fold_in(state.key, state.step)
        carried = (state.carried,) if has_state else ()
        of_batch = lambda params: loss_and_grads(params, *carried, batch, key)
        out, grads = of_batch(state.params)
        loss, beside = out if has_beside else (out, (None, None))
        after, aux = beside if has_state == has_aux else (beside, beside)
        extra = extra_args_of(lambda params: loss_alone(*of_batch(params)), loss, grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params, **extra)
        params = optax.apply_updates(state.params, updates)
        next_carried = after if has_state else state.carried
        state = TrainState(params, opt_state, state.step + 1, state.key, next_carried)
        return state, (loss, aux) if has_aux else loss

    return update


def make_step(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    *,
    microbatches: int = 1,
    mesh: Mesh | None = None,
    layout: Layout = (),
    memory: float | None = None,
) -> Update:
    """Make one compiled update: `step(state, batch) -> (next state, loss)`.

    params <- params + tx(d loss_fn(params, batch, key) / d params). It donates the state's buffers:
    use the state that is returned, not the one passed.

    Args:
      loss_fn: `(params, batch, key) -> loss`, one real number; `key` is new at each step.
      tx: any optax transformation; `with_guards` adds accumulation, clipping and guards.
      microbatches: parts of the batch that follow each other within the step, for a model that
        does not fit with all of it; see `mean_over_microbatches`.
      mesh: devices, over whose axis `data` the batch is divided; None for those where the
        state and the batch are. The state is made by `sharded_init`.
      layout: how the parameters are divided, see `partition_specs`; by default they are replicated.
      memory: bytes of temporary memory that the gradient may need at most, as for
        `fbp.value_and_grad`: the loss is computed again in part, as little as fits.

    Returns:
      The step.

    Raises:
      InputError: for a budget of memory beside a mesh of several devices; by
        the step, for a budget that no program meets, a leaf of the parameters that is not of
        floats, a batch whose leaves differ in their number of examples, a loss that is not one real
        number, and a batch or parameters that do not divide as they should.

    >>> from fbp.train import initial_state, make_step
    >>> loss_fn = lambda params, batch, key: jnp.mean((params * batch["x"] - batch["y"]) ** 2)
    >>> tx = optax.sgd(0.1)
    >>> step = make_step(loss_fn, tx)
    >>> state = initial_state(jnp.zeros(()), tx, jax.random.key(0))
    >>> batch = {"x": jnp.array([1.0, 2.0]), "y": jnp.array([3.0, 6.0])}
    >>> for _ in range(20):
    ...     state, loss = step(state, batch)
    >>> print(state.params.round(2))
    3.0
    """
    check_one_device(memory, mesh)
    loss_and_grads = loss_and_grads_fn(loss_fn, memory=memory)
    update = make_update(mean_over_microbatches(loss_and_grads, microbatches), tx)
    if mesh is not None:
        update = sharded_update(update, mesh, layout, microbatches)
    return jax.jit(update, donate_argnums=0)


def check_one_device(memory: float | None, mesh: Mesh | None) -> None:
    """Raise InputError for a budget of memory beside a mesh of several devices, whose shares it
    does not count."""
    if memory is not None and mesh is not None and mesh.size > 1:
        raise InputError(
            f"memory counts the bytes of one device: leave it out on a mesh of {mesh.size}, or "
            "give a mesh of one device"
        )


def with_guards(
    tx: optax.GradientTransformation,
    *,
    clip_norm: float | None = None,
    accumulate: int = 1,
    skip_nonfinite: int | None = None,
) -> optax.GradientTransformation:
    """Wrap `tx` in optax's guards.

    Args:
      tx: any optax transformation.
      clip_norm: scale a gradient down to this global norm (`optax.clip_by_global_norm`).
      accumulate: average the gradients of this many steps into one update (`optax.MultiSteps`);
        `microbatches` of `make_step` averages within one step, and stores no sum between steps.
      skip_nonfinite: leave out an update that is not finite, unless more than this many follow
        each other (`optax.apply_if_finite`).

    Returns:
      The transformation, guarded.

    >>> tx = with_guards(optax.sgd(1.0), clip_norm=1.0)
    >>> grads = jnp.array([3.0, 4.0])
    >>> updates, _ = tx.update(grads, tx.init(grads))
    >>> print(jnp.allclose(updates, jnp.array([-0.6, -0.8])))
    True
    """
    if clip_norm is not None:
        tx = optax.chain(optax.clip_by_global_norm(clip_norm), tx)
    if accumulate > 1:
        steps: Any = optax.MultiSteps(tx, accumulate)
        tx = optax.GradientTransformationExtraArgs(steps.init, steps.update)
    if skip_nonfinite is not None:
        tx = optax.apply_if_finite(tx, skip_nonfinite)
    return tx
