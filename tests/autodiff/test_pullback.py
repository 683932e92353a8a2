"""The pullback of vjp: what it answers, where it can go, and what it says that it keeps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fbp
from tests.support.agreement import assert_same, total

X = jnp.array([0.5, -1.0, 2.0])
CT = jnp.array([1.0, 2.0, -3.0])


def pair(x, y):
    return {"sum": jnp.sin(x) + y, "product": (x * y, y)}


COTANGENTS = {"sum": CT, "product": (CT + 1, CT * 2)}


def pullback_of(library, fun, *primals):
    return library.vjp(fun, *primals)[1]


def test_value_and_cotangents_are_those_of_jax():
    value, pullback = fbp.vjp(pair, X, X + 1)
    assert_same(value, pair(X, X + 1))
    assert_same(pullback(COTANGENTS), pullback_of(jax, pair, X, X + 1)(COTANGENTS))


def test_a_pullback_can_be_called_again():
    _, pullback = fbp.vjp(jnp.sin, X)
    first = pullback(CT)
    assert_same(pullback(CT), first, tolerance=0)
    assert_same(pullback(2 * CT), jax.tree.map(lambda ct: 2 * ct, first))


def test_a_pullback_is_linear():
    _, pullback = fbp.vjp(pair, X, X + 1)
    zero = jax.tree.map(jnp.zeros_like, COTANGENTS)
    assert_same(pullback(zero), (jnp.zeros(3), jnp.zeros(3)))


def test_primals_are_trees():
    def model(params, x):
        return params["w"] * x + params["b"]

    params = {"w": X, "b": jnp.float32(2.0), "none": None}
    want = pullback_of(jax, model, params, X)(CT)
    assert_same(pullback_of(fbp, model, params, X)(CT), want)


def test_no_primals_have_no_cotangents():
    value, pullback = fbp.vjp(lambda: jnp.float32(1.0))
    assert float(value) == 1.0
    assert pullback(1.0) == ()


def test_outputs_may_be_numbers_none_and_integers():
    def mixed(x):
        return x * 2, None, jnp.arange(3), 1.0

    value, pullback = fbp.vjp(mixed, X)
    assert value[1] is None
    float0 = np.zeros(3, jax.dtypes.float0)
    want = pullback_of(jax, mixed, X)((CT, None, float0, 1.0))
    assert_same(pullback((CT, None, float0, 1.0)), want)


def test_integer_and_key_primals_have_float0_cotangents():
    def draw(x, n, key):
        return x * n.astype(x.dtype) + jax.random.normal(key, x.shape)

    args = X, jnp.int32(3), jax.random.key(0)
    assert_same(pullback_of(fbp, draw, *args)(CT), pullback_of(jax, draw, *args)(CT))


def test_complex_outputs_have_complex_cotangents():
    z = jnp.array([1 + 2j, -0.5j])
    assert_same(pullback_of(fbp, jnp.exp, z)(z), pullback_of(jax, jnp.exp, z)(z))


# Errors


@pytest.mark.parametrize(
    ("ct", "error", "text"),
    [
        ([CT, CT], ValueError, "unexpected tree structure"),
        (CT, ValueError, "unexpected tree structure"),
        ((CT, None), ValueError, "unexpected tree structure"),
        ((CT, CT[:2]), ValueError, r"leaf 1 is float32\[2\], but expected float32\[3\]"),
        ((CT.astype(jnp.bfloat16), CT), ValueError, r"leaf 0 is bfloat16\[3\]"),
        ((jnp.arange(3), CT), ValueError, r"leaf 0 is int32\[3\]"),
        (("text", CT), TypeError, "not a valid JAX"),
    ],
    ids=["list", "leaf", "none", "shape", "dtype", "integer", "text"],
)
def test_a_cotangent_that_does_not_fit_says_what_does(ct, error, text):
    def fun(x):
        return x, jnp.sin(x)

    with pytest.raises(error):
        pullback_of(jax, fun, X)(ct)
    with pytest.raises(error, match=text):
        pullback_of(fbp, fun, X)(ct)


def test_a_pullback_takes_one_cotangent():
    _, pullback = fbp.vjp(lambda x: (x, x), X)
    with pytest.raises(TypeError, match="lambda> was called with 2 arguments"):
        pullback(CT, CT)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        pullback()


# Where a pullback can go


def test_a_pullback_leaves_and_enters_jit():
    value, pullback = jax.jit(lambda x: fbp.vjp(pair, x, x + 1))(X)
    want = pullback_of(jax, pair, X, X + 1)(COTANGENTS)
    assert_same(value, pair(X, X + 1))
    assert_same(pullback(COTANGENTS), want)
    assert_same(jax.jit(lambda pullback, ct: pullback(ct))(pullback, COTANGENTS), want)


def test_a_jitted_vjp_gives_pullbacks_of_one_type():
    forward = jax.jit(lambda x: fbp.vjp(jnp.sin, x)[1])
    assert jax.tree.structure(forward(X)) == jax.tree.structure(forward(X + 1))
    assert_same(forward(X + 1)(CT), pullback_of(jax, jnp.sin, X + 1)(CT))


def test_a_pullback_leaves_and_enters_vmap():
    xs = jnp.stack([X, X + 1])
    pullbacks = jax.vmap(lambda x: fbp.vjp(jnp.sin, x)[1])(xs)
    cts = jnp.stack([CT, CT * 2])
    got = jax.vmap(lambda pullback, ct: pullback(ct))(pullbacks, cts)
    assert_same(got, pullback_of(jax, jnp.sin, xs)(cts))


def test_a_pullback_under_vmap_of_cotangents_is_a_jacobian():
    jacobian = jax.vmap(pullback_of(fbp, lambda x: jnp.sin(x) * x[::-1], X))(jnp.eye(3))
    assert_same(jacobian[0], jax.jacrev(lambda x: jnp.sin(x) * x[::-1])(X))


def test_pullbacks_leave_and_enter_scan():
    def forward(x, _):
        y, pullback = fbp.vjp(lambda x: jnp.sin(x) * x, x)
        return y, pullback

    def chain(x):
        return lax.scan(forward, x, length=4)[0]

    y, pullbacks = lax.scan(forward, X, length=4)
    ct, _ = lax.scan(lambda ct, pullback: (pullback(ct)[0], None), CT, pullbacks, reverse=True)
    assert_same(y, chain(X))
    assert_same(
        (ct,), jax.vjp(lambda x: lax.fori_loop(0, 4, lambda _, x: jnp.sin(x) * x, x), X)[1](CT)
    )


def test_a_pullback_is_differentiable():
    def energy(library, x):
        return total(pullback_of(library, lambda x: jnp.sin(x) * x, x)(CT))

    want = jax.grad(functools.partial(energy, jax))(X)
    assert_same(fbp.grad(functools.partial(energy, fbp))(X), want)
    assert_same(jax.grad(functools.partial(energy, fbp))(X), want)


def test_a_pullback_is_differentiable_in_its_cotangent():
    def energy(library, ct):
        return total(pullback_of(library, lambda x: jnp.sin(x) * x, X)(ct))

    want = jax.grad(functools.partial(energy, jax))(CT)
    assert_same(fbp.grad(functools.partial(energy, fbp))(CT), want)


def test_a_pullback_is_a_tree_of_its_residuals():
    _, pullback = fbp.vjp(lambda x: jnp.sin(x) * 2, X)
    leaves = jax.tree.leaves(pullback)
    assert [leaf.shape for leaf in leaves] == [r.shape for r in pullback.residuals]
    halved = jax.tree.map(lambda leaf: leaf / 2, pullback)
    assert_same(halved(CT)[0], pullback(CT)[0] / 2)


def test_a_pullback_may_close_over_tracers():
    def f(library, y):
        return pullback_of(library, lambda x: jnp.sin(x * y) * y, X)(CT)

    ys = jnp.stack([X, X + 1])
    mine, theirs = functools.partial(f, fbp), functools.partial(f, jax)
    assert_same(jax.jit(mine)(X), jax.jit(theirs)(X))
    assert_same(jax.vmap(mine)(ys), jax.vmap(theirs)(ys))
    assert_same(jax.jvp(mine, (X,), (CT,)), jax.jvp(theirs, (X,), (CT,)))


# What a pullback says that it keeps


def test_residuals_name_the_equation_the_line_and_the_bytes():
    _, pullback = fbp.vjp(lambda x: jnp.exp(x), X)
    (residual,) = pullback.residuals
    assert residual.origin == "exp"
    assert "test_pullback.py" in residual.source
    assert (residual.shape, residual.dtype, residual.bytes) == ((3,), jnp.float32, 12)


def test_residuals_name_inputs_by_their_path():
    _, pullback = fbp.vjp(lambda x, y: x * y["y"], X, {"y": X + 1})
    assert [r.origin for r in pullback.residuals] == ["input [0]", "input [1]['y']"]


def test_residuals_name_constants_apart_from_inputs():
    _, pullback = fbp.vjp(lambda x: jnp.sum(x * X * x), CT)
    assert {r.origin for r in pullback.residuals} >= {"constant 0", "input [0]"}


def test_what_is_linear_keeps_nothing():
    _, pullback = fbp.vjp(lambda x: (x * 2.0 + X)[None], X)
    assert pullback.residuals == []
    assert_same(pullback(CT[None]), (CT * 2,))


def test_a_value_needed_twice_is_kept_once():
    _, pullback = fbp.vjp(lambda x: (x * x, x * x, jnp.exp(x) * x), X)
    origins = [r.origin for r in pullback.residuals]
    assert sorted(origins) == ["exp", "input [0]"]
