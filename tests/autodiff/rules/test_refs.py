"""Mutable arrays within a function are values to the gradient; those from outside, constants."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.experimental.pallas import run_state
from jax.ref import addupdate, swap

import fbp
from tests.support.agreement import assert_jitted_grad, assert_same, total

X = jnp.linspace(0.2, 1.4, 4)


def squared(x):
    ref = jax.new_ref(x)
    ref[...] = ref[...] * x
    return jax.freeze(ref)


def in_place(x):
    ref = jax.new_ref(jnp.zeros((2, 4)))
    ref[0] = jnp.sin(x)
    addupdate(ref, 1, x * x)
    old = swap(ref, (1, slice(1, 3)), ref[0, :2])
    return ref[...] * jnp.sum(old)


def written_by_a_jit(x):
    ref = jax.new_ref(x)

    @jax.jit
    def step():
        ref[...] = jnp.sin(ref[...]) * x

    step()
    step()
    return jax.freeze(ref)


def written_by_a_loop(x):
    ref, history = jax.new_ref(x), jax.new_ref(jnp.zeros((3, 4)))

    def step(total, i):
        ref[...] = jnp.sin(ref[...])
        history[i] = ref[...] * total
        return total + jnp.sum(ref[...]), None

    total, _ = lax.scan(step, 0.0, jnp.arange(3))
    return jax.freeze(history) * total


def empty_at_first(x):
    ref = jax.empty_ref(jax.ShapeDtypeStruct((4,), "float32"))
    ref[...] = 2 * x
    value = ref[...]
    jax.free_ref(ref)
    return value


def made_by_a_branch(x):
    return lax.cond(x[0] > 0, squared, jnp.sin, x)


def made_by_an_iteration(x):
    return lax.scan(lambda c, _: (jax.checkpoint(squared)(c), c), x, length=2)


@pytest.mark.parametrize(
    "fun",
    [squared, in_place, written_by_a_jit, written_by_a_loop, empty_at_first, made_by_a_branch,
     made_by_an_iteration, jax.jit(squared)],
)  # fmt: skip
def test_what_a_function_makes_is_differentiated(fun):
    assert_jitted_grad(lambda x: total(fun(x)), X)


def test_of_many_and_twice():
    def loss(x):
        return total(written_by_a_jit(x))

    def pure(x):
        return total(jnp.sin(jnp.sin(x) * x) * x)

    def twice(lib, fun):
        return lib.grad(lambda x: jnp.sum(lib.grad(fun)(x) ** 2))

    xs = jnp.stack([X, X + 1])
    assert_same(jax.vmap(fbp.grad(loss))(xs), jax.vmap(jax.grad(pure))(xs), tolerance=8)
    assert_same(twice(fbp, loss)(X), twice(jax, pure)(X), tolerance=32)


def test_run_state():
    def step(refs):
        x, y = refs
        y[...] = jnp.sin(x[...]) * y[...]
        x[...] = x[...] * y[...]

    def plain(x, y):
        y = jnp.sin(x) * y
        return x * y, y

    got = fbp.grad(lambda x, y: total(run_state(step)((x, y))), (0, 1))(X, X + 1)
    want = jax.grad(lambda x, y: total(plain(x, y)), (0, 1))(X, X + 1)
    assert_same(got, want, tolerance=8)


@pytest.mark.parametrize("around", [lambda f: f, jax.jit, jax.checkpoint])
def test_an_array_from_outside_takes_what_is_not_differentiated(around):
    seen = jax.new_ref(jnp.zeros(4))

    @around
    def layer(x):
        seen[...] = lax.stop_gradient(x * 2)
        return x * x

    assert_same(fbp.grad(lambda x: jnp.sum(layer(x)))(X), 2 * X)
    assert_same(seen[...], 2 * X)


@pytest.mark.parametrize("around", [lambda f: f, jax.jit, jax.checkpoint])
def test_a_custom_rule_may_write_cotangents_to_an_array_from_outside(around):
    seen = jax.new_ref(jnp.zeros(4))
    tap = jax.custom_vjp(lambda x, ref: x)

    def backward(ref, ct):
        ref[...] = ct
        return ct, None

    tap.defvjp(lambda x, ref: (x, ref), backward)
    layer = around(lambda x: tap(x * 3, seen) ** 2)
    assert_same(fbp.grad(lambda x: jnp.sum(layer(x)))(X), 18 * X, tolerance=2)
    assert_same(seen[...], 6 * X)


@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize("around", [lambda f: f, jax.jit])
def test_what_is_differentiated_may_not_leave_through_an_array(add, around):
    seen = jax.new_ref(jnp.zeros(4))

    @around
    def layer(x):
        if add:
            addupdate(seen, ..., x)
        else:
            seen[...] = x
        return x * seen[...]

    with pytest.raises(ValueError, match=r"with a differentiated value.*test_refs.py:\d+"):
        fbp.grad(lambda x: jnp.sum(layer(x)))(X)


def test_an_array_may_be_made_not_to_be_differentiated():
    seen = jax.new_ref(jnp.zeros(4), kind="no_grad_no_remat")

    def layer(x):
        seen[...] = x
        return x * x

    assert_same(fbp.grad(lambda x: jnp.sum(jax.checkpoint(layer)(x)))(X), 2 * X)
    assert_same(seen[...], X)


@pytest.mark.parametrize("around", [lambda f: f, jax.jit, jax.checkpoint])
def test_a_custom_rule_stands_for_a_function_that_makes_an_array(around):
    tripled = jax.custom_vjp(squared)
    tripled.defvjp(lambda x: (squared(x), x), lambda x, ct: (3 * ct * x,))
    assert_same(fbp.grad(lambda x: jnp.sum(around(tripled)(x)))(X), 3 * X)


def test_a_number_may_be_written_to_an_array_from_outside():
    outside = jax.new_ref(jnp.float32(0))

    def fun(x):
        outside[...] = 1.0
        return x * x

    assert fbp.grad(fun)(3.0) == 6
    assert outside[...] == 1
