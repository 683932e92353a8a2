"""Where values lie: a cotangent goes back to where its value came from."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.extend.core import primitives as p

from fbp.autodiff.rule import Cotangents, Rules, transpose, vjp_jointly


def constrain(ct: Any, _: Any, **params: Any) -> Any:
    """A cotangent is sharded as its value is."""
    return p.sharding_constraint_p.bind(ct, **params)


def put_back(
    cts: Cotangents, _outs: Any, _ins: Any, _wanted: Any, *, srcs: Sequence[Any]
) -> Cotangents:
    """Put on a device: the cotangent is put where the value was, if that is known."""
    return [
        ct if ct is None or src is None else jax.device_put(ct, src)
        for ct, src in zip(cts, srcs, strict=True)
    ]


RULES = Rules(
    transpose(p.sharding_constraint_p, constrain),
    vjp_jointly(p.device_put_p, put_back),
)
