"""Loops of unknown length have the gradient of the same loop written out."""

import functools
from collections import Counter

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import io_callback
from jax.extend.core import primitives as p

import fbp
from tests.support.agreement import assert_agree, assert_jitted_grad, assert_same, total
from tests.support.jaxprs import staged

W = jnp.linspace(0.3, 1.2, 3)
H = jnp.linspace(-0.5, 1.0, 3)
XS = jnp.linspace(-1.0, 1.3, 12).reshape(4, 3)


def loop(body, length, state):
    """A loop whose length only its condition knows."""
    return lax.while_loop(lambda c: c[0] < length, lambda c: (c[0] + 1, body(*c)), (0, state))[1]


def written_out(body, length, state):
    """The same loop, step by step."""
    for i in range(length):
        state = body(i, state)
    return state


def rotate(w, h, run, n):
    return run(lambda i, h: jnp.sin(w * h + i), n, h)


def two_states(w, h, run, n):
    def body(i, state):
        a, b = state
        return jnp.sin(a * w + b), a * 0.5

    return run(body, n, (h, w))


def handed_on(w, h, run, n):
    def body(i, state):
        fixed, h, more = state
        return fixed, jnp.tanh(h * fixed + more[0]), more

    return run(body, n, (w, h, (w[::-1],)))


def mixed_types(w, h, run, n):
    def body(i, state):
        key, count, mask, h, empty = state
        key, sub = jax.random.split(key)
        h = jnp.where(mask, h * w, h + w) * jax.random.uniform(sub, ())
        return key, count + 1, ~mask, h, empty * 2

    state = jax.random.key(0), jnp.int32(3), h > 0, h, jnp.zeros((0, 2))
    _, count, _, h, empty = run(body, n, state)
    return h * count.astype(h.dtype), empty


def unused_input(w, h, run, n):
    return run(lambda i, h: h * 1.5, n, h) + w


def starts_as_a_constant(w, h, run, n):
    return run(lambda i, state: jnp.cos(state + w * h), n, jnp.ones(3))


def not_reached(w, h, run, n):
    return run(lambda i, state: (state[0] * w, jnp.floor(state[1] * h)), n, (h, w))


def shifted_along(w, h, run, n):
    return run(lambda i, state: (w * h, state[0], state[1]), n, (h, h, h))


def scan_inside(w, h, run, n):
    def body(i, h):
        return lax.scan(lambda c, x: (jnp.sin(c * x), c), h, jnp.stack([w, h]))[0]

    return run(body, n, h)


def cond_inside(w, h, run, n):
    return run(lambda i, h: lax.cond(i % 2 == 0, jnp.sin, lambda h: h * w, h), n, h)


def checkpointed(w, h, run, n):
    return run(jax.checkpoint(lambda i, h: jnp.sin(jnp.sin(h * w))), n, h)


def loop_inside(w, h, run, n):
    return run(lambda i, h: run(lambda j, h: jnp.sin(h * w + j), n % 5, h), n, h)


def custom_rule_inside(w, h, run, n):
    return run(lambda i, h: jax.nn.relu(jax.nn.silu(h) - w / 8), n, h)


def weakly_typed(w, h, run, n):
    return run(lambda i, x: x * w[0], n, 1.0) * h


PROGRAMS = [
    rotate, two_states, handed_on, mixed_types, unused_input, starts_as_a_constant, not_reached,
    shifted_along, scan_inside, cond_inside, checkpointed, loop_inside, custom_rule_inside,
    weakly_typed,
]  # fmt: skip


def gradients(library, fun, run, length, *args, **options):
    return library.grad(lambda *args: total(fun(*args, run, length)), (0, 1), **options)(*args)


@pytest.mark.parametrize("fun", PROGRAMS, ids=lambda f: f.__name__)
def test_gradient_is_that_of_the_loop_written_out(fun):
    lengths = 0, 1, 2, 7
    gradient = jax.jit(lambda n, w, h: gradients(fbp, fun, loop, n, w, h))
    want = jax.jit(lambda w, h: [gradients(jax, fun, written_out, n, w, h) for n in lengths])
    for n, each in zip(lengths, want(W, H), strict=True):
        assert_same(gradient(n, W, H), each, 16)


@functools.cache
def with_many_places(fun):
    gradient = jax.jit(lambda n, w, h: gradients(fbp, fun, loop, n, w, h))
    return {n: gradient(n, W, H) for n in (3, 23)}


