"""scan stays scan, and keeps no more than it must."""

import functools

import chex
import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import fbp
from tests.support.agreement import assert_jitted_grad, assert_same, total
from tests.support.jaxprs import staged

W = jnp.linspace(0.1, 2.0, 4)
H = jnp.linspace(-0.5, 1.0, 4)
XS = jnp.linspace(-1.0, 1.3, 12).reshape(3, 4)


def step(w, c, x):
    return jnp.sin(c * w) + x


def scan(body, init, xs, **options):
    return lax.scan(body, init, xs, **options)


SCANS = {
    "plain": lambda w, h, xs: scan(lambda c, x: (step(w, c, x), c), h, xs),
    "reverse": lambda w, h, xs: scan(lambda c, x: (step(w, c, x), c), h, xs, reverse=True),
    "unroll": lambda w, h, xs: scan(lambda c, x: (step(w, c, x), c), h, xs, unroll=2),
    "unrolled": lambda w, h, xs: scan(lambda c, x: (step(w, c, x), c), h, xs, unroll=True),
    "length_0": lambda w, h, xs: scan(lambda c, x: (step(w, c, x), c), h, xs[:0]),
    "length_1": lambda w, h, xs: scan(lambda c, x: (step(w, c, x), c), h, xs[:1]),
    "no_xs": lambda w, h, xs: scan(lambda c, _: (step(w, c, xs[0]), None), h, None, length=3),
    "no_carry": lambda w, h, xs: scan(lambda c, x: ((), step(w, h, x)), (), xs),
    "carry_only": lambda w, h, xs: scan(lambda c, x: (step(w, c, x), c), h, xs)[0],
    "stack_only": lambda w, h, xs: scan(lambda c, x: (step(w, c, x), c), h, xs)[1],
    "some_of_the_stack": lambda w, h, xs: scan(
        lambda c, x: (step(w, c, x), (c, jnp.cos(x))), h, xs
    )[1][0],
    "constant_stacked": lambda w, h, xs: scan(lambda c, x: (c * w + x, w), h, xs),
    "made_of_constants": lambda w, h, xs: scan(lambda c, x: (c * jnp.exp(w), jnp.exp(w)), h, xs),
    "xs_stacked": lambda w, h, xs: scan(lambda c, x: (c * w * x, (x, x, c, c)), h, xs),
    "literal_stacked": lambda w, h, xs: scan(lambda c, x: (c * w * x, 1.0), h, xs),
    "literal_carried": lambda w, h, xs: scan(
        lambda c, x: ((c[0] * w * x, 2.0), c[1]), (h, 1.0), xs
    ),
    "constant_carry": lambda w, h, xs: scan(lambda c, x: ((c[0] * c[1] * x, c[1]), c), (h, w), xs),
    "swapped_carry": lambda w, h, xs: scan(lambda c, x: ((c[1] * x, c[0]), c[0]), (h, w), xs),
    "carry_from_xs": lambda w, h, xs: scan(lambda c, x: (x, c * w), h, xs),
    "carry_from_constant": lambda w, h, xs: scan(lambda c, x: (w, c * x), h, xs),
    "carry_reset": lambda w, h, xs: scan(
        lambda c, x: ((c[0] + c[1] * w, jnp.zeros(4)), None), (h, h), xs
    ),
    "useless_carry": lambda w, h, xs: scan(
        lambda c, x: ((c[0] * w, c[1] * x), c[0]), (h, h), xs
    )[1],
    "stopped_carry": lambda w, h, xs: scan(
        lambda c, x: (lax.stop_gradient(c) * w + x, c), h, xs
    ),
    "integer_carry": lambda w, h, xs: scan(
        lambda c, x: ((c[0] * w * c[1].astype(w.dtype), c[1] + 1), c[0]), (h, jnp.int32(1)), xs
    )[1],
    "integer_xs": lambda w, h, xs: scan(
        lambda c, i: (c * w * i.astype(w.dtype), c), h, jnp.arange(3)
    ),
    "key_carry": lambda w, h, xs: scan(
        lambda c, x: (
            (c[0] * w * jax.random.normal(c[1], (4,)), jax.random.split(c[1])[0]),
            c[0],
        ),
        (h, jax.random.key(0)),
        xs,
    )[1],
    "trees": lambda w, h, xs: scan(
        lambda c, x: ({"a": c["b"] * x["x"], "b": c["a"] * w}, [c]), {"a": h, "b": w}, {"x": xs}
    ),
    "closed_over_array": lambda w, h, xs: scan(
        lambda c, x: (c * jnp.cos(jnp.arange(4.0)) * w, c), h, xs
    ),
    "matrix": lambda w, h, xs: scan(
        lambda c, x: (jnp.tanh(jnp.outer(w, h) @ c + x), c), h, xs
    ),
    "batched_matrix": lambda w, h, xs: scan(
        lambda c, x: (jnp.tanh(c @ jnp.outer(w, h) + x[None]), c), jnp.stack([h, w]), xs
    ),
    "nested": lambda w, h, xs: scan(
        lambda c, x: (scan(lambda d, y: (step(w, d, y), d), c, jnp.stack([x, c]))[0], c), h, xs
    ),
    "cond_inside": lambda w, h, xs: scan(
        lambda c, x: (lax.cond(x[0] > 0, jnp.sin, lambda c: c * w, c), c), h, xs
    ),
    "scan_in_cond_in_scan": lambda w, h, xs: scan(
        lambda c, x: (
            lax.cond(
                x[0] > 0,
                lambda c: scan(lambda d, _: (step(w, d, x), None), c, None, length=2)[0],
                lambda c: c * c,
                c,
            ),
            c,
        ),
        h,
        xs,
    ),
    "jit_body": lambda w, h, xs: scan(jax.jit(lambda c, x: (step(w, c, x), c)), h, xs),
    "checkpoint_body": lambda w, h, xs: scan(
        jax.checkpoint(lambda c, x: (step(w, c, x), c)), h, xs
    ),
    "inside_checkpoint": lambda w, h, xs: jax.checkpoint(
        lambda h: scan(lambda c, x: (step(w, c, x), c), h, xs)
    )(h),
    "vmapped": lambda w, h, xs: jax.vmap(
        lambda h: scan(lambda c, x: (step(w, c, x), c), h, xs)
    )(jnp.stack([h, w])),
    "vmap_inside": lambda w, h, xs: scan(
        lambda c, x: (jax.vmap(jnp.arctan2)(c, w) + x, c), h, xs
    ),
    "map": lambda w, h, xs: lax.map(lambda x: step(w, h, x), xs),
    "associative_scan": lambda w, h, xs: lax.associative_scan(jnp.multiply, xs * w[None]),
    "fori_loop": lambda w, h, xs: lax.fori_loop(0, 3, lambda i, c: step(w, c, xs[0]), h),
    "fori_loop_indexing": lambda w, h, xs: lax.fori_loop(0, 3, lambda i, c: step(w, c, xs[i]), h),
}  # fmt: skip


