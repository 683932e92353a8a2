"""Record, layer by layer, what the gradient does while a network learns.

A recorded step is the same update with its gradients looked at; every other step is compiled as it
is without a recorder. Measures of a parameter w with gradient g and update dw are

    gradient_norm |g|        zero_share: the share of entries of g that are 0
    cosine g.w / |g||w|      update_ratio |dw| / max(|w|, |w + dw|)

and of a rectified layer `dead_units`: the share of its units that are 0 for the whole batch, read
by a tap on the backward pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from fbp.autodiff import RULES
from fbp.autodiff.edits.groups import choose
from fbp.autodiff.edits.program import NamedProgram, paths
from fbp.autodiff.edits.taps import tap
from fbp.autodiff.flat_function import flatten_function
from fbp.errors import InputError
from fbp.gallery import gradient_noise_scale
from fbp.gallery.attribution import relus
from fbp.recording import DEAD
from fbp.train.microbatches import mean_over_microbatches
from fbp.train.state import TrainState
from fbp.train.step import LossFn, Update, loss_and_grads_fn, make_update

NOISE = "noise_scale"


@dataclass(frozen=True)
class Recorder:
    """What `train` records of the last step before each measurement.

    Attributes:
      noise_scale: whether to estimate each parameter's gradient noise scale too, see
        `fbp.gallery.gradient_noise_scale`, which takes a second gradient at a recorded step. The
        loss must be a mean over examples that do not see each other.
      last: of a run that diverges, how many of its last steps are recorded one by one: they are
        run again. At most those since the measurement before the last.

    Raises:
      InputError: `last` is negative.

    >>> Recorder(last=5)
    Recorder(noise_scale=False, last=5)
    """

    noise_scale: bool = False
    last: int = 20

    def __post_init__(self) -> None:
        if self.last < 0:
            raise InputError(f"last = {self.last}: give the number of last steps, 0 for none")


def recorded_update(
    loss_fn: Callable[..., Any],
    tx: optax.GradientTransformation,
    record: Recorder = Recorder(),
    microbatches: int = 1,
    memory: float | None = None,
    *,
    has_state: bool = False,
    has_aux: bool = False,
) -> Update:
    """Make the update `(state, batch) -> (next state, (loss, measures))`.

    With `has_aux` the loss is `(loss, aux)`, as of `make_update`.

    Args:
      loss_fn: `(params, batch, key) -> loss`, or what `has_state` and `has_aux` say.
      tx: any optax transformation.
      record: what to record.
      microbatches: parts of a batch, see `mean_over_microbatches`; shares are means over the parts.
      memory: the budget of `fbp.value_and_grad`.
      has_state, has_aux: as of `loss_and_grads_fn`; without microbatches.

    Returns:
      The update, whose measures are numbers by measure and layer.

    >>> from fbp.train import initial_state
    >>> loss_fn = lambda w, x, key: jnp.mean(jax.nn.relu(x @ w["on"]))
    >>> tx = optax.sgd(0.5)
    >>> state = initial_state({"on": jnp.ones(2), "off": jnp.ones(2)}, tx, jax.random.key(0))
    >>> state, (loss, measures) = recorded_update(loss_fn, tx)(state, jnp.ones((4, 2)))
    >>> print(measures["zero_share"]["off"], measures["update_ratio"]["on"])
    1.0 0.5
    """
    flags = {"has_state": has_state, "has_aux": has_aux}
    has_beside = has_state or has_aux
    loss_alone = (lambda *args: loss_fn(*args)[0]) if has_beside else loss_fn

    def loss_and_grads(params: Any, *rest: Any) -> tuple[Any, Any, Any]:
        taps = _taps(lambda params: loss_alone(params, *rest), params)
        out = loss_and_grads_fn(loss_fn, **flags, memory=memory, taps=taps)(params, *rest)
        return out if taps else (*out, {})

    parts: Callable[..., Any] = mean_over_microbatches(loss_and_grads, microbatches)

    def beside(params: Any, *rest: Any) -> tuple[Any, Any]:
        out, grads, tapped = parts(params, *rest)
        loss, more = cast(Any, out if has_beside else (out, None))
        carried, aux = more if has_state and has_aux else (more, more)
        seen = aux, grads, tapped
        return (loss, (carried, seen) if has_state else seen), grads

    update = make_update(beside, tx, has_state=has_state, has_aux=True)

    def recorded(state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        after, (loss, (aux, grads, tapped)) = update(state, batch)
        measures = layer_measures(state.params, grads, after.params)
        if tapped:
            measures[DEAD] = _by_layer(tapped[DEAD])
        if record.noise_scale:
            carried = (state.carried,) if has_state else ()
            of_batch = lambda params, *rest: loss_alone(params, *carried, *rest)
            measures[NOISE] = _noise_scales(of_batch, state, batch)
        return after, ((loss, aux) if has_aux else loss, measures)

    return recorded


def layer_measures(params: Any, grads: Any, after: Any) -> dict[str, dict[str, Float[Array, ""]]]:
    """Measure each parameter's gradient and update, by measure and path.

    A measure that would divide by zero is NaN.

    >>> w = {"w": jnp.array([3.0, 4.0])}
    >>> g, after = {"w": jnp.array([0.0, 2.0])}, {"w": jnp.array([3.0, 3.0])}
    >>> {name: float(value["w"]) for name, value in layer_measures(w, g, after).items()}
    {'gradient_norm': 2.0, 'zero_share': 0.5, 'cosine': 0.8..., 'update_ratio': 0.2...}
    """
    names = leaf_names(params)
    rows = [
        _measures(*leaves)
        for leaves in zip(*map(jax.tree.leaves, (params, grads, after)), strict=True)
    ]
    return {m: dict(zip(names, (row[m] for row in rows), strict=True)) for m in rows[0]}


def leaf_names(params: Any) -> list[str]:
    """Return the path of each parameter, its parts divided by slashes."""
    return [path or "params" for path in paths(params)]


def numbers_of(measures: Any) -> dict[str, dict[str, float]]:
    """Return measures as Python's numbers, which JSON holds."""
    return jax.tree.map(float, dict(jax.device_get(measures)))


