"""The tape as a value."""

import chex
import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.experimental import sparse

import fbp


def loss(w, x):
    with jax.named_scope("outer"):
        h = lax.tanh(w * x)
        with jax.named_scope("inner"):
            return jnp.sum(h * h)


def test_the_tape_gives_the_value_and_the_gradient_of_value_and_grad():
    args = (jnp.arange(3.0), jnp.ones(3))
    value, grads, _ = fbp.tape(loss, (0, 1))(*args)
    chex.assert_trees_all_equal((value, grads), fbp.value_and_grad(loss, (0, 1))(*args))


def test_each_entry_holds_what_its_equation_computed_and_what_came_back():
    w, x = jnp.array([0.5, -1.0, 2.0]), jnp.array([1.0, 2.0, 3.0])
    _, grads, entries = fbp.tape(loss)(w, x)
    assert [e.primitive for e in entries] == ["mul", "tanh", "mul", "reduce_sum"]
    assert [e.scope for e in entries] == ["outer", "outer", "outer/inner", "outer/inner"]
    assert all("test_recording.py" in e.source for e in entries)
    product, squashed, square, total = entries
    chex.assert_trees_all_close(squashed.outs[0], jnp.tanh(w * x))
    chex.assert_trees_all_equal(total.out_cts[0], jnp.float32(1))
    chex.assert_trees_all_close(square.in_cts[0], squashed.outs[0])
    chex.assert_trees_all_close(squashed.out_cts[0], 2 * squashed.outs[0])
    assert product.in_cts[1] is None
    chex.assert_trees_all_equal(product.in_cts[0], grads)


def test_a_jit_a_scan_and_a_cond_are_one_entry_each():
    def f(x):
        y = jax.jit(lambda x: lax.sin(lax.sin(x)))(x)
        y, _ = lax.scan(lambda c, _: (lax.cos(c), None), y, length=3)
        return lax.cond(True, lax.exp, lax.neg, y)

    value, gradient, entries = fbp.tape(f)(0.3)
    assert [e.primitive for e in entries][:2] == ["jit", "scan"]
    assert len(entries) == 3
    assert not any(
        isinstance(leaf, jax.core.Tracer)
        for e in entries
        for leaf in jax.tree.leaves((e.ins, e.outs, e.out_cts, e.in_cts))
    )
    chex.assert_trees_all_close((value, gradient), jax.value_and_grad(f)(0.3))


def test_auxiliary_output_stands_beside_the_value():
    (value, aux), gradient, entries = fbp.tape(lambda x: (lax.sin(x), x + 1), has_aux=True)(0.0)
    assert (value, aux, gradient, len(entries)) == (0.0, 1.0, 1.0, 1)


def test_a_replaced_rule_is_seen_on_the_tape():
    doubled = fbp.rule.derivative(lax.sin_p, lambda x, _: 2 * lax.cos(x))
    _, gradient, (entry,) = fbp.tape(lax.sin, rules=fbp.RULES | doubled)(0.0)
    assert gradient == entry.in_cts[0] == 2.0


def test_what_stands_for_a_program_has_the_entries_of_that_program():
    matrix = sparse.BCOO.fromdense(jnp.array([[1.0, 0.0], [0.0, 2.0]]))

    def total(data):
        return jnp.sum(sparse.BCOO((data, matrix.indices), shape=(2, 2)).todense())

    _, _, entries = fbp.tape(total)(matrix.data)
    assert [e.primitive for e in entries] == ["scatter-add", "reduce_sum"]


def test_functions_with_rules_of_their_users_are_one_entry_each():
    @jax.custom_jvp
    def forward(x):
        return lax.sin(x)

    @jax.custom_vjp
    def backward(x):
        return lax.sin(x)

    forward.defjvp(lambda xs, ts: (lax.sin(xs[0]), ts[0] * 3 * lax.cos(xs[0])))
    backward.defvjp(lambda x: (lax.sin(x), x), lambda x, ct: (ct * 5 * lax.cos(x),))
    _, gradient, entries = fbp.tape(lambda x: backward(forward(x)))(0.0)
    assert [e.primitive for e in entries] == ["custom_jvp_call", "custom_vjp_call"]
    assert [float(e.in_cts[0]) for e in entries] == [15.0, 5.0]
    assert gradient == 15.0


def test_within_a_transformation_there_is_nothing_to_record():
    with pytest.raises(TypeError, match=r"fbp\.tape records values"):
        jax.jit(fbp.tape(lax.sin))(0.0)
