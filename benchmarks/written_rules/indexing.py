"""Gathers, scatters and sums over segments."""

import jax
import jax.numpy as jnp

from benchmarks.written_rules.row import Case, custom, normal, row

GATHER = "https://github.com/pytorch/pytorch/issues/1631"
PADDLE = "https://github.com/PaddlePaddle/Paddle/pull/17662"
SCATTER = "https://github.com/PaddlePaddle/Paddle/pull/30604"
UPDATE = "https://github.com/tensorflow/tensorflow/issues/56961"
MXNET = "https://github.com/apache/mxnet/issues/17703"
SHORTER = "https://github.com/pytorch/pytorch/pull/188843"
SORT = "https://github.com/pytorch/pytorch/issues/57166"
EQUALS = "https://github.com/Theano/Theano/issues/4568"
IDS = jnp.array([2, 0, 2, 1, 4, 2])


def embedding(wrong):
    """Gather rows by a rule that overwrites, or adds, where an index repeats."""

    def embed(table, ids):
        return table[ids]

    def bwd(kept, g):
        table, ids = kept
        zeros = jnp.zeros_like(table)
        return (zeros.at[ids].set(g) if wrong else zeros.at[ids].add(g)), None

    return custom(embed, bwd)


@row("embed", "overwrites where an index repeats", GATHER)
def repeated_indices_overwrite(wrong):
    f, w = embedding(wrong), normal(1, 6, 3)
    return Case(lambda table: jnp.sum(w * jnp.tanh(f(table, IDS))), (normal(0, 5, 3),))


@row("embed", "overwrites where an index repeats, under vmap", PADDLE)
def repeated_indices_overwrite_under_vmap(wrong):
    f = embedding(wrong)
    ids = jnp.stack([IDS, IDS[::-1]])
    return Case(lambda table: jnp.sum(jax.vmap(f, (None, 0))(table, ids) ** 3), (normal(0, 5, 3),))


@row("embed", "adds up in float16", MXNET)
def embedding_accumulates_in_float16(wrong):
    def embed(table, ids):
        return table[ids]

    def bwd(kept, g):
        table, ids = kept
        dtype = jnp.float16 if wrong else table.dtype
        total = jnp.zeros(table.shape, dtype).at[ids].add(g.astype(dtype))
        return total.astype(table.dtype), None

    f, ids = custom(embed, bwd), jnp.arange(600) % 4
    return Case(lambda table: jnp.sum(f(table, ids) ** 2), (normal(0, 4, 2),))


@row("put", "the array that is written to keeps its cotangent there", SCATTER)
def overwritten_entries_keep_their_cotangent(wrong):
    def put(x, value):
        return x.at[jnp.array([1, 3])].set(value)

    def bwd(_, g):
        at = jnp.array([1, 3])
        return (g if wrong else g.at[at].set(0.0)), g[at]

    f, w = custom(put, bwd), normal(2, 5)
    return Case(lambda x, v: jnp.sum(w * f(x, v) ** 2), (normal(0, 5), normal(1, 2)))


@row("update", "gives every writer the cotangent of an entry that one of them wrote", UPDATE, 1)
def every_writer_gets_the_cotangent(wrong):
    def update(x, value):
        return x.at[jnp.array([1, 1, 3])].max(value)

    def bwd(kept, g):
        x, value = kept
        at = jnp.array([1, 1, 3])
        y = x.at[at].max(value)
        won = value == y[at]
        return jnp.where(x == y, g, 0.0), (g[at] if wrong else jnp.where(won, g[at], 0.0))

    f, w = custom(update, bwd), normal(2, 5)
    return Case(lambda x, v: jnp.sum(w * f(x, v)), (normal(0, 5), normal(1, 3)))


@row("segment_total", "gathers by the position, not by the segment", PADDLE)
def segments_are_gathered_by_position(wrong):
    def segment_total(x, ids):
        return jax.ops.segment_sum(x, ids, 5)

    def bwd(kept, g):
        x, ids = kept
        return g[jnp.arange(x.shape[0]) % 5 if wrong else ids], None

    f, w = custom(segment_total, bwd), normal(1, 5)
    return Case(lambda x: jnp.sum(w * f(x, IDS) ** 2), (normal(0, 6),))


@row("segment_mean", "divides by the number of segments", PADDLE, x64=True)
def segment_mean_divides_by_the_wrong_count(wrong):
    def segment_mean(x, ids):
        count = jnp.maximum(jax.ops.segment_sum(jnp.ones_like(x), ids, 5), 1)
        return jax.ops.segment_sum(x, ids, 5) / count

    def bwd(kept, g):
        x, ids = kept
        count = jnp.maximum(jax.ops.segment_sum(jnp.ones_like(x), ids, 5), 1)
        return (g[ids] / 5 if wrong else (g / count)[ids]), None

    f = custom(segment_mean, bwd)
    return Case(lambda x: jnp.sum(jnp.sin(f(x, IDS))), (normal(0, 6, dtype=jnp.float64),))


@row("ordered", "the permutation in place of its inverse", SORT)
def sort_without_the_inverse_permutation(wrong):
    def ordered(x):
        return jnp.sort(x)

    def bwd(kept, g):
        order = jnp.argsort(kept[0])
        return (g[order] if wrong else jnp.zeros_like(g).at[order].set(g),)

    f, w = custom(ordered, bwd), normal(1, 7)
    return Case(lambda x: jnp.sum(w * f(x)), (normal(0, 7),))


@row("shorter", "spreads the cotangent over what was not read", SHORTER)
def unread_entries_get_a_cotangent(wrong):
    def shorter(x):
        return x[:4] * 2

    def bwd(_, g):
        return (jnp.concatenate([2 * g, 2 * g[:2]]) if wrong else jnp.pad(2 * g, (0, 2)),)

    f = custom(shorter, bwd)
    return Case(lambda x: jnp.sum(f(x) ** 2), (normal(0, 6),))


@row("largest", "gives each of equal entries the whole cotangent", EQUALS)
def equal_entries_each_get_the_cotangent(wrong):
    def largest(x):
        return x.max(-1)

    def bwd(kept, g):
        (x,) = kept
        first = jax.nn.one_hot(jnp.argmax(x, -1), x.shape[-1], dtype=g.dtype)
        equal = (x == x.max(-1, keepdims=True)).astype(g.dtype)
        return ((equal if wrong else first) * g[:, None],)

    f, w = custom(largest, bwd), normal(1, 3)
    x = jnp.array([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0], [0.5, -1.0, 0.0]])
    return Case(lambda x: jnp.sum(w * f(x) ** 2), (x,))