@pytest.mark.parametrize("places", [1, 2, 5])
@pytest.mark.parametrize("fun", [rotate, mixed_types, loop_inside], ids=lambda f: f.__name__)
def test_fewer_places_change_no_gradient(fun, places):
    rules = fbp.RULES | fbp.loop_checkpoints(places)
    few = jax.jit(lambda n, w, h: gradients(fbp, fun, loop, n, w, h, rules=rules))
    for n, want in with_many_places(fun).items():
        assert_same(few(n, W, H), want, 4)


def test_a_long_loop_has_the_gradient_of_a_scan():
    def with_scan(w):
        return lax.scan(lambda h, i: (jnp.sin(w * h + i), None), H, jnp.arange(3000.0))[0]

    def with_while(w, n):
        return loop(lambda i, h: jnp.sin(w * h + i.astype(h.dtype)), n, H)

    assert_agree(
        fbp.grad(lambda w, n: total(with_while(w, n))),
        jax.grad(lambda w, _: total(with_scan(w))),
        *(W, 3000),
        tolerance=64,
    )


def newton(x):
    """The square root, by as many steps as it takes."""

    def step(c):
        y, _ = c
        better = 0.5 * (y + x / y)
        return better, jnp.max(jnp.abs(better - y))

    return lax.while_loop(lambda c: c[1] > 1e-6, step, (x, jnp.ones((), x.dtype)))[0]


def test_eager_gradient_of_a_loop_that_decides_when_to_end():
    x = jnp.array([0.5, 2.0, 30.0])
    assert_same(fbp.grad(lambda x: jnp.sum(newton(x)))(x), 0.5 / jnp.sqrt(x), 8)


def test_each_of_a_batch_runs_its_own_number_of_steps():
    lengths, starts = jnp.array([0, 1, 9, 14]), jnp.linspace(0.1, 1.0, 12).reshape(4, 3)
    per_example = jax.vmap(lambda n, h: gradients(fbp, rotate, loop, n, W, h))
    got, trips = jax.jit(per_example)(lengths, starts), enumerate(lengths.tolist())
    want = jax.jit(
        lambda w: [gradients(jax, rotate, written_out, n, w, starts[i]) for i, n in trips]
    )
    for i, each in enumerate(want(W)):
        assert_same(jax.tree.map(lambda g, i=i: g[i], got), each, 32)


def test_gradient_of_a_batch_of_loops():
    lengths = jnp.array([2, 5])
    trips = lengths.tolist()
    assert_agree(
        fbp.grad(lambda w: total(jax.vmap(lambda n: rotate(w, H, loop, n))(lengths))),
        jax.grad(lambda w: total(jnp.stack([rotate(w, H, written_out, n) for n in trips]))),
        W,
        tolerance=8,
    )


def test_a_loop_in_a_scan():
    def run(w, run):
        return lax.scan(lambda h, n: (rotate(w, h, run, n), None), H, jnp.array([3, 0, 2]))[0]

    def unrolled(w):
        h = H
        for n in (3, 0, 2):
            h = rotate(w, h, written_out, n)
        return h

    ours, theirs = fbp.grad(lambda w: total(run(w, loop))), jax.grad(lambda w: total(unrolled(w)))
    assert_agree(ours, theirs, W, tolerance=16)


@pytest.mark.parametrize("n", [2, 6])
def test_second_order(n):
    def hessian(library, run, n):
        gradient = library.grad(lambda w: total(rotate(w, H, run, n)))
        return library.vjp(gradient, W)[1](H)

    rules = fbp.RULES | fbp.loop_checkpoints(3)

    def of_while(n):
        gradient = fbp.grad(lambda w: total(rotate(w, H, loop, n)), rules=rules)
        return fbp.vjp(gradient, W, rules=rules)[1](H)

    assert_agree(of_while, lambda _: hessian(jax, written_out, n), n, tolerance=64)


def test_forward_over_reverse():
    def product(library, run, n):
        gradient = library.grad(lambda w: total(rotate(w, H, run, n)))
        return jax.jvp(gradient, (W,), (H,))[1]

    ours, theirs = lambda n: product(fbp, loop, n), lambda _: product(jax, written_out, 6)
    assert_agree(ours, theirs, 6, tolerance=64)


def test_reverse_over_forward():
    def slope(w, run, n):
        return total(jax.jvp(lambda w: rotate(w, H, run, n), (w,), (H,))[1])

    assert_agree(
        lambda n: fbp.grad(lambda w: slope(w, loop, n))(W),
        lambda _: jax.grad(lambda w: slope(w, written_out, 6))(W),
        6,
        tolerance=64,
    )


