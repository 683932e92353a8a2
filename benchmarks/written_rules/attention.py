"""Attention with a backward pass of its own, as flash attention has."""
# pyright: basic, reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# The rules are written as users write them, without types.

import jax
import jax.numpy as jnp

from benchmarks.written_rules.row import Case, custom, normal, row

FLASH = "https://github.com/Dao-AILab/flash-attention/issues/1915"
NON_CAUSAL = "https://github.com/triton-lang/triton/issues/5660"
SOFTMAX = "https://github.com/HKUSTDial/flash-sparse-attention/pull/109"
BIAS = "https://github.com/Dao-AILab/flash-attention/pull/617"
SINKS = "https://github.com/jax-ml/jax/issues/40128"


def weights_of(q, k, mask):
    """Compute the weights of attention, which the backward pass computes again."""
    scores = q @ k.T * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
    return jax.nn.softmax(jnp.where(mask, scores, jnp.asarray(-1e9, q.dtype)), -1)


def pulled_back(q, k, v, mask, g, scale=None, delta=True):
    """Compute the cotangents of q, k and v."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    p = weights_of(q, k, mask)
    dp = g @ v.T
    total = jnp.sum(dp * p, -1, keepdims=True) if delta else jnp.zeros_like(dp[:, :1])
    ds = p * (dp - total) * jnp.asarray(scale, q.dtype)
    return ds @ k, ds.T @ q, p.T @ g


CAUSAL = jnp.tril(jnp.ones((6, 6), bool))


def attention_case(bwd, dtype=jnp.float32):
    """One head, causal, with this backward pass."""

    def attention(q, k, v):
        return weights_of(q, k, CAUSAL) @ v

    head, w = custom(attention, bwd), normal(3, 6, 4, dtype=dtype)
    q, k, v = (normal(i, 6, 4, dtype=dtype) for i in range(3))
    return Case(lambda q, k, v: jnp.sum(w * head(q, k, v)), (q, k, v))


@row("attention", "the backward pass is not causal", FLASH)
def backward_is_not_causal(wrong):
    mask = jnp.ones((6, 6), bool) if wrong else CAUSAL
    return attention_case(lambda kept, g: pulled_back(*kept, mask, g))


@row("attention", "the backward pass is causal by one position less", NON_CAUSAL, operand=2)
def mask_is_off_by_one(wrong):
    mask = jnp.tril(CAUSAL, -1) | jnp.eye(6, k=0, dtype=bool) * (jnp.arange(6) == 0)
    mask = mask if wrong else CAUSAL

    def bwd(kept, g):
        q, k, v = kept
        dq, dk, _ = pulled_back(q, k, v, CAUSAL, g)
        return dq, dk, pulled_back(q, k, v, mask, g)[2]

    return attention_case(bwd)


@row("attention", "leaves out the row sums of the softmax's derivative", SOFTMAX)
def softmax_without_delta(wrong):
    return attention_case(lambda kept, g: pulled_back(*kept, CAUSAL, g, delta=not wrong))


@row("attention", "scales the queries' cotangent once too little", NON_CAUSAL, operand=1)
def scale_is_missing_for_the_keys(wrong):
    def bwd(kept, g):
        dq, dk, dv = pulled_back(*kept, CAUSAL, g)
        return dq, dk * (2.0 if wrong else 1.0), dv

    return attention_case(bwd)


@row("attention", "the bias has no gradient", BIAS, operand=3)
def bias_has_no_gradient(wrong):
    def attention(q, k, v, bias):
        return jax.nn.softmax(q @ k.T * 0.5 + bias, -1) @ v

    def bwd(kept, g):
        q, k, v, bias = kept
        p = jax.nn.softmax(q @ k.T * 0.5 + bias, -1)
        dp = g @ v.T
        ds = p * (dp - jnp.sum(dp * p, -1, keepdims=True))
        return ds @ k * 0.5, ds.T @ q * 0.5, p.T @ g, jnp.zeros_like(ds) if wrong else ds

    head, w = custom(attention, bwd), normal(4, 6, 4)
    args = (*(normal(i, 6, 4) for i in range(3)), normal(3, 6, 6))
    return Case(lambda *xs: jnp.sum(w * head(xs[0], *xs[1])), (args[0], args[1:]))


@row("attention", "rounds a product to bfloat16 before it is summed", SINKS, operand=3)
def sinks_are_rounded_before_the_sum(wrong):
    def attention(q, k, v, sink):
        scores = jnp.concatenate([q @ k.T * 0.5, jnp.broadcast_to(sink, (6, 1))], -1)
        return jax.nn.softmax(scores, -1)[:, :-1] @ v

    def bwd(kept, g):
        q, k, v, sink = kept
        scores = jnp.concatenate([q @ k.T * 0.5, jnp.broadcast_to(sink, (6, 1))], -1)
        p = jax.nn.softmax(scores, -1)
        o, dp = p[:, :-1] @ v, g @ v.T
        delta = jnp.sum(g * o, -1, keepdims=True)
        ds = p[:, :-1] * (dp - delta)
        terms = -(p[:, -1:] * g * o)
        terms = terms.astype(jnp.bfloat16).astype(jnp.float32) if wrong else terms
        return ds @ k * 0.5, ds.T @ q * 0.5, p[:, :-1].T @ g, jnp.sum(terms)

    head, w = custom(attention, bwd), normal(4, 6, 4)
    args = (*(normal(i, 6, 4) for i in range(3)), jnp.float32(0.3))
    return Case(lambda *xs: jnp.sum(w * head(xs[0], *xs[1])), (args[0], args[1:]))


@row("attention", "the backward pass is not causal, in bfloat16", FLASH)
def backward_is_not_causal_in_bfloat16(wrong):
    mask = jnp.ones((6, 6), bool) if wrong else CAUSAL
    return attention_case(lambda kept, g: pulled_back(*kept, mask, g), jnp.bfloat16)


@row("attention", "the keys' cotangent is that of the queries, in float64", SOFTMAX, 1, x64=True)
def keys_and_queries_are_swapped(wrong):
    def bwd(kept, g):
        dq, dk, dv = pulled_back(*kept, CAUSAL, g)
        return dq, dq if wrong else dk, dv

    return attention_case(bwd, jnp.float64)
