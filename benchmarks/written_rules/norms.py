"""Normalisations, whose statistics depend on the input too."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from benchmarks.written_rules.row import Case, custom, normal, row

BATCHNORM = "https://github.com/pytorch/functorch/issues/534"
RANK = "https://github.com/flagos-ai/FlagGems/issues/5392"
MLX = "https://github.com/ml-explore/mlx/issues/3220"
RMS = "https://github.com/linkedin/Liger-Kernel/pull/950"
LLMC = "https://github.com/karpathy/llm.c/pull/476"
SECOND = "https://github.com/pytorch/functorch/pull/807"
WHERE = "https://docs.jax.dev/en/latest/faq.html#gradients-contain-nan-where-using-where"
RENORM = "https://github.com/pytorch/pytorch/issues/59615"
EPS = 1e-5


def normalised(x):
    """Each row less its mean, over its deviation; and the deviation's inverse."""
    centered = x - x.mean(-1, keepdims=True)
    rstd = lax.rsqrt(jnp.mean(centered**2, -1, keepdims=True) + jnp.asarray(EPS, x.dtype))
    return centered * rstd, rstd


@row("layer_norm", "leaves out that the mean depends on the input", BATCHNORM)
def layer_norm_without_the_mean_term(wrong):
    def layer_norm(x, scale):
        return normalised(x)[0] * scale[None]

    def bwd(kept, g):
        x, scale = kept
        y, rstd = normalised(x)
        d = g * scale[None]
        mean = 0.0 if wrong else d.mean(-1, keepdims=True)
        dx = rstd * (d - mean - y * jnp.mean(d * y, -1, keepdims=True))
        return dx, jnp.sum(g * y, 0)

    norm, w = custom(layer_norm, bwd), normal(2, 5, 8)
    return Case(lambda x, s: jnp.sum(w * jnp.tanh(norm(x, s))), (normal(0, 5, 8), normal(1, 8)))


@row("layer_norm", "sums the scale's cotangent over the wrong rows", RANK, operand=1)
def layer_norm_assumes_two_axes(wrong):
    def layer_norm(x, scale):
        return normalised(x)[0] * scale[None, None]

    def bwd(kept, g):
        x, scale = kept
        y, rstd = normalised(x)
        d = g * scale[None, None]
        dx = rstd * (d - d.mean(-1, keepdims=True) - y * jnp.mean(d * y, -1, keepdims=True))
        return dx, jnp.sum((g * y)[:1] if wrong else g * y, (0, 1))

    norm = custom(layer_norm, bwd)
    return Case(lambda x, s: jnp.mean(norm(x, s) ** 3), (normal(0, 2, 3, 6), normal(1, 6)))


@row("batch_norm", "treats the variance as a constant", BATCHNORM)
def batch_norm_without_the_variance_term(wrong):
    def batch_norm(x):
        return normalised(x.T)[0].T

    def bwd(kept, g):
        y, rstd = normalised(kept[0].T)
        g = g.T
        slope = 0.0 if wrong else y * jnp.mean(g * y, -1, keepdims=True)
        return ((rstd * (g - g.mean(-1, keepdims=True) - slope)).T,)

    norm, w = custom(batch_norm, bwd), normal(1, 7, 3)
    return Case(lambda x: jnp.sum(w * norm(x) ** 2), (normal(0, 7, 3),))


@row("rms_norm", "adds up the scale's cotangent in bfloat16", RMS, operand=1)
def rms_norm_accumulates_in_bfloat16(wrong):
    def rms_norm(x, scale):
        return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPS) * scale[None]

    def bwd(kept, g):
        x, scale = kept
        rstd = lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPS)
        y, d = x * rstd, g * scale[None]
        dx = rstd * (d - y * jnp.mean(d * y, -1, keepdims=True))
        terms = g * y
        if wrong:
            terms = terms.astype(jnp.bfloat16)
            step = lambda total, row: (total + row, None)
            total, _ = lax.scan(step, jnp.zeros_like(terms[0]), terms)
            return dx, total.astype(jnp.float32)
        return dx, terms.sum(0)

    norm = custom(rms_norm, bwd)
    return Case(lambda x, s: jnp.sum(norm(x, s) ** 2), (normal(0, 64, 6), normal(1, 6)))


