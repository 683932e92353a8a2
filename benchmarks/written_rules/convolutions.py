"""Convolutions and pooling."""
# pyright: basic, reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# The rules are written as users write them, without types.

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.written_rules.row import Case, custom, normal, row

STRIDE = "https://github.com/pytorch/pytorch/issues/63314"
DILATION = "https://github.com/huggingface/candle/pull/2337"
ADJOINT = "https://github.com/pytorch/pytorch/issues/5057"
SPLIT = "https://github.com/ROCm/rocm-libraries/issues/8029"
PATCHES = "https://github.com/Theano/Theano/issues/5248"
TIES = "https://github.com/kornia/kornia/pull/4184"
WAVE = ("NHC", "HIO", "NHC")


def conv(x, w, stride=1, padding="VALID"):
    """Along one axis."""
    return lax.conv_general_dilated(x, w, (stride,), padding, dimension_numbers=WAVE)


@row("filtered", "does not flip the kernel", ADJOINT)
def kernel_is_not_flipped(wrong):
    def filtered(x, w):
        return conv(x, w, padding="SAME")

    def bwd(kept, g):
        x, w = kept
        turned = jnp.swapaxes(w if wrong else w[::-1], 1, 2)
        dw = jax.linear_transpose(lambda w: filtered(x, w), w)(g)[0]
        return conv(g, turned, padding="SAME"), dw

    f = custom(filtered, bwd)
    return Case(lambda x, w: jnp.mean(f(x, w) ** 2), (normal(0, 2, 7, 2), normal(1, 3, 2, 2)))


@row("strided", "forgets that the cotangent must be spread by the stride", STRIDE)
def stride_is_forgotten(wrong):
    def strided(x, w):
        return conv(x, w, 2)

    def bwd(kept, g):
        x, w = kept
        n = x.shape[1]
        spread = jnp.zeros((g.shape[0], n - w.shape[0] + 1, g.shape[2]), g.dtype)
        spread = spread.at[:, : g.shape[1]].set(g) if wrong else spread.at[:, ::2].set(g)
        k = w.shape[0] - 1
        dx = conv(spread, jnp.swapaxes(w[::-1], 1, 2), 1, ((k, k),))
        dw = jax.linear_transpose(lambda w: strided(x, w), w)(g)[0]
        return dx, dw

    f = custom(strided, bwd)
    return Case(lambda x, w: jnp.sum(f(x, w) ** 2), (normal(0, 1, 9, 2), normal(1, 3, 2, 2)))


@row("dilated", "swaps stride and dilation for the kernel", DILATION, operand=1)
def dilation_is_swapped(wrong):
    def dilated(x, w):
        return lax.conv_general_dilated(
            x, w, (1,), "VALID", rhs_dilation=(2,), dimension_numbers=WAVE
        )

    def bwd(kept, g):
        x, w = kept
        step = 1 if wrong else 2
        n = g.shape[1]
        dw = jnp.stack(
            [jnp.einsum("bni,bno->io", x[:, step * k : step * k + n], g) for k in range(3)]
        )
        return jax.linear_transpose(lambda x: dilated(x, w), x)(g)[0], dw

    f = custom(dilated, bwd)
    return Case(lambda x, w: jnp.sum(f(x, w) ** 2), (normal(0, 2, 8, 2), normal(1, 3, 2, 2)))


@row("grouped", "stores partial sums of the kernel's cotangent in bfloat16", SPLIT, operand=1)
def partial_sums_in_bfloat16(wrong):
    def grouped(x, w):
        return jnp.einsum("nc,cd->nd", x, w)

    def bwd(kept, g):
        x, w = kept
        parts = jnp.einsum("snc,snd->scd", x.reshape(8, -1, 3), g.reshape(8, -1, 2))
        parts = parts.astype(jnp.bfloat16).astype(w.dtype) if wrong else parts
        return g @ w.T, parts.sum(0)

    f, t = custom(grouped, bwd), normal(2, 64, 2)
    return Case(lambda x, w: jnp.mean((f(x, w) - t) ** 2), (normal(0, 64, 3), normal(1, 3, 2)))


@row("pooled", "gives every entry of a window the cotangent of its largest", TIES)
def pooling_passes_to_all(wrong):
    def pooled(x):
        return x.reshape(-1, 3).max(-1)

    def bwd(kept, g):
        rows = kept[0].reshape(-1, 3)
        won = rows == rows.max(-1, keepdims=True)
        return (((jnp.ones_like(rows) if wrong else won) * g[:, None]).reshape(-1).astype(g.dtype),)

    f = custom(pooled, bwd)
    return Case(lambda x: jnp.sum(f(x) ** 2), (normal(0, 12),))


@row("pooled", "gives all equal entries of a window the cotangent, after a rectifier", PATCHES)
def pooling_passes_to_all_equal_entries(wrong):
    def pooled(x):
        return x.reshape(-1, 3).max(-1)

    def bwd(kept, g):
        rows = kept[0].reshape(-1, 3)
        equal = (rows == rows.max(-1, keepdims=True)).astype(g.dtype)
        share = equal if wrong else equal / equal.sum(-1, keepdims=True)
        return ((share * g[:, None]).reshape(-1),)

    f, w = custom(pooled, bwd), normal(1, 8)
    return Case(lambda x: jnp.sum(w * f(jax.nn.relu(x))), (normal(0, 24) - 0.5,))
