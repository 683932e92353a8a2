"""Branches: the one that ran forward runs backward."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import fbp
from tests.support.agreement import assert_jitted_grad, assert_same, total
from tests.support.jaxprs import primitives, staged

W = jnp.linspace(0.1, 2.0, 4)


def square(w):
    return w * w


CONDS = {
    "plain": lambda p, w: lax.cond(p > 0, jnp.sin, square, w),
    "captured": lambda p, w: lax.cond(p > 0, lambda: jnp.sin(w) * p, lambda: w),
    "captured_and_given": lambda p, w: lax.cond(p > 0, lambda w: jnp.sin(w) * p, square, w),
    "one_ignores_its_input": lambda p, w: lax.cond(p > 0, jnp.ones_like, square, w),
    "both_ignore_their_input": lambda p, w: lax.cond(p > 0, jnp.ones_like, jnp.zeros_like, w),
    "different_inputs": lambda p, w: lax.cond(p > 0, lambda a, b: a, lambda a, b: b * p, w, w + 1),
    "stopped": lambda p, w: lax.cond(p > 0, lax.stop_gradient, square, w),
    "integer_operand": lambda p, w: lax.cond(
        p > 0, lambda w, i: w * i.astype(w.dtype), lambda w, i: w, w, jnp.arange(4)
    ),
    "integer_output": lambda p, w: lax.cond(
        p > 0, lambda w: (w, jnp.int32(1)), lambda w: (w * w, jnp.int32(2)), w
    )[0],
    "tree": lambda p, w: lax.cond(
        p > 0, lambda t: {"x": t["y"], "y": t["x"]}, lambda t: t, {"x": w, "y": jnp.sin(w)}
    ),
    "one_output_twice": lambda p, w: lax.cond(
        p > 0, lambda w: (jnp.exp(w),) * 2, lambda w: (jnp.exp(w), w), w
    ),
    "pass_through": lambda p, w: lax.cond(p > 0, lambda w: (w, w), lambda w: (w, w * 2), w),
    "one_function_twice": lambda p, w: lax.cond(p > 0, jnp.sin, jnp.sin, w * p),
    "literals": lambda p, w: lax.cond(p > 0, lambda w: (1.0, w), lambda w: (2.0, square(w)), w),
    "nested": lambda p, w: lax.cond(
        p > 0, lambda w: lax.cond(p > 0.5, jnp.sin, jnp.cos, w), square, w
    ),
    "jit_inside": lambda p, w: lax.cond(p > 0, jax.jit(jnp.sin), square, w),
    "inside_jit": lambda p, w: jax.jit(lambda w: lax.cond(p > 0, jnp.sin, square, w))(w),
    "checkpoint_inside": lambda p, w: lax.cond(p > 0, jax.checkpoint(jnp.sin), square, w),
    "inside_checkpoint": lambda p, w: jax.checkpoint(lambda w: lax.cond(p > 0, jnp.sin, square, w))(
        w
    ),
    "scan_inside": lambda p, w: lax.cond(
        p > 0, lambda w: lax.scan(lambda c, _: (jnp.sin(c), c), w, length=3)[1][1], square, w
    ),
    "vmapped_operand": lambda p, w: jax.vmap(lambda w: lax.cond(p > 0, jnp.sin, square, w))(w),
    "vmapped_predicate": lambda p, w: jax.vmap(lambda w: lax.cond(w > 0.7, jnp.sin, square, w))(
        w * p
    ),
    "constant_predicate": lambda p, w: lax.cond(True, jnp.sin, square, w * p),
    "platform": lambda p, w: lax.platform_dependent(w * p, cpu=jnp.sin, default=square),
}


@pytest.mark.parametrize("name", CONDS)
def test_gradient_of_cond(name):
    def loss(p, w):
        return total(CONDS[name](p, w))

    mine, theirs = (jax.jit(library.value_and_grad(loss, (0, 1))) for library in (fbp, jax))
    for p in (jnp.float32(0.3), jnp.float32(-0.3)):
        assert_same(mine(p, W), theirs(p, W))


def test_gradient_of_switch_clamps_its_index():
    def loss(s, w, index):
        return total(lax.switch(index, [jnp.sin, lambda w: w * s, jnp.zeros_like], w))

    mine, theirs = (jax.jit(library.grad(loss, (0, 1))) for library in (fbp, jax))
    for index in (-1, 0, 1, 2, 7):
        assert_same(mine(jnp.float32(0.3), W, index), theirs(jnp.float32(0.3), W, index))


def test_gradient_of_a_switch_of_one_branch():
    assert_jitted_grad(lambda w: total(lax.switch(0, [jnp.sin], w)), W)


def test_gradient_of_switch_under_vmap_of_its_index():
    def loss(w):
        branches = [jnp.sin, square, jnp.cos]
        return total(jax.vmap(lambda i, w: lax.switch(i, branches, w))(jnp.arange(4), w))

    assert_jitted_grad(loss, W)


def test_vmap_of_the_gradient_of_cond():
    ps = jnp.array([0.3, -0.3])

    def f(library, p):
        return library.grad(lambda w: total(lax.cond(p > 0, jnp.sin, square, w)))(W)

    got = jax.vmap(lambda p: f(fbp, p))(ps)
    assert_same(got, jax.vmap(lambda p: f(jax, p))(ps))


def test_cond_stays_cond_in_both_directions():
    jaxpr = staged(fbp.grad(lambda w: jnp.sum(lax.cond(w[0] > 0, jnp.sin, square, w))), W)
    conds = [eqn for eqn in jaxpr if str(eqn.primitive) == "cond"]
    assert len(conds) == 2
    assert [len(branch.eqns) for branch in conds[1].params["branches"]] == [3, 1]


def test_branches_share_the_room_for_what_they_store():
    def loss(w):
        return jnp.sum(lax.cond(w[0] > 0, jnp.sin, lambda w: jnp.exp(w) * 2, w))

    _, pullback = fbp.vjp(loss, W)
    assert [r.shape for r in pullback.residuals if r.origin == "cond"] == [(4,)]


def test_what_only_one_branch_computes_is_computed_in_it_only():
    def loss(w):
        return jnp.sum(lax.cond(w[0] > 0, jnp.tanh, jnp.sin, w))

    counts = primitives(fbp.grad(loss), W)
    assert counts["tanh"] == 1
    assert counts["sin"] == 1


@pytest.mark.parametrize("p", [0.3, -0.3])
def test_only_the_branch_taken_has_effects(p, capsys):
    def loud(text, fun):
        def run(w):
            jax.debug.print(text)
            return fun(w)

        return run

    def loss(w):
        return total(lax.cond(p + w[0] * 0 > 0, loud("yes", jnp.sin), loud("no", square), w))

    fbp.grad(loss)(W)
    jax.effects_barrier()
    assert capsys.readouterr().out == ("yes\n" if p > 0 else "no\n")


def test_cond_in_a_custom_rule_is_linear_in_its_operand():
    f = jax.custom_jvp(jnp.sin)

    @f.defjvp
    def _(primals, tangents):
        (x,), (dx,) = primals, tangents
        return jnp.sin(x), lax.cond(x[0] > 0, lambda d: 2 * d, lambda d: d * x, dx)

    mine, theirs = (jax.jit(library.grad(lambda w: total(f(w)))) for library in (fbp, jax))
    assert_same(mine(W), theirs(W))
    assert_same(mine(-W), theirs(-W))


def test_only_the_branch_of_the_platform_is_compiled():
    def loop(x):
        return lax.scan(lambda c, y: (c + y * y, None), jnp.float32(0.0), x)[0]

    def loss(x):
        return jnp.sin(lax.platform_dependent(x, cpu=lambda x: jnp.dot(x, x), default=loop))

    assert_jitted_grad(loss, W)
    assert "while" not in jax.jit(fbp.grad(loss)).lower(W).as_text()
