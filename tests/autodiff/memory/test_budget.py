"""A budget is kept, or refused with the least; what is computed stays what it was."""

import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from jax import lax

import fbp
from fbp.autodiff.edits.opened import opened
from fbp.autodiff.flat_function import flatten_function
from fbp.autodiff.memory import budget
from fbp.autodiff.memory.budget import Use, measure
from fbp.train import initial_state, make_step

pytestmark = pytest.mark.optimized  # memory is that of programs as users have them

KEYS = jax.random.split(jax.random.key(0), 4)
WEIGHTS = [0.1 * w for w in jax.random.normal(KEYS[0], (16, 32, 32))]
X = jax.random.normal(KEYS[1], (64, 32))


def unrolled(ws, x):
    for w in ws:
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


def scanned(ws, x):
    x, _ = lax.scan(lambda x, w: (x + jnp.tanh(x @ w) @ w.T, None), x, ws)
    return jnp.mean(x**2)


NETWORKS = {"unrolled": (unrolled, (WEIGHTS, X)), "scanned": (scanned, (jnp.stack(WEIGHTS), X))}


def temporary(gradient, args):
    return jax.jit(gradient).lower(*args).compile().memory_analysis().temp_size_in_bytes


def least(fun, args):
    with pytest.raises(fbp.InputError, match="the least that was found is") as refused:
        fbp.grad(fun, memory=1)(*args)
    return int(re.search(r"found is ([\d,]+) bytes", str(refused.value))[1].replace(",", ""))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_compiled_gradient_needs_no_more_than_the_budget(name):
    fun, args = NETWORKS[name]
    plain = temporary(fbp.grad(fun), args)
    low = least(fun, args)
    assert low < 0.6 * plain
    expected = jax.jit(jax.grad(fun))(*args)
    for bound in (2 * plain, (low + plain) // 2, low):
        gradient = fbp.grad(fun, memory=bound)
        compiled = jax.jit(gradient).lower(*args).compile()
        assert compiled.memory_analysis().temp_size_in_bytes <= bound
        chex.assert_trees_all_close(compiled(*args), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_less_memory_takes_no_less_work_and_the_first_candidate_is_the_plain_program(name):
    fun, args = NETWORKS[name]
    staged = flatten_function(lambda ws: fun(ws, args[1]), (args[0],), False, fbp.RULES, False)
    measured = list(measure(opened(fbp.RULES, staged), Use(staged, True)))
    assert 3 <= len(measured) <= 8
    works = [m.candidate.work for m in measured]
    assert works == sorted(works)
    assert measured[0].candidate.program.graph is staged.graph
    assert measured[0].temporary == temporary(
        fbp.value_and_grad(lambda ws: fun(ws, args[1])), (args[0],)
    )


def test_a_program_that_was_measured_is_not_compiled_again(monkeypatch):
    def gradient(ws):
        return fbp.grad(unrolled, memory=low)(ws, X)

    low = least(unrolled, (WEIGHTS, X))
    calls = []
    measured = budget._temporary
    monkeypatch.setattr(budget, "_temporary", lambda *args: calls.append(1) or measured(*args))
    jax.make_jaxpr(gradient)(WEIGHTS)
    assert not calls
    jax.make_jaxpr(gradient)(WEIGHTS[:-1])
    assert calls


def test_a_budget_that_the_plain_program_meets_changes_nothing():
    plain = jax.make_jaxpr(fbp.grad(unrolled))(WEIGHTS, X)
    (call,) = jax.make_jaxpr(fbp.grad(unrolled, memory=10**9))(WEIGHTS, X).eqns
    assert [e.primitive for e in call.params["jaxpr"].eqns] == [e.primitive for e in plain.eqns]


@pytest.mark.parametrize("memory", [0, -1, float("inf"), float("nan"), "1 GiB", True])
def test_a_budget_that_is_no_number_of_bytes_is_refused(memory):
    with pytest.raises(fbp.InputError, match="give a number of bytes"):
        fbp.grad(unrolled, memory=memory)


def test_auxiliary_output_several_arguments_and_constants_of_an_outer_jit():
    def outer(transform):
        def fun(scale, ws):
            def loss(ws, x):
                for w in ws:
                    x = jnp.tanh(scale * (x @ w))
                return jnp.sum(x**2), x

            return transform(loss, (0, 1), has_aux=True)(ws, X)

        return jax.jit(fun)

    bound = 0.8 * temporary(outer(fbp.value_and_grad), (1.5, WEIGHTS))
    ours = outer(partial(fbp.value_and_grad, memory=bound))(1.5, WEIGHTS)
    theirs = outer(jax.value_and_grad)(1.5, WEIGHTS)
    chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_gradient_within_a_budget_is_differentiated_and_mapped(name):
    fun, (ws, x) = NETWORKS[name]
    bound = 0.7 * temporary(fbp.grad(fun), (ws, x))

    def curved(transform, within):
        def total(ws):
            return sum(jnp.sum(g**2) for g in jax.tree.leaves(within(ws, x)))

        return jax.jit(transform(total))(ws)

    ours = curved(fbp.grad, fbp.grad(fun, memory=bound))
    theirs = curved(jax.grad, jax.grad(fun))
    scale = max(float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(theirs))
    chex.assert_trees_all_close(ours, theirs, atol=1e-4 * scale)
    many = jnp.stack([x, 2 * x])
    chex.assert_trees_all_close(
        jax.vmap(fbp.grad(fun, memory=bound), (None, 0))(ws, many),
        jax.vmap(jax.grad(fun), (None, 0))(ws, many),
        rtol=1e-3,
        atol=1e-4,
    )


def test_random_numbers_and_prints_happen_once_in_meaning(capsys):
    def fun(ws, key):
        x = X
        for i, w in enumerate(ws):
            mask = jax.random.bernoulli(jax.random.fold_in(key, i), 0.8, x.shape)
            x = jnp.where(mask, jnp.tanh(x @ w), 0.0)
        jax.debug.print("once")
        return jnp.sum(x**2)

    weights = WEIGHTS[:6]
    bound = 0.8 * temporary(fbp.grad(fun), (weights, KEYS[2]))
    ours = fbp.grad(fun, memory=bound)(weights, KEYS[2])
    jax.effects_barrier()
    assert capsys.readouterr().out == "once\n"
    theirs = jax.jit(jax.grad(fun))(weights, KEYS[2])
    chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_step_within_a_budget_trains_as_the_step_without():
    def loss_fn(ws, batch, _):
        return unrolled(ws, batch) / len(batch)

    tx = optax.sgd(0.1)
    states = [initial_state(WEIGHTS, tx, KEYS[3]) for _ in range(2)]
    bound = 0.7 * temporary(lambda ws, x: fbp.value_and_grad(unrolled)(ws, x), (WEIGHTS, X))
    steps = make_step(loss_fn, tx), make_step(loss_fn, tx, memory=bound)
    (plain, loss), (within, same) = (
        step(jax.tree.map(jnp.copy, state), X) for step, state in zip(steps, states, strict=True)
    )
    chex.assert_trees_all_close((plain.params, loss), (within.params, same), rtol=1e-5, atol=1e-6)


def test_a_budget_beside_a_mesh_of_several_devices_is_refused():
    mesh = jax.make_mesh((2,), ("data",))
    with pytest.raises(fbp.InputError, match="bytes of one device"):
        make_step(lambda *_: 0.0, optax.sgd(0.1), mesh=mesh, memory=1e6)
