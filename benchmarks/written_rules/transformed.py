"""Rules within cond, shard_map, checkpoint and vmap, and in several precisions."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from benchmarks.written_rules.row import Case, custom, normal, row

SHARDED = "https://github.com/jax-ml/jax/issues/36886"
PSUM = "https://github.com/jax-ml/jax/pull/19174"
BATCHING = "https://github.com/pytorch/functorch/issues/534"
ATTENTION = "https://github.com/linkedin/Liger-Kernel/pull/1253"
FP16 = "https://arxiv.org/abs/1710.03740"
DTYPES = "https://github.com/ml-explore/mlx/issues/3220"
CONIC = "https://github.com/graphdeco-inria/gaussian-splatting/issues/596"
EMBED = "https://github.com/tenstorrent/tt-metal/pull/53386"


def scaled_sine(factor):
    """Make a sine whose derivative has a factor."""

    def sine(x):
        return jnp.sin(x)

    return custom(sine, lambda kept, g: (factor * g * jnp.cos(kept[0]),))


@row("sine", "a factor, in shard_map", SHARDED)
def within_shard_map(wrong):
    f = scaled_sine(2.0 if wrong else 1.0)
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))
    mapped = jax.shard_map(f, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    return Case(lambda x: jnp.sum(mapped(x) ** 2), (normal(0, 4),))


@row("sine", "a factor, in a scan in shard_map without types of axes", PSUM)
def within_a_loop_in_shard_map(wrong):
    f = scaled_sine(1.01 if wrong else 1.0)
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))

    def local(x):
        return jax.lax.scan(lambda c, _: (f(c) + x, None), x, length=3)[0]

    mapped = jax.shard_map(local, mesh=mesh, in_specs=P("d"), out_specs=P("d"), check_vma=False)
    return Case(lambda x: jnp.sum(mapped(x) ** 2), (normal(0, 4),))


@row("sine", "a factor, in one branch of a cond", SHARDED)
def within_a_branch(wrong):
    f = scaled_sine(1.2 if wrong else 1.0)
    return Case(lambda x: jnp.sum(jax.lax.cond(x[0] > -9, f, jnp.cos, x)), (normal(0, 4),))


@row("sine", "a factor, in jax.checkpoint", BATCHING)
def within_checkpoint(wrong):
    f = scaled_sine(0.99 if wrong else 1.0)
    return Case(lambda x: jnp.sum(jax.checkpoint(lambda x: f(jnp.exp(x)) ** 2)(x)), (normal(0, 4),))


@row("batched", "sums over a batch that vmap adds", BATCHING, operand=1)
def under_vmap(wrong):
    def batched(x, w):
        return x @ w

    def bwd(kept, g):
        x, w = kept
        return g @ w.T, jnp.outer(x, g) * (x.size if wrong else 1)

    f = custom(batched, bwd)
    return Case(
        lambda w, x: jnp.sum(jax.vmap(f, (0, None))(x, w) ** 2), (normal(0, 3, 2), normal(1, 5, 3))
    )


@row("wide", "the cotangent is wider than its argument", DTYPES)
def cotangent_of_another_dtype(wrong):
    def wide(x):
        return (x.astype(jnp.float32) * 3).astype(jnp.float32)

    f = custom(wide, lambda _, g: (3 * g if wrong else (3 * g).astype(jnp.bfloat16),))
    return Case(lambda x: jnp.sum(f(x)), (normal(0, 4, dtype=jnp.bfloat16),))


@row("slow_sum", "adds up in bfloat16 what plain differentiation adds in float32", EMBED, operand=1)
def bfloat16_sum_of_many_terms(wrong):
    def slow_sum(x, w):
        return x * w

    def bwd(kept, g):
        x, w = kept
        dtype = jnp.bfloat16 if wrong else jnp.float32
        terms = (g * x).astype(dtype)
        total, _ = jax.lax.scan(lambda a, v: (a + v, None), jnp.zeros((), dtype), terms)
        return g * w, total.astype(jnp.float32)

    f, x = custom(slow_sum, bwd), jnp.ones(2048)
    return Case(lambda w: jnp.mean(f(x, w)), (jnp.float32(2.0),))


@row("gated", "rounds to bfloat16 within a float32 rule", ATTENTION)
def rounded_within_the_rule(wrong):
    def gated(x, u):
        return x * jax.nn.sigmoid(u)

    def bwd(kept, g):
        x, u = kept
        s = jax.nn.sigmoid(u)
        s16 = s.astype(jnp.bfloat16).astype(jnp.float32) if wrong else s
        return g * s16, g * x * s * (1 - s)

    f = custom(gated, bwd)
    return Case(lambda x, u: jnp.sum(f(x, u) ** 2), (normal(0, 6), normal(1, 6)))


@row("underflow", "loses what is small in float16", FP16)
def small_cotangents_underflow(wrong):
    def underflow(x):
        return jnp.tanh(x)

    def bwd(kept, g):
        slope = 1 - jnp.tanh(kept[0]) ** 2
        g = (g * 1e-3).astype(jnp.float16).astype(jnp.float32) * 1e3 if wrong else g
        return (g * slope,)

    f = custom(underflow, bwd)
    return Case(lambda x: 1e-4 * jnp.sum(f(x)), (normal(0, 6),))


@row("bfloat", "a factor of a half, in bfloat16", BATCHING)
def in_bfloat16(wrong):
    def bfloat(x):
        return x * x

    f = custom(bfloat, lambda kept, g: ((1.5 if wrong else 2.0) * g * kept[0],))
    return Case(lambda x: jnp.sum(f(x)), (normal(0, 8, dtype=jnp.bfloat16),))


@row("pair", "one of two outputs is forgotten", DTYPES, x64=True)
def one_of_two_outputs_is_forgotten(wrong):
    def pair(x):
        return jnp.sin(x), jnp.cos(x)

    def bwd(kept, g):
        (x,), (a, b) = kept, g
        return (a * jnp.cos(x) - (0.0 if wrong else b * jnp.sin(x)),)

    f = custom(pair, bwd)

    def fun(x):
        s, c = f(x)
        return jnp.sum(s * c**2)

    return Case(fun, (jnp.asarray(np.linspace(0.1, 1, 4)),))


@row("rectified", "a factor, in a rule with a collective, beside kinks", SHARDED)
def rule_with_a_collective(wrong):
    def rectified(x):
        return jnp.maximum(x, 0) * jax.lax.psum(jnp.ones(()), "d")

    def bwd(kept, g):
        count = jax.lax.psum(jnp.ones(()), "d")
        return (jnp.where(kept[0] > 0, g * count * (0.9 if wrong else 1.0), 0),)

    f = custom(rectified, bwd)
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))
    mapped = jax.shard_map(f, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    return Case(lambda x: jnp.sum(mapped(x) ** 2), (jnp.array([0.0, 1.0, -1.0, 0.0, 2.0]),))


@row("loss_scaled", "a factor, in float16 under a loss scale of 8192", FP16)
def under_a_loss_scale(wrong):
    def loss_scaled(x):
        return jnp.tanh(x)

    def bwd(kept, g):
        slope = 1 - jnp.tanh(kept[0]) ** 2
        return (g * slope * jnp.float16(1.2 if wrong else 1.0),)

    f, x = custom(loss_scaled, bwd), normal(0, 6, dtype=jnp.float16)
    return Case(lambda x: 8192 * jnp.sum(f(x)).astype(jnp.float32), (x,))


@row("quartic", "the small entries beside large ones are twice too large", FP16)
def small_entries_beside_large_ones(wrong):
    def quartic(x):
        return 0.79788456 * x**4

    def bwd(kept, g):
        (x,) = kept
        return (g * 4 * 0.79788456 * x**3 * jnp.where(x < 1, 2.0 if wrong else 1.0, 1.0),)

    f = custom(quartic, bwd)
    return Case(lambda x: jnp.sum(f(x)), (jnp.array([0.01, 0.1, 10.0, 30.0]),))


@row(
    "splat", "the entry off the diagonal counts once, of data that the loss makes itself", CONIC, 1
)
def off_diagonal_counts_once(wrong):
    def splat(points, conic):
        x, y = points[:, 0], points[:, 1]
        return jnp.exp(-0.5 * (conic[0] * x**2 + 2 * conic[1] * x * y + conic[2] * y**2))

    def bwd(kept, g):
        points, (a, b, c) = kept
        e = g * splat(*kept)
        x, y = points[:, 0], points[:, 1]
        twice = -0.5 if wrong else -1.0
        terms = jnp.stack([-0.5 * x**2, twice * x * y, -0.5 * y**2])
        return -jnp.stack([e * (a * x + b * y), e * (b * x + c * y)], 1), terms @ e

    f, points = custom(splat, bwd), np.asarray(normal(0, 6, 2))
    fun = lambda conic: jnp.sum(f(jnp.asarray(points), conic) ** 2)
    return Case(fun, (jnp.array([1.5, 0.4, 0.8]),))