@pytest.mark.parametrize("name", SCANS)
def test_gradient_of_scan(name):
    fun = SCANS[name]
    assert_jitted_grad(lambda *args: total(fun(*args)), W, H, XS, argnums=(0, 1, 2), tolerance=8)


@pytest.mark.parametrize("argnums", [0, 1, 2])
def test_gradient_of_scan_in_one_argument(argnums):
    assert_jitted_grad(
        lambda *args: total(SCANS["plain"](*args)), W, H, XS, argnums=argnums, tolerance=8
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "complex64"])
def test_gradient_of_scan_in_other_dtypes(dtype):
    def loss(w, h, xs):
        return jnp.sum(jnp.real(scan(lambda c, x: (jnp.tanh(c * w + x), c), h, xs)[0]))

    args = [x.astype(dtype) for x in (W, H, XS)]
    gradient = functools.partial(fbp.grad, argnums=(0, 1, 2))
    reference = functools.partial(jax.grad, argnums=(0, 1, 2))
    assert_same(jax.jit(gradient(loss))(*args), jax.jit(reference(loss))(*args), tolerance=8)


def test_weakly_typed_carries():
    assert_jitted_grad(lambda w: total(scan(lambda c, _: (c * w, c), 1.0, None, length=3)), 2.0)


def test_effects_in_a_loop_happen_once_an_iteration(capsys):
    def loss(w):
        def body(c, x):
            jax.debug.print("{}", x[0], ordered=False)
            jax.debug.print("constant", ordered=False)
            return c * jnp.sin(w) * x, None

        return total(scan(body, H, XS))

    fbp.grad(loss)(W)
    jax.effects_barrier()
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line == "constant"]) == 3
    assert len(lines) == 6


