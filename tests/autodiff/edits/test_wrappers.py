"""An edit, or a tap, at a site that lies inside of what JAX wraps around it: nothing is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

import fbp
from fbp import edit

W = jnp.array([[0.3, -0.2, 0.1], [0.4, 0.5, -0.6], [-0.1, 0.2, 0.7]])
X = jnp.array([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]])
STEPS = 3


def block(mark, w, x):
    """A layer in a scope, with what the reference does to the cotangent that arrives at it."""
    with jax.named_scope("layer"):
        y = jnp.tanh(x @ w)
    return mark(y)


def plain(layer, w, x):
    return layer(w, x)


def jit(layer, w, x):
    return jax.jit(layer)(w, x)


def remat(layer, w, x):
    return jax.checkpoint(layer)(w, x)


def vmap(layer, w, x):
    return jax.vmap(layer, (None, 0))(w, x)


def scan(layer, w, x):
    return lax.scan(lambda h, _: (layer(w, h), None), x, None, length=STEPS)[0]


def cond(layer, w, x):
    return lax.cond(x[0, 0] > 0, layer, lambda w, x: x, w, x)


def while_loop(layer, w, x):
    return lax.while_loop(
        lambda s: s[0] < STEPS + jnp.int32(x[0, 0]), lambda s: (s[0] + 1, layer(w, s[1])), (0, x)
    )[1]


def custom_jvp(layer, w, x):
    fun = jax.custom_jvp(layer)
    fun.defjvp(lambda primals, tangents: jax.jvp(layer, primals, tangents))
    return fun(w, x)


def custom_vjp(layer, w, x):
    fun = jax.custom_vjp(layer)
    fun.defvjp(lambda *args: jax.vjp(layer, *args), lambda pullback, ct: pullback(ct))
    return fun(w, x)


def shard_map(layer, w, x):
    mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.shard_map(layer, mesh=mesh, in_specs=(P(), P("i")), out_specs=P("i"))(w, x)


WRAPPERS = [plain, jit, remat, vmap, scan, cond, while_loop, custom_jvp, custom_vjp, shard_map]


def loss(wrapper, mark):
    def layer(w, x):
        return block(mark, w, x)

    return lambda w, x: jnp.sum(jnp.sin(wrapper(layer, w, jnp.cos(x))))


def by_hand(change):
    """An identity whose cotangent is changed, to write into the function."""
    mark = jax.custom_vjp(lambda y: y)
    mark.defvjp(lambda y: (y, y), lambda y, ct: (change(ct, y),))
    return mark


def nothing(y):
    return y


def halve_where_positive(ct, y):
    return jnp.where(y > 0, 0.5 * ct, ct)


def static(fun):
    """The same loop with a known number of iterations, which JAX can differentiate."""
    return scan_of_loop if fun is while_loop else fun


def scan_of_loop(layer, w, x):
    return scan(layer, w, x)


def reference(wrapper, mark, w, x):
    fun = loss(static(wrapper), mark)
    if wrapper is while_loop and int(np.cos(X[0, 0])) != 0:
        raise AssertionError("the loop must take as many steps as the scan")
    return jax.jit(jax.grad(fun, (0, 1)))(w, x)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_cotangent_is_changed_at_a_scope_inside(wrapper):
    rules = fbp.RULES | edit.cotangent("layer", halve_where_positive)
    fun = loss(wrapper, nothing)
    got = jax.jit(fbp.grad(fun, (0, 1), rules=rules))(W, X)
    want = reference(wrapper, by_hand(halve_where_positive), W, X)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_rule_holds_at_a_scope_inside(wrapper):
    def flat(ct, y):
        return ct * (1 - y * y) * 0 + ct

    tanh = fbp.rule.derivative(lax.tanh_p, lambda x, y: 1.0)
    got = jax.jit(
        fbp.grad(loss(wrapper, nothing), (0, 1), rules=fbp.RULES | edit.rule("layer", tanh))
    )(W, X)
    identity = jax.custom_vjp(jnp.tanh)
    identity.defvjp(lambda x: (jnp.tanh(x), None), lambda _, ct: (ct,))

    def layer(w, x):
        return identity(x @ w)

    fun = lambda w, x: jnp.sum(jnp.sin(static(wrapper)(layer, w, jnp.cos(x))))
    want = jax.jit(jax.grad(fun, (0, 1)))(W, X)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def straight(cts, outs, ins):
    """The pullback of x -> w x as if there were no tanh."""
    x, w = ins
    (ct,) = cts
    return [ct @ w.T, jnp.outer(x, ct) if ct.ndim == 1 else x.T @ ct]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_region_is_one_unit(wrapper):
    """A dense layer whose pullback leaves the tanh out."""
    if wrapper is vmap:
        pullback = lambda cts, outs, ins: [cts[0] @ ins[1].T, ins[0].T @ cts[0]]
    else:
        pullback = straight
    rules = fbp.RULES | edit.region("layer", pullback)
    got = jax.jit(fbp.grad(loss(wrapper, nothing), (0, 1), rules=rules))(W, X)
    identity = jax.custom_vjp(jnp.tanh)
    identity.defvjp(lambda x: (jnp.tanh(x), None), lambda _, ct: (ct,))
    layer = lambda w, x: identity(x @ w)
    fun = lambda w, x: jnp.sum(jnp.sin(static(wrapper)(layer, w, jnp.cos(x))))
    for a, b in zip(got, jax.jit(jax.grad(fun, (0, 1)))(W, X), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def squares(ct):
    return jnp.sum(ct * ct)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_tap_reads_the_cotangent_and_changes_no_gradient(wrapper):
    fun = loss(wrapper, nothing)
    taps = {"layer": fbp.tap("layer", lambda y, ct: jnp.sum(ct * ct))}
    value, grads, tapped = jax.jit(fbp.value_and_grad(fun, (0, 1), taps=taps))(W, X)
    want_value, want = jax.jit(fbp.value_and_grad(fun, (0, 1)))(W, X)
    np.testing.assert_array_equal(value, want_value)
    for a, b in zip(grads, want, strict=True):
        np.testing.assert_array_equal(a, b)
    # the statistic as the gradient of a zero that the reference adds by hand
    shape = {scan: (STEPS,), while_loop: (STEPS,), shard_map: (2,)}.get(wrapper, ())
    total = sum(jnp.sum(ct * ct) for ct in cotangents_by_hand(wrapper))
    np.testing.assert_allclose(jnp.sum(tapped["layer"]), total, rtol=1e-5)
    assert tapped["layer"].shape == (() if wrapper is while_loop else shape)


def cotangents_by_hand(wrapper):
    """The cotangents of what the layers compute, each from a zero that is added to it."""
    times = STEPS if wrapper in (scan, while_loop) else 1

    def fun(zeros):
        x = jnp.cos(X)
        for zero in zeros:
            x = jnp.tanh(x @ W) + zero
        return jnp.sum(jnp.sin(x))

    return jax.jit(jax.grad(fun))([jnp.zeros_like(X)] * times)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_second_derivative_is_that_of_the_edited_gradient(wrapper):
    rules = fbp.RULES | edit.cotangent("layer", halve_where_positive)
    fun = loss(wrapper, nothing)
    along = lambda gradient: lambda w: jnp.vdot(gradient(w, X), jnp.cos(W))
    got = jax.jit(fbp.grad(along(fbp.grad(fun, rules=rules))))(W)
    marked = loss(static(wrapper), by_hand(halve_where_positive))
    want = jax.jit(jax.grad(along(jax.grad(marked))))(W)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_values_forward_are_bit_identical(wrapper):
    rules = fbp.RULES | edit.cotangent("layer", edit.scale(3.0))
    fun = loss(wrapper, nothing)
    got, _ = jax.jit(fbp.value_and_grad(fun, rules=rules))(W, X)
    np.testing.assert_array_equal(got, jax.jit(fun)(W, X))


def test_a_table_without_edits_gives_the_same_program():
    fun = loss(scan, nothing)
    want = str(jax.make_jaxpr(fbp.grad(fun))(W, X))
    assert str(jax.make_jaxpr(fbp.grad(fun, rules=fbp.RULES | at_nothing()))(W, X)) == want


def at_nothing():
    taken_back = edit.cotangent("layer", edit.scale(3.0))
    return (fbp.RULES | taken_back).without(taken_back)