@row("layer_norm", "rounds each row's term before the sum", LLMC, operand=1)
def bias_is_rounded_term_by_term(wrong):
    def layer_norm(x, bias):
        return normalised(x)[0] + bias[None]

    def bwd(kept, g):
        y, rstd = normalised(kept[0])
        dx = rstd * (g - g.mean(-1, keepdims=True) - y * jnp.mean(g * y, -1, keepdims=True))
        terms = g.astype(jnp.bfloat16).astype(jnp.float32) if wrong else g
        return dx, terms.sum(0)

    norm, w = custom(layer_norm, bwd), normal(2, 9, 5)
    return Case(lambda x, b: jnp.sum(w * jnp.sin(norm(x, b))), (normal(0, 9, 5), normal(1, 5)))


@row("layer_norm", "keeps the statistics, so that its own derivative is wrong", SECOND, None)
def saved_statistics_have_no_derivative(wrong):
    def layer_norm(x):
        return normalised(x)[0]

    def bwd(kept, g):
        y, rstd = normalised(kept[0])
        rstd = lax.stop_gradient(rstd) if wrong else rstd
        dx = rstd * (g - g.mean(-1, keepdims=True) - y * jnp.mean(g * y, -1, keepdims=True))
        return (dx,)

    norm, w = custom(layer_norm, bwd), normal(1, 3, 5)
    return Case(lambda x: jnp.sum(w * norm(x) ** 2), (normal(0, 3, 5),))


@row("renorm", "gives the Jacobian's diagonal alone", RENORM)
def renorm_keeps_the_diagonal(wrong):
    def renorm(x):
        return x / jnp.sqrt(jnp.sum(x * x, -1, keepdims=True))

    def bwd(kept, g):
        (x,) = kept
        size = jnp.sqrt(jnp.sum(x * x, -1, keepdims=True))
        y = x / size
        along = g * y if wrong else jnp.sum(g * y, -1, keepdims=True)
        return ((g - y * along) / size,)

    norm, w = custom(renorm, bwd), normal(1, 4, 6)
    return Case(lambda x: jnp.sum(w * norm(x)), (normal(0, 4, 6),))


@row("group_norm", "rounds a float32 rule's result to bfloat16", RMS, x64=False)
def group_norm_returns_rounded_cotangents(wrong):
    def group_norm(x):
        groups = x.reshape(x.shape[0], 2, -1)
        return normalised(groups)[0].reshape(x.shape)

    def bwd(kept, g):
        (x,) = kept
        y, rstd = normalised(x.reshape(x.shape[0], 2, -1))
        d = g.reshape(y.shape)
        dx = rstd * (d - d.mean(-1, keepdims=True) - y * jnp.mean(d * y, -1, keepdims=True))
        dx = dx.reshape(x.shape)
        return (dx.astype(jnp.bfloat16).astype(x.dtype) if wrong else dx,)

    norm = custom(group_norm, bwd)
    return Case(jax.jit(lambda x: jnp.sum(jnp.sin(3 * norm(x)))), (normal(0, 4, 8),))


def norm(factor):
    """Make a norm with a slope of zero at zero, times a factor elsewhere."""

    def safe_norm(x):
        return jnp.sqrt(jnp.sum(x**2, -1))

    def bwd(kept, g):
        (x,) = kept
        size = jnp.sqrt(jnp.sum(x**2, -1, keepdims=True))
        slope = jnp.where(size > 0, x / jnp.where(size > 0, size, 1), 0)
        return (factor * g[..., None] * slope,)

    return custom(safe_norm, bwd)


@row("safe_norm", "a factor, beside an entry at which the function has a kink", WHERE)
def norm_at_zero(wrong):
    f, x = norm(2.0 if wrong else 1.0), normal(0, 4, 3).at[1].set(0)
    return Case(lambda x: jnp.sum(f(x)), (x,))


@row("safe_norm", "a factor, beside a kink, in shard_map", WHERE)
def norm_at_zero_in_shard_map(wrong):
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))
    f = norm(2.0 if wrong else 1.0)
    mapped = jax.shard_map(f, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    return Case(lambda x: jnp.sum(mapped(x)), (normal(0, 4, 3).at[1].set(0),))
