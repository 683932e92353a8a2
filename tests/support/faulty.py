"""Rules and custom rules that are wrong on purpose."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

import fbp
from fbp.autodiff.rule import Call, Rules


def with_fault(name: str, fault: Callable[[Any], Any]) -> Rules:
    """The table with one primitive's cotangents passed through `fault`."""
    (rule,) = (rule for rule in fbp.RULES.values() if rule.primitive.name == name)

    def apply(call: Call, ins: list[Any]) -> tuple:
        outs, pullback = rule.apply(call, ins)
        return outs, lambda cts: [None if ct is None else fault(ct) for ct in pullback(cts)]

    return fbp.RULES | replace(rule, apply=apply)


def one_entry_doubled(ct: Any) -> Any:
    return jnp.ravel(ct).at[0].multiply(2).reshape(ct.shape)


FAULTS = {
    "doubled": lambda ct: 2 * ct,
    "dropped": lambda ct: 0 * ct,
    "negated": lambda ct: -ct,
    "one per cent too large": lambda ct: jnp.asarray(1.01, ct.dtype) * ct,
    "one entry doubled": one_entry_doubled,
    "rolled": lambda ct: jnp.roll(ct, 1),
}


@jax.custom_vjp
def dense(x, w, b):
    """A layer whose bias gradient is doubled."""
    return x @ w + b[None]


dense.defvjp(
    lambda x, w, b: (x @ w + b[None], (x, w)),
    lambda kept, ct: (ct @ kept[1].T, kept[0].T @ ct, 2 * ct.sum(0)),
)


@jax.custom_jvp
def straight_through(x):
    """Rounds; its rule says that it does nothing."""
    return jnp.round(x)


straight_through.defjvp(lambda xs, ts: (jnp.round(xs[0]), ts[0]))


@jax.custom_jvp
def square(x):
    """A right rule."""
    return x * x


square.defjvp(lambda xs, ts: (xs[0] ** 2, 2 * xs[0] * ts[0]))


@jax.custom_vjp
def right_dense(x, w):
    """A layer with a right rule."""
    return x @ w


right_dense.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, ct: (ct @ kept[1].T, kept[0].T @ ct))
