"""What the backward pass reads of a site: in another precision, in host memory, computed again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fbp
from fbp import at, edit

W = jax.random.normal(jax.random.key(0), (16, 16)) / 4
X = jax.random.normal(jax.random.key(1), (8, 16))
STORAGES = ["bfloat16", "float16", "e4m3", "e5m2", "host", "recompute"]
ERRORS = {"bfloat16": 0.01, "float16": 0.002, "e4m3": 0.1, "e5m2": 0.2}


def layer(w, x):
    with jax.named_scope("layer"):
        return jnp.tanh(x @ w)


def stacked(w, x):
    return jnp.sum(lax.scan(lambda h, _: (layer(w, h), None), x, None, length=4)[0] ** 2)


def once(w, x):
    return jnp.sum(layer(w, x) ** 2)


def remat(w, x):
    return jnp.sum(jax.checkpoint(layer)(w, x) ** 2)


def branch(w, x):
    return jnp.sum(lax.cond(x[0, 0] > -9, layer, lambda w, x: x, w, x) ** 2)


def loop(w, x):
    run = lambda s: (s[0] + 1, layer(w, s[1]))
    return jnp.sum(lax.while_loop(lambda s: (s[0] < 3) | (x[0, 0] > 99), run, (0, x))[1] ** 2)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("fun", [once, jax.jit(once), stacked, remat, branch])
def test_the_gradient_is_the_same_but_for_rounding(fun, storage):
    rules = fbp.RULES | edit.residuals("layer", storage)
    got = jax.jit(fbp.grad(fun, (0, 1), rules=rules))(W, X)
    for a, b in zip(got, fbp.grad(fun, (0, 1))(W, X), strict=True):
        error = np.linalg.norm(a - b) / np.linalg.norm(b)
        assert error < ERRORS.get(storage, 1e-6)
        assert error > 0 or storage not in ERRORS or fun is remat


def residuals(fun, storage=None):
    rules = fbp.RULES if storage is None else fbp.RULES | edit.residuals("layer", storage)
    return fbp.vjp(lambda w: fun(w, jnp.sin(X * w[0, 0])), W, rules=rules)[1].residuals


@pytest.mark.parametrize("storage", ["bfloat16", "e4m3"])
@pytest.mark.parametrize("fun", [once, jax.jit(once)])
def test_what_is_stored_is_small(fun, storage):
    dtype = {"e4m3": "float8_e4m3fn"}.get(storage, storage)
    small = [r for r in residuals(fun, storage) if r.dtype == dtype]
    assert [r.shape for r in small] == [(8, 16)] * 2
    assert not [r for r in residuals(fun) if r.dtype == dtype]


def test_a_scan_stacks_what_is_small():
    stacks = [r for r in residuals(stacked, "e4m3") if r.shape == (4, 8, 16)]
    assert {str(r.dtype) for r in stacks} == {"float8_e4m3fn"}


def test_parameters_are_read_as_they_are():
    assert [str(r.dtype) for r in residuals(once, "e4m3") if r.shape == (16, 16)] == ["float32"]


def test_recomputation_stores_the_inputs_alone():
    def deep(w, x):
        with jax.named_scope("layer"):
            for _ in range(4):
                x = jnp.sin(x @ w)
        return jnp.sum(x)

    size = lambda storage: sum(r.bytes for r in residuals(deep, storage))
    assert size("recompute") < size(None) / 2


def test_values_in_host_memory_say_so():
    rules = fbp.RULES | edit.residuals("layer", "host")
    program = str(jax.make_jaxpr(fbp.grad(stacked, rules=rules))(W, X))
    assert "host" in program.lower()


def test_zeros_and_infinities_are_stored_as_what_they_are():
    rules = fbp.RULES | edit.residuals(at.primitive("mul"), "e4m3")
    fun = lambda x: jnp.sum(x * jnp.cos(x))
    np.testing.assert_allclose(fbp.grad(fun, rules=rules)(jnp.zeros(3)), np.ones(3), rtol=0.1)
    assert np.isnan(fbp.grad(fun, rules=rules)(jnp.full(3, jnp.nan))).all()
    assert fbp.grad(fun, rules=rules)(jnp.zeros(0)).shape == (0,)


def test_a_loop_that_saves_states_has_its_residuals_changed_too():
    rules = fbp.RULES | edit.residuals("layer", "bfloat16")
    fun = lambda w, x: loop(w, x)
    got, want = fbp.grad(fun, rules=rules)(W, X), fbp.grad(fun)(W, X)
    assert 0 < np.linalg.norm(got - want) / np.linalg.norm(want) < 0.01


@pytest.mark.parametrize("storage", ["int8", "disk", "float99"])
def test_what_is_no_storage_is_refused(storage):
    with pytest.raises(fbp.InputError, match="'bfloat16'"):
        edit.residuals("layer", storage)


def test_a_site_has_one_storage():
    rules = fbp.RULES | edit.residuals("layer", "host") | edit.residuals("layer", "e4m3")
    with pytest.raises(fbp.InputError, match="overlap"):
        fbp.grad(once, rules=rules)(W, X)
    some = fbp.RULES | edit.residuals(at.scope("layer") & at.iteration(1), "host")
    with pytest.raises(fbp.InputError, match="all iterations"):
        fbp.grad(stacked, rules=some)(W, X)