def test_loops_in_a_custom_rule_are_linear_in_their_operands():
    f = jax.custom_jvp(lambda x: x)

    @f.defjvp
    def _(primals, tangents):
        (x,), (dx,) = primals, tangents

        def body(carry, scale):
            c, d = carry
            return (jnp.sin(c), d * jnp.cos(c) * scale), d

        (_, dx), _ = scan(body, (x, dx), XS)
        return x, dx

    assert_jitted_grad(lambda w: total(f(w)), W)


# What a loop keeps


def stacked_bytes(gradient, *args):
    """Bytes that the forward loops stack for the backward ones, and their shapes per step."""
    loops = [eqn for eqn in staged(gradient, *args) if str(eqn.primitive) == "scan"]
    forward, backward = loops[0], loops[-1]
    num_carry = len(forward.outvars) - sum(
        a.aval.ndim > b.ndim
        for a, b in zip(forward.outvars, forward.params["jaxpr"].out_avals, strict=True)
    )
    stacks = set(forward.outvars[num_carry:]) & set(backward.invars)
    return sum(v.aval.size * v.aval.dtype.itemsize for v in stacks), [v.aval.shape for v in stacks]


def rnn(params, xs):
    def cell(h, x):
        h = jnp.tanh(x @ params["x"] + h @ params["h"] + params["b"][None])
        return h, h

    h, hs = scan(cell, jnp.zeros((xs.shape[1], params["h"].shape[0])), xs)
    return jnp.mean(hs**2) + jnp.sum(h)


def lstm(params, xs):
    def cell(carry, x):
        h, c = carry
        gates = x @ params["x"] + h @ params["h"] + params["b"][None]
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((xs.shape[1], params["h"].shape[0]))
    (h, _), hs = scan(cell, (zero, zero), xs)
    return jnp.mean(hs**2) + jnp.sum(h)


def parameters(width, gates):
    keys = jax.random.split(jax.random.key(0), 3)
    scale = 1 / jnp.sqrt(width)
    return {
        "x": jax.random.normal(keys[0], (3, gates * width)) * scale,
        "h": jax.random.normal(keys[1], (width, gates * width)) * scale,
        "b": jax.random.normal(keys[2], (gates * width,)) * scale,
    }


@pytest.mark.parametrize(("model", "gates"), [(rnn, 1), (lstm, 4)], ids=["rnn", "lstm"])
def test_a_recurrent_network_stacks_no_more_than_jax_does(model, gates):
    params, xs = parameters(5, gates), jax.random.normal(jax.random.key(1), (7, 2, 3))
    assert_jitted_grad(model, params, xs, tolerance=16)
    mine, shapes = stacked_bytes(fbp.grad(model), params, xs)
    theirs, _ = stacked_bytes(jax.grad(model), params, xs)
    assert mine <= theirs, shapes


@pytest.mark.parametrize(("model", "gates"), [(rnn, 1), (lstm, 4)], ids=["rnn", "lstm"])
def test_constants_of_a_loop_are_not_stacked(model, gates):
    params, xs = parameters(5, gates), jax.random.normal(jax.random.key(1), (7, 2, 3))
    constants = {p.shape for p in jax.tree.leaves(params)} | {
        p.T.shape for p in jax.tree.leaves(params)
    }
    _, shapes = stacked_bytes(fbp.grad(model), params, xs)
    assert not {shape[1:] for shape in shapes} & constants