def test_a_custom_jvp_rule_may_loop_over_tangents():
    @jax.custom_jvp
    def double(x, n):
        return x * 2.0**n

    @double.defjvp
    def tangent(primals, tangents):
        x, n = primals
        return double(x, n), lax.fori_loop(0, n, lambda _, t: t * 2, tangents[0])

    assert_agree(
        lambda n: fbp.grad(lambda w: total(double(w, n)))(W),
        lambda _: jax.grad(lambda w: total(w * 8))(W),
        3,
        tolerance=8,
    )


def test_complex_states():
    w = jnp.array([0.3 + 0.2j, 1.1 - 0.4j])

    def fun(w, run, n):
        return total(jnp.abs(run(lambda i, z: jnp.sin(z * w) + 0.1j * i, n, w)))

    assert_agree(
        lambda n: fbp.grad(lambda w: fun(w, loop, n))(w),
        lambda _: jax.grad(lambda w: fun(w, written_out, 6))(w),
        6,
        tolerance=32,
    )


def test_memory_does_not_grow_with_the_length():
    def temporary(n):
        gradient = fbp.grad(lambda w: total(rotate(w, jnp.ones(2000), loop, n)))
        compiled = jax.jit(gradient).lower(jnp.ones(2000)).compile()
        return compiled.memory_analysis().temp_size_in_bytes  # type: ignore[union-attr]

    assert temporary(10) == temporary(100_000) < 50 * 2000 * 4


def test_what_is_handed_on_is_not_saved():
    big = jnp.ones(1000)

    def fun(w, n):
        return total(loop(lambda i, s: (s[0], s[1] * jnp.sum(s[0])), n, (w, H))[1])

    equations = staged(lambda n: fbp.grad(fun)(big, n), 4)
    whiles = [eqn for eqn in equations if eqn.primitive.name == "while"]
    assert whiles
    assert all(v.aval.shape != (33, 1000) for eqn in whiles for v in eqn.invars)


def test_a_message_is_printed_once_per_step(capfd):
    def body(i, h):
        jax.debug.print("step {}", i)
        return jnp.sin(h * 2)

    jax.block_until_ready(jax.jit(lambda n: fbp.grad(lambda w: total(loop(body, n, w)))(W))(3))
    jax.effects_barrier()
    assert capfd.readouterr().out.split() == ["step", "0", "step", "1", "step", "2"]


BACKWARD_EFFECTS = {
    "io_callback": lambda log, ct: ct * io_callback(log, jax.typeof(ct), ct),
    "ordered io_callback": lambda log, ct: ct * io_callback(log, jax.typeof(ct), ct, ordered=True),
    "debug.callback": lambda log, ct: (jax.debug.callback(log, ct), ct)[1],
    "ordered debug.callback": lambda log, ct: (jax.debug.callback(log, ct, ordered=True), ct)[1],
    "jit": lambda log, ct: jax.jit(lambda ct: (jax.debug.callback(log, ct), ct)[1])(ct),
}


@pytest.mark.parametrize("name", BACKWARD_EFFECTS)
def test_effects_of_either_pass_run_once_per_step(name):
    seen = []

    def note(where):
        return lambda x: (seen.append(where), np.ones_like(x))[1]

    @jax.custom_vjp
    def wave(x):
        return jnp.sin(x)

    def backward(x, ct):
        return (BACKWARD_EFFECTS[name](note("backward"), ct) * jnp.cos(x),)

    wave.defvjp(lambda x: (jnp.sin(x), x), backward)

    def body(i, h):
        jax.debug.callback(note("forward"), h)
        h = jax.jit(lambda h: (jax.debug.callback(note("in jit"), h), h * 1.1)[1])(h)
        return wave(h * W)

    def plain(i, h):
        return jnp.sin(h * 1.1 * W)

    got = jax.jit(lambda n: fbp.grad(lambda h: total(loop(body, n, h)))(H))(5)
    jax.block_until_ready(got)
    jax.effects_barrier()
    assert_same(got, jax.jit(jax.grad(lambda h: total(written_out(plain, 5, h))))(H), 8)
    assert Counter(seen) == {"forward": 5, "in jit": 5, "backward": 5}


