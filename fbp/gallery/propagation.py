"""Relevance outside of affine layers: what activation functions, sums and pooling hand on."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax.extend.core import primitives as p
from jaxtyping import Array

import fbp
from fbp.autodiff.interpret import bind
from fbp.autodiff.rule import Call, unbroadcast
from fbp.gallery.uses import PRODUCTS


def stabilized(z: Array, epsilon: float) -> Array:
    """Return z + epsilon sign(z), with sign(0) = 1.

    >>> import jax.numpy as jnp
    >>> print(stabilized(jnp.array([-1.0, 0.0]), 0.5))
    [-1.5  0.5]
    """
    return z + jnp.where(z < 0, -epsilon, epsilon).astype(z.dtype)


BY_VALUE = fbp.RULES.tagged("sums") | {p.add_p, p.sub_p}
AS_THEY_ARE = frozenset({p.select_n_p})


def elsewhere(epsilon: float) -> fbp.Rules:
    """Return the rules of relevance outside of affine layers."""
    activations = [
        primitive
        for primitive in fbp.RULES.tagged("elementwise") - AS_THEY_ARE - BY_VALUE
        if fbp.RULES[primitive].kind != "constant"
    ]
    by_users = [p.custom_jvp_call_p, p.custom_vjp_call_p]
    return fbp.Rules(
        *(by_value(primitive, epsilon) for primitive in BY_VALUE),
        *(handed_on(primitive) for primitive in activations),
        *(handed_on_by_users(primitive) for primitive in by_users),
    )


def by_value(primitive: Any, epsilon: float) -> fbp.Rule:
    """Return the rule of a sum: each term has the part of the relevance that it has of the sum,
    but for constants; of a product of two values both have half of that."""

    def apply(call: Call, ins: list[Any]) -> Any:
        if primitive in (p.add_p, p.sub_p) and sum(call.needs_ct) == 1:
            return handed_on(primitive).apply(call, ins)
        outs = bind(call.eqn, ins)
        run = lambda *xs: bind(call.eqn, xs)[0]
        halves = sum(call.needs_ct) if primitive in PRODUCTS else 1

        def pull(cts: list[Any]) -> list[Any]:
            if cts[0] is None:
                return [None for _ in ins]
            s = cts[0] / stabilized(outs[0], epsilon) / halves
            shares = fbp.vjp(run, *ins)[1](s)
            pairs = zip(ins, shares, call.needs_ct, strict=True)
            return [x * share if need else None for x, share, need in pairs]

        return outs, pull

    return replace(fbp.RULES[primitive], apply=apply)


def handed_on(primitive: Any) -> fbp.Rule:
    """Return the rule of an activation function, by which its operand has the relevance of its
    output; of several operands the first of a quotient, the chosen one of a maximum, else equal
    parts."""
    plain = fbp.RULES[primitive]

    def apply(call: Call, ins: list[Any]) -> Any:
        number = sum(call.needs_ct)
        if number > 1 and primitive in (p.max_p, p.min_p):
            return plain.apply(call, ins)
        outs = bind(call.eqn, ins)
        parts = [need / number for need in call.needs_ct]
        if primitive is p.div_p and call.needs_ct[0]:
            parts = [1.0, 0.0]

        def pull(cts: list[Any]) -> list[Any]:
            r = cts[0]
            if r is None:
                return [None for _ in ins]
            pairs = zip(ins, parts, strict=True)
            return [unbroadcast(r * part, x).astype(x.dtype) if part else None for x, part in pairs]

        return outs, pull

    return replace(plain, apply=apply)


def handed_on_by_users(primitive: Any) -> fbp.Rule:
    """Return the rule of a function with a custom rule: that of an activation function if the
    operand that depends on the input has the output's shape; else its own."""
    plain = fbp.RULES[primitive]

    def apply(call: Call, ins: list[Any]) -> Any:
        read = [v.aval for v, need in zip(call.eqn.invars, call.needs_ct, strict=True) if need]
        outputs: list[Any] = [v.aval for v in call.eqn.outvars]
        outs, pullback = plain.apply(call, ins)
        if [x.shape for x in read] != [x.shape for x in outputs] or len(outputs) != 1:  # pyright: ignore
            return outs, pullback
        return outs, lambda cts: [cts[0] if need else None for need in call.needs_ct]

    return replace(plain, apply=apply)