def test_what_is_made_of_constants_is_made_once():
    def loss(w):
        return jnp.sum(scan(lambda c, x: (c * jnp.exp(w) + jnp.sin(x * w), None), H, XS)[0])

    _, shapes = stacked_bytes(fbp.grad(loss), W)
    assert (3, 4) in shapes  # the carry
    assert len(shapes) == 1


def test_cheap_work_is_done_again_rather_than_stacked():
    def loss(w):
        def body(c, x):
            return jnp.sin(jnp.cos(jnp.tanh(c + x))) * w, None

        return jnp.sum(scan(body, H, XS)[0])

    size, shapes = stacked_bytes(fbp.grad(loss), W)
    assert shapes == [(3, 4)]
    assert size < stacked_bytes(jax.grad(loss), W)[0]
    assert_jitted_grad(loss, W)


def test_names_in_a_loop_survive():
    def loss(w):
        def body(c, x):
            with jax.named_scope("cell"):
                return checkpoint_name(jnp.sin(c * w), "hidden") + x, None

        return jnp.sum(scan(body, H, XS)[0])

    stacks = [
        str(eqn.source_info.name_stack)
        for eqn in staged(fbp.grad(loss), W)
        if str(eqn.primitive) == "cos"
    ]
    assert stacks
    assert all("cell" in stack for stack in stacks)


def test_a_scan_stays_a_scan_in_both_directions():
    loops = [
        eqn
        for eqn in staged(fbp.grad(lambda w: total(SCANS["plain"](w, H, XS))), W)
        if str(eqn.primitive) == "scan"
    ]
    assert [eqn.params["reverse"] for eqn in loops] == [False, True]


def test_a_loop_body_is_traced_once_per_gradient():
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def body(c, x):
        return jnp.sin(c) + x, None

    gradient = jax.jit(fbp.grad(lambda h: total(scan(body, h, XS)[0])))
    gradient(H)
    gradient(H + 1)


def test_the_last_state_is_the_next_iterations_first():
    def loss(params, h):
        def body(h, _):
            return jnp.tanh(h @ params["h"] + params["b"][None]), None

        return total(scan(body, h, None, length=7)[0])

    params, h = parameters(5, 1), jnp.ones((2, 5))
    _, shapes = stacked_bytes(fbp.grad(loss), params, h)
    assert shapes == [(7, 2, 5)]
    assert_jitted_grad(loss, params, h, argnums=(0, 1), tolerance=16)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [31, 32, 33, 64, 100])
def test_sums_over_chunks_are_sums_over_iterations(length, reverse):
    params, xs = parameters(5, 4), jax.random.normal(jax.random.key(1), (length, 2, 3)) / 4

    def loss(params, xs):
        return lstm(params, xs[::-1] if reverse else xs)

    assert_jitted_grad(loss, params, xs, argnums=(0, 1), tolerance=32)


def test_second_derivative_of_a_loop_in_chunks():
    params, xs = parameters(3, 1), jax.random.normal(jax.random.key(1), (32, 2, 3)) / 4

    def product(library):
        gradient = library.grad(lambda params: rnn(params, xs))
        return jax.jit(lambda params: library.vjp(gradient, params)[1](params)[0])(params)

    assert_same(product(fbp), product(jax), 64)


def test_no_stack_of_cotangents_is_longer_than_a_chunk():
    params, xs = parameters(5, 4), jnp.ones((64, 2, 3))
    assert _longest(fbp.grad(lstm), params, xs, width=20) == 16


def _longest(gradient, *args, width):
    """The length of the longest stack of rows of this width that a loop makes."""
    shapes = [v.aval.shape for eqn in staged(gradient, *args) for v in eqn.outvars]
    return max(shape[0] for shape in shapes if len(shape) == 3 and shape[-1] == width)
