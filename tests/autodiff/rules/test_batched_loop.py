"""The gradient of a batch of loops is the sum of the gradients lane by lane, whatever the body does
at a state from which no lane steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import fbp
from tests.support.agreement import assert_same
from tests.support.jaxprs import staged

TRIPS = jnp.array([0, 2, 5, 0])
XS = jnp.array([0.0, 2.0, 3.0, 0.0])
W = jnp.array([0.7, 1.3])


def written_out(more, body, state):
    """The loop, step by step, which JAX differentiates."""
    while more(state):
        state = body(state)
    return state


def lane_by_lane(fun, trips=TRIPS):
    trips = trips.tolist()
    return lambda w, xs: sum(fun(w, xs[i], n, written_out) for i, n in enumerate(trips))


def batched(fun, trips=TRIPS):
    lane = functools.partial(fun, run=lax.while_loop)
    return lambda w, xs: jnp.sum(jax.vmap(lane, (None, 0, 0))(w, xs, trips))


def count_to(n, step, state, run):
    """fori_loop(0, n, step, state)"""
    return run(lambda c: c[0] < n, lambda c: (c[0] + 1, step(*c)), (0, state))[1]


def over_factorial(w, x, n, run):
    return run(lambda c: c[1] > 0, lambda c: (c[0] * w[0] / c[1], c[1] - 1), (x, n))[0]


def counter_divides(w, x, n, run):
    return count_to(n, lambda i, y: y * w[1] / (n - i), x + 1, run)


def singular_constant(w, x, n, run):
    return count_to(n, lambda i, y: jnp.sum(w) * y / x, 1.0, run)


def norm_of_the_rest(w, x, n, run):
    """The last state is a zero vector, whose norm has no derivative."""
    step = jnp.stack([x, x * x])

    def body(_, c):
        left, y = c
        return left - step, y + jnp.dot(left / jnp.linalg.norm(left), w)

    return count_to(n, body, (step * n, x), run)[1]


def root_of_what_is_left(w, x, n, run):
    def body(i, y):
        left = x * (n - i)
        return y + w[0] * jnp.sqrt(left) * jnp.log(left)

    return count_to(n, body, x, run)


def loop_in_a_loop(w, x, n, run):
    def body(i, y):
        return count_to(n - i, lambda j, z: z * w[0] / (x * (n - i - j)), y, run)

    return count_to(n, body, 1.0, run)


def cond_in_a_loop(w, x, n, run):
    def body(i, y):
        return lax.cond(i % 2 == 0, lambda y: y * w[0] / x, lambda y: y / (w[1] * x), y)

    return count_to(n, body, 1.0, run)


def keys_and_complex(w, x, n, run):
    def body(_, c):
        key, y, z = c
        key, sub = jax.random.split(key)
        return key, y * jax.random.uniform(sub) / x, z * (w[0] + 1j * w[1]) / x

    _, y, z = count_to(n, body, (jax.random.key(0), 1.0, 1.0 + 0j), run)
    return y + jnp.real(z * jnp.conj(z))


def jit_and_custom_rule(w, x, n, run):
    inner = jax.jit(lambda y, x: jax.nn.silu(y) / (x * jax.nn.relu(w[0])))
    return count_to(n, lambda i, y: inner(y, x), 1.0, run)


LOOPS = [
    over_factorial, counter_divides, singular_constant, norm_of_the_rest, root_of_what_is_left,
    loop_in_a_loop, cond_in_a_loop, keys_and_complex, jit_and_custom_rule,
]  # fmt: skip


@pytest.fixture(autouse=True)
def mixed(standard_promotion):
    """Counters divide, and multiply, floats."""


@pytest.mark.parametrize("fun", LOOPS, ids=lambda f: f.__name__)
def test_gradient_of_a_batch_is_the_sum_of_those_of_its_lanes(fun):
    got = jax.jit(fbp.grad(batched(fun), (0, 1)))(W, XS)
    assert_same(got, jax.jit(jax.grad(lane_by_lane(fun), (0, 1)))(W, XS), 32)


@pytest.mark.parametrize(
    "fun", [over_factorial, singular_constant, norm_of_the_rest], ids=lambda f: f.__name__
)
def test_second_order_of_a_batch(fun):
    def along(library, fun):
        gradient = library.grad(fun, (0, 1))
        return lambda w, xs: sum(jnp.sum(jnp.sin(g)) for g in gradient(w, xs))

    want = jax.jit(jax.grad(along(jax, lane_by_lane(fun)), (0, 1)))(W, XS)
    assert_same(jax.jit(fbp.grad(along(fbp, batched(fun)), (0, 1)))(W, XS), want, 256)
    _, slope = jax.jit(lambda *args: jax.jvp(along(fbp, batched(fun)), args, args))(W, XS)
    assert_same(slope, sum(jnp.sum(g * x) for g, x in zip(want, (W, XS), strict=True)), 256)


def test_gradient_through_a_batch_of_gradients_of_loops():
    lane = functools.partial(singular_constant, run=lax.while_loop)
    per_lane = jax.vmap(fbp.grad(lane), (None, 0, 0))
    got = jax.jit(fbp.grad(lambda w, xs: jnp.sum(per_lane(w, xs, TRIPS)), (0, 1)))(W, XS)
    whole = jax.grad(lane_by_lane(singular_constant))
    assert_same(got, jax.jit(jax.grad(lambda w, xs: jnp.sum(whole(w, xs)), (0, 1)))(W, XS), 256)


def test_no_lane_and_no_step():
    for trips, xs in ((TRIPS * 0, XS), (TRIPS[:0], XS[:0])):
        gradient = fbp.grad(batched(singular_constant, trips), (0, 1))
        assert_same(jax.jit(gradient)(W, xs), (W * 0, xs * 0))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_constant_is_told_from_a_lanes_by_what_is_done_with_it(axis):
    """A matrix that all share, and one of each lane, both as large as there are lanes."""
    w = jnp.cos(jnp.arange(16.0)).reshape(4, 4)
    a = jnp.stack([w * 0, w.T, w + 1, w * 0], axis)
    h = jnp.linspace(-1, 1, 16).reshape(4, 4)

    def fun(w, a, h, n, run):
        step = lambda i, h: jnp.sin(a @ (w @ h) / jnp.linalg.norm(a))
        return jnp.sum(count_to(n, step, h, run))

    def batch(w, a, h):
        lane = functools.partial(fun, run=lax.while_loop)
        return jnp.sum(jax.vmap(lane, (None, axis, 1, 0))(w, a, h, TRIPS))

    def lanes(w, a, h):
        lanes = zip(jnp.moveaxis(a, axis, 0), h.T, TRIPS.tolist(), strict=True)
        return sum(fun(w, *lane, run=written_out) for lane in lanes)

    got = jax.jit(fbp.grad(batch, (0, 1, 2)))(w, a, h)
    assert_same(got, jax.jit(jax.grad(lanes, (0, 1, 2)))(w, a, h), 64)


def test_lanes_of_two_vmaps():
    trips = np.array([[0, 1, 2], [0, 0, 1]])
    ratio = jnp.where(trips == 0, jnp.zeros(()), 1.5)

    def fun(w, x, y, r, n, run):
        return count_to(n, lambda i, z: w[0] * z * y / (x * r), 1.0, run)

    inner = jax.vmap(functools.partial(fun, run=lax.while_loop), (None, 0, None, 0, 0))

    def batch(w, x, y, r):
        rows = jax.vmap(inner, (None, None, 0, 0, 0))
        return jnp.sum(rows(w, x, y, r, jnp.asarray(trips)))

    def lanes(w, x, y, r):
        cells = [(i, j) for i in range(2) for j in range(3)]
        return sum(fun(w, x[j], y[i], r[i, j], int(trips[i, j]), written_out) for i, j in cells)

    args = W, jnp.array([0.0, 2.0, 3.0]), jnp.array([1.0, 2.0]), ratio
    got = jax.jit(fbp.grad(batch, (0, 1, 2, 3)))(*args)
    assert_same(got, jax.jit(jax.grad(lanes, (0, 1, 2, 3)))(*args), 16)


SINGULAR = {
    "inverse": lambda x: 1 / x, "sign": lambda x: x / jnp.abs(x), "root": jnp.sqrt, "log": jnp.log,
    "power": lambda x: x**-0.5, "xlogx": lambda x: x * jnp.log(x), "sinc": lambda x: jnp.sin(x) / x,
    "norm": lambda x: jnp.linalg.norm(jnp.stack([x, x])), "regular": jnp.sin,
}  # fmt: skip


@settings(max_examples=8)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(SINGULAR)), st.sampled_from(["left", "x", "y"])),
        min_size=1,
        max_size=3,
    ),
    st.lists(st.integers(0, 4), min_size=2, max_size=2),
)
def test_no_body_is_seen_where_its_lane_has_ended(factors, trips):
    trips = jnp.array([0, *trips])

    def fun(w, x, n, run):
        def body(i, y):
            values = {"left": w[1] * (n - i), "x": x, "y": 2 + jnp.tanh(y)}
            made = [SINGULAR[f](values[v]) for f, v in factors]
            return y + w[0] * functools.reduce(jnp.multiply, made)

        return count_to(n, body, x, run)

    xs = jnp.where(trips == 0, 0.0, jnp.arange(1.0, 4.0))
    got = jax.jit(fbp.grad(batched(fun, trips), (0, 1)))(W, xs)
    assert_same(got, jax.jit(jax.grad(lane_by_lane(fun, trips), (0, 1)))(W, xs), 64)


def test_a_loop_that_is_no_batch_selects_nothing():
    equations = staged(fbp.grad(lambda w: over_factorial(w, 1.0, 3, lax.while_loop)), W)
    assert not [eqn for eqn in equations if str(eqn.primitive) == "gather"]
