"""Prints and checks happen once; foreign code in the gradient's way says so."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.experimental import checkify, io_callback

import fbp
from tests.support.agreement import assert_same

X = jnp.linspace(0.2, 1.4, 4)
NUMBERS = jax.ShapeDtypeStruct((4,), "float32")


def loud(x, seen, ordered):
    jax.debug.callback(lambda v: seen.append(float(v[0])), x, ordered=ordered)
    return jnp.sin(x)


def loop(step):
    return lambda x: lax.scan(lambda c, _: (step(c), None), x, length=3)[0]


def branch(step):
    return lambda x: lax.cond(x[0] > 0, step, jnp.cos, x)


def recomputed(step):
    return jax.checkpoint(lambda x: jnp.sin(step(x)))


def recomputed_by_policy(step):
    return jax.checkpoint(lambda x: jnp.sin(step(x)), policy=jax.checkpoint_policies.dots_saveable)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(
    ("around", "times"),
    [
        (lambda step: step, 1),
        (jax.jit, 1),
        (loop, 3),
        (branch, 1),
        (recomputed, 1),
        (lambda step: recomputed(loop(step)), 3),
        (lambda step: recomputed(branch(step)), 1),
        (lambda step: recomputed(jax.jit(step)), 1),
        (lambda step: recomputed_by_policy(loop(step)), 3),
        (lambda step: loop(recomputed(step)), 3),
        (lambda step: loop(jax.jit(step)), 3),
    ],
    ids=["plain", "jit", "scan", "cond", "checkpoint", "checkpoint_scan", "checkpoint_cond",
         "checkpoint_jit", "policy_scan", "scan_checkpoint", "scan_jit"],
)  # fmt: skip
def test_a_callback_is_called_once_and_in_order(around, times, ordered):
    seen = []
    layer = around(functools.partial(loud, seen=seen, ordered=ordered))

    def loss(x):
        return jnp.sum(layer(x))

    value, pullback = fbp.vjp(loss, X)
    pullback(jnp.ones_like(value))
    jax.effects_barrier()
    assert len(seen) == times
    fbp.grad(loss)(X)
    jax.jit(fbp.grad(loss))(X)
    jax.effects_barrier()
    assert len(seen) == 3 * times
    if ordered:
        assert seen == sorted(seen[:times], reverse=True) * 3


def test_a_print_is_printed_once(capsys):
    def loss(x):
        jax.debug.print("x is {}", x)
        return x * x

    assert fbp.grad(loss)(3.0) == 6
    jax.effects_barrier()
    assert capsys.readouterr().out == "x is 3.0\n"


def test_shardings_are_inspected():
    seen = []

    def loss(x):
        jax.debug.inspect_array_sharding(x * x, callback=seen.append)
        return jnp.sum(x * x)

    assert_same(fbp.grad(loss)(X), 2 * X)
    assert len(seen) == 1


def test_checks_are_checked():
    def logarithm(x):
        checkify.check(x > 0, "not positive")
        return jnp.log(x)

    checked = checkify.checkify(fbp.grad(lambda x: jax.jit(logarithm)(x)))
    error, slope = checked(2.0)
    assert (error.get(), slope) == (None, 0.5)
    assert "not positive" in str(checked(-2.0)[0].get())
    assert fbp.grad(lambda x: checkify.checkify(logarithm)(x)[1])(2.0) == 0.5


FOREIGN = {
    "pure_callback": lambda x: jax.pure_callback(lambda x: x, NUMBERS, x),
    "io_callback": lambda x: io_callback(lambda x: x, NUMBERS, x),
    "ffi_call": lambda x: jax.ffi.ffi_call("unknown", NUMBERS)(x),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("around", [lambda f: f, jax.jit, loop, branch, jax.checkpoint])
def test_foreign_code_in_the_way_is_named(name, around):
    layer = around(FOREIGN[name])
    with pytest.raises(ValueError, match=f"'{name}', used at .*test_effects.py:.*custom_vjp"):
        fbp.grad(lambda x: jnp.sum(layer(x)))(X)


@pytest.mark.parametrize("name", ["pure_callback", "io_callback"])
@pytest.mark.parametrize("around", [lambda f: f, jax.jit, loop, branch])
def test_foreign_code_beside_the_way_runs(name, around):
    layer = around(lambda x: x * FOREIGN[name](lax.stop_gradient(x)))
    plain = around(lambda x: x * lax.stop_gradient(x))
    got, want = (fbp.grad(lambda x, f=f: jnp.sum(f(x)))(X) for f in (layer, plain))
    assert_same(got, want)


def test_foreign_code_with_a_rule_has_a_derivative():
    doubled = jax.custom_vjp(FOREIGN["pure_callback"])
    doubled.defvjp(lambda x: (doubled(x), None), lambda _, ct: (2 * ct,))
    assert_same(fbp.grad(lambda x: jnp.sum(doubled(x)))(X), jnp.full(4, 2.0, "float32"))