def _measures(w: Array, g: Array, after: Array) -> dict[str, Float[Array, ""]]:
    narrow = jnp.finfo(w.dtype).bits < 32  # sums of squares overflow in float16
    wide = jnp.float32 if narrow else w.dtype
    w, g, after = (_rounded(x).astype(wide) for x in (w, g, after))
    of_w, of_g, of_after = (jnp.linalg.norm(x.ravel()) for x in (w, g, after))
    return {
        "gradient_norm": of_g,
        "zero_share": jnp.mean(g == 0, dtype=wide),
        "cosine": jnp.vdot(g, w) / (of_g * of_w),
        "update_ratio": jnp.linalg.norm((after - w).ravel()) / jnp.maximum(of_w, of_after),
    }


def _rounded(x: Array) -> Array:
    """Round to the dtype, also where XLA computes in a wider one until an array is stored."""
    digits = jnp.finfo(x.dtype)
    return jax.lax.reduce_precision(x, digits.nexp, digits.nmant)


def _taps(loss: Callable[[Any], Any], params: Any) -> dict[str, Any] | None:
    """Return the tap on rectified layers; None where the loss has none."""
    staged = flatten_function(loss, (params,), False, RULES)
    program = NamedProgram(staged.graph, tuple("" for _ in staged.graph.invars), RULES)
    try:
        choose(relus(), program)
    except InputError:
        return None
    return {DEAD: tap(relus(), _dead)}


def _dead(value: Array, _: Array) -> Float[Array, ""]:
    """Return the share of units, along the last axis, that are 0 for all examples."""
    if value.ndim == 0:
        return jnp.asarray(value == 0, jnp.float32)
    off = jnp.all(value == 0, axis=tuple(range(value.ndim - 1)))
    return jnp.mean(off, dtype=jnp.float32)


def _by_layer(tapped: Any) -> dict[str, Array]:
    """Name what a tap read: one value, several by site, of a scan one for each iteration."""
    by_site = tapped if isinstance(tapped, dict) else {"relu": tapped}
    named = {}
    for name, value in by_site.items():
        rows = jnp.ravel(jnp.asarray(value))
        indices = [""] if jnp.ndim(value) == 0 else [f"[{i}]" for i in range(rows.size)]
        named |= {f"{name}{index}": rows[i] for i, index in enumerate(indices)}
    return named


def _noise_scales(loss_fn: LossFn, state: TrainState, batch: Any) -> dict[str, Array]:
    key = jax.random.fold_in(state.key, state.step)
    leaves, structure = jax.tree.flatten(batch)
    loss = lambda params, *xs: loss_fn(params, jax.tree.unflatten(structure, xs), key)
    scales = gradient_noise_scale(loss, by_leaf=True)(state.params, *leaves)
    by_leaf = jax.tree.leaves(scales, is_leaf=lambda x: hasattr(x, "squared_gradient"))
    names = leaf_names(state.params)
    return {name: scale.scale for name, scale in zip(names, by_leaf, strict=True)}
