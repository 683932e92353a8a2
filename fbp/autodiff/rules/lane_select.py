"""A select by lanes whose result has the type of its first case.

Within `shard_map` a loop may take different numbers of steps on different devices, while a counter
in its state, the same everywhere at first, is typed as one that does not vary: JAX's `while_loop`
types a state by its body alone. `lax.select` types its result by the mask as well, and so not as
the state is typed.
"""

from typing import Any

from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from fbp.autodiff.avals import varying
from fbp.autodiff.rule import Applied, Call, Rules, call
from fbp.autodiff.rules.loop_checks import typed_as_the_same


def select_lanes(mask: Any, a: Any, b: Any) -> Any:
    """Select a in the lanes, the leading axes, where the mask is true, else b."""
    mask = lax.broadcast_in_dim(mask, a.shape, range(mask.ndim))
    if varying(mask) | varying(b) <= varying(a):
        return lax.select(mask, a, b)
    return LANE_SELECT.bind(mask, a, b)


def no_derivative(_: Call, ins: list[Any]) -> Applied:
    """Raise: a value that differs between devices and is typed as the same on all has no correct
    cotangent."""
    raise ValueError(typed_as_the_same(varying(ins[0]) - varying(ins[1])))


def _batched(args: Any, dims: Any) -> Any:
    size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    args = [batching.bdim_at_front(x, d, size) for x, d in zip(args, dims, strict=True)]
    return LANE_SELECT.bind(*args), 0


def _jvp(primals: Any, tangents: Any) -> Any:
    (mask, a, b), (_, da, db) = primals, tangents
    return LANE_SELECT.bind(mask, a, b), LANE_SELECT.bind(
        mask, ad.instantiate_zeros(da), ad.instantiate_zeros(db)
    )


LANE_SELECT = Primitive("lane_select")
LANE_SELECT.def_impl(lax.select)
LANE_SELECT.def_abstract_eval(lambda _, a, __: a)
batching.primitive_batchers[LANE_SELECT] = _batched
ad.primitive_jvps[LANE_SELECT] = _jvp
mlir.register_lowering(LANE_SELECT, mlir.lower_fun(lax.select, multiple_results=False))

RULES = Rules(call(LANE_SELECT, no_derivative))