def test_an_effect_that_would_run_twice_for_its_value_raises():
    def body(i, h):
        seen = io_callback(lambda: np.float32(2), jax.ShapeDtypeStruct((), jnp.float32))
        return h * jax.jit(lambda x: lax.stop_gradient(x) + 1)(seen)

    message = "'io_callback', used at .*test_while_loop.py.*, would run twice"
    with pytest.raises(ValueError, match=message):
        fbp.grad(lambda h: total(loop(body, 3, h)))(H)


def test_residuals_of_a_loop_are_named():
    _, pullback = fbp.vjp(lambda w: loop(lambda i, h: jnp.sin(h * w), 5, H), W)
    made = [r for r in pullback.residuals if r.origin == "while"]
    assert [r.shape for r in made if r.dtype == jnp.float32] == [(33, 3)]
    assert all("test_while_loop.py" in r.source for r in made)


def test_a_loop_needs_a_place():
    with pytest.raises(ValueError, match="at least one state, but got 0"):
        fbp.loop_checkpoints(0)


def test_jitted_loops_with_static_bounds_are_scans():
    assert_jitted_grad(lambda w: total(lax.fori_loop(0, 4, lambda i, h: jnp.sin(h * w), H)), W)


def count_to_three(x):
    return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * 2), (0, x))[1]


@pytest.mark.parametrize(
    "fun",
    [
        lambda w: w * count_to_three(jnp.ones(3)),
        lambda w: w * count_to_three(lax.stop_gradient(w)),
        lambda w: w * lax.stop_gradient(count_to_three(w)),
        lambda w: w * count_to_three(jnp.int32(1)).astype(w.dtype),
        lambda w: w * jnp.argmax(count_to_three(w)).astype(w.dtype),
        lambda w: lax.scan(lambda c, x: (c * count_to_three(jnp.ones(3)), None), w, XS)[0],
        lambda w: w * count_to_three(jax.jit(lax.stop_gradient)(w)),
        lambda w: w * count_to_three(jax.jit(lambda w: (w, jnp.floor(w)))(w)[1]),
        lambda w: w * count_to_three(jax.checkpoint(jnp.round)(w)),
        lambda w: w * count_to_three(lax.cond(w[0] > 0, jnp.floor, jnp.ceil, w)),
        lambda w: w * count_to_three(lax.scan(lambda c, x: (c, jnp.floor(c * x)), w, XS)[1][0]),
        lambda w: w * count_to_three(lax.scan(lambda c, x: (jnp.floor(c + x), c), XS[0], XS)[0]),
    ],
    ids=[
        "constant", "stopped", "stopped_after", "integer", "index", "in_scan",
        "stopped_by_jit", "one_output_stopped", "stopped_by_checkpoint", "stopped_by_cond",
        "stopped_by_scan", "not_reached_by_scan",
    ],
)  # fmt: skip
def test_a_loop_off_the_way_of_the_gradient_saves_nothing(fun):
    without = fbp.Rules([rule for rule in fbp.RULES.values() if rule.primitive is not p.while_p])
    loss = lambda w: total(fun(w))
    assert_agree(fbp.grad(loss, rules=without), jax.grad(loss), W)


# What is saved of a state: what one iteration backward reads, and what that is computed from


def filled(w, n):
    def step(carry):
        i, y, ys = carry
        y = jnp.tanh(w * y + 0.1)
        return i + 1, y, ys.at[i].set(y)

    init = 0, jnp.ones(8), jnp.zeros((40, 8))
    return jnp.mean(lax.while_loop(lambda carry: carry[0] < n, step, init)[2] ** 2)


def registers(w, n):
    """Each part of the state becomes the next one; only the last is read by a product."""

    def step(carry):
        i, a, b, c, total = carry
        return i + 1, b, c, jnp.sin(w * a), total + c**2

    init = 0, w, 2 * w, 3 * w, jnp.zeros(8)
    return jnp.sum(lax.while_loop(lambda carry: carry[0] < n, step, init)[-1])


def unrolled(fun, w, n):
    with jax.disable_jit():
        return fun(w, n)


@pytest.mark.parametrize("fun", [filled, registers])
def test_a_state_is_computed_again_from_the_parts_that_are_saved(fun):
    w = jnp.linspace(0.1, 1.0, 8)
    expected = jax.grad(unrolled, 1)(fun, w, 40)
    chex.assert_trees_all_close(jax.jit(fbp.grad(fun))(w, 40), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.optimized  # memory is that of programs as users have them
def test_an_array_that_a_loop_fills_is_not_saved():
    gradient = jax.jit(lambda w: fbp.grad(filled)(w, 40)).lower(jnp.ones(8)).compile()
    memory = gradient.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 6 * 40 * 8 * 4
