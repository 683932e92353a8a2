"""Quantisation and straight-through estimators: declared with what they stand for."""
# pyright: reportOperatorIssue=false
# The rules are written as users write them, without types.

from functools import partial

import jax
import jax.numpy as jnp

from benchmarks.written_rules.row import Case, custom, normal, row

NONDIFF = "https://docs.jax.dev/en/latest/_autosummary/jax.custom_vjp.html"
STE = "https://arxiv.org/abs/1308.3432"
NNI = "https://github.com/microsoft/nni/pull/3160"
ONEFLOW = "https://github.com/Oneflow-Inc/oneflow/issues/8685"
SCALE = "https://github.com/eladhoffer/quantized.pytorch/issues/5"
AO = "https://github.com/pytorch/ao/pull/4806"


@row("quantize", "an estimator that nobody declared", STE)
def undeclared_estimator(wrong):
    def quantize(x):
        return jnp.round(4 * x) / 4

    f = custom(quantize, lambda _, g: (g,))
    declared = () if wrong else {f: lambda x: x}
    return Case(lambda x: jnp.sum(jnp.sin(f(x))), (normal(0, 6),), declared)


@row("quantize", "the estimator forgets to zero what is clipped", NNI)
def estimator_passes_what_is_clipped(wrong):
    def quantize(x):
        return jnp.clip(jnp.round(4 * x), -4, 4) / 4

    def bwd(kept, g):
        return (g if wrong else g * (abs(kept[0]) < 1),)

    f = custom(quantize, bwd)
    declared = {f: lambda x: jnp.clip(x, -1, 1)}
    return Case(lambda x: jnp.sum(f(x) ** 2), (2 * normal(0, 9),), declared)


@row("binarize", "the surrogate's derivative is taken without its width", ONEFLOW)
def surrogate_without_its_width(wrong):
    def spike(x):
        return (x > 0).astype(x.dtype)

    def binarize(x):
        return spike(x)

    def bwd(kept, g):
        s = jax.nn.sigmoid(5 * kept[0])
        return (g * s * (1 - s) * (1 if wrong else 5),)

    f = custom(binarize, bwd)
    declared = {f: lambda x: jax.nn.sigmoid(5 * x)}
    return Case(lambda x: jnp.sum(f(x) * normal(1, 8)), (normal(0, 8),), declared)


@row("fake_quantize", "the scale has no gradient", SCALE, operand=1)
def scale_has_no_gradient(wrong):
    def fake_quantize(x, scale):
        return scale * jnp.round(x / scale)

    def bwd(kept, g):
        x, scale = kept
        slope = 0.0 if wrong else jnp.round(x / scale)
        return g, jnp.sum(g * slope)

    f = custom(fake_quantize, bwd)
    surrogate = lambda x, s: x + s * jax.lax.stop_gradient(jnp.round(x / s))
    return Case(
        lambda x, s: jnp.sum(f(x, s) ** 2), (normal(0, 8), jnp.float32(0.3)), {f: surrogate}
    )


@row("saturate", "zeroes the whole saturated tail", AO)
def saturated_tail_is_zero(wrong):
    def saturate(x):
        return jnp.where(abs(x) < 1, x, jnp.sign(x) * (1 + 0.1 * (abs(x) - 1)))

    def bwd(kept, g):
        return (g * jnp.where(abs(kept[0]) < 1, 1.0, 0.0 if wrong else 0.1),)

    f = custom(saturate, bwd)
    return Case(lambda x: jnp.sum(f(2 * x) ** 2), (normal(0, 9),))


@row("stochastic", "the estimator doubles the cotangent", STE)
def estimator_doubles(wrong):
    @jax.custom_jvp
    def stochastic(x):
        return jnp.floor(x)

    stochastic.defjvp(lambda xs, ts: (jnp.floor(xs[0]), ts[0] * (2.0 if wrong else 1.0)))
    return Case(lambda x: jnp.sum(stochastic(3 * x)), (normal(0, 6),), {stochastic: lambda x: x})


@row("fixed_point", "the estimator doubles; the number of bits is no array", NONDIFF)
def surrogate_with_a_setting(wrong):
    @partial(jax.custom_vjp, nondiff_argnums=(1,))
    def fixed_point(x, bits):
        return jnp.round(x * 2**bits) / 2**bits

    def fwd(x, bits):
        return fixed_point(x, bits), None

    fixed_point.defvjp(fwd, lambda _bits, _, g: ((2.0 if wrong else 1.0) * g,))
    declared = {fixed_point: lambda x, _bits: x}
    return Case(lambda x: jnp.sum(fixed_point(x, 3) ** 2), (normal(0, 5),), declared)


@row("signs", "the estimator of one of several parameters is halved", STE, operand=1)
def surrogate_of_a_dict(wrong):
    def signs(params):
        return {key: jnp.sign(x) for key, x in params.items()}

    def bwd(_, g):
        return ({"a": g["a"], "b": g["b"] * (0.5 if wrong else 1.0)},)

    f = custom(signs, bwd)
    params = {"a": normal(0, 3), "b": normal(1, 3)}
    declared = {f: lambda params: params}
    return Case(lambda params: jnp.sum(f(params)["a"] * f(params)["b"]), (params,), declared)


@row("eight_bits", "a factor, in a product of eight-bit floats", AO, operand=1)
def product_of_eight_bit_floats(wrong):
    def rounded(x):
        return x.astype(jnp.float8_e4m3fn).astype(jnp.float32)

    def eight_bits(x, w):
        return rounded(x) @ rounded(w)

    def bwd(kept, g):
        x, w = kept
        return g @ w.T, x.T @ g * (1.2 if wrong else 1.0)

    f = custom(eight_bits, bwd)
    args = (normal(0, 3, 4), normal(1, 4, 2))
    return Case(lambda x, w: jnp.sum(f(x, w) ** 2), args, {f: lambda x, w: x @ w})
