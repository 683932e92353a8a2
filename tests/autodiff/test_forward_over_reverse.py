"""Second derivatives by jax.jvp of fbp's gradient where it may be, and where it may not, by fbp."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import Primitive

import fbp
from fbp.autodiff.forward_over_reverse import FORWARD, stage_for_forward

W = jnp.cos(jnp.arange(16.0)).reshape(4, 4) / 2
X = jnp.sin(jnp.arange(12.0)).reshape(3, 4)
V = jnp.linspace(-1.0, 1.0, 16).reshape(4, 4)


@jax.custom_vjp
def sine(x):
    return jnp.sin(x)


sine.defvjp(lambda x: (sine(x), jnp.cos(x)), lambda cos, ct: (ct * cos,))


def looped(w):
    """Three steps of a loop whose bounds are not known."""
    n = jnp.sum(w > -10.0) - 13
    return jnp.sum(lax.fori_loop(0, n, lambda _, x: jnp.sin(x @ w), X))


def scanned(w):
    body = jax.checkpoint(lambda x, _: (jax.nn.gelu(x @ w), None))
    return jnp.sum(lax.scan(body, X, None, length=3)[0] ** 2)


def attention(w):
    a = jax.nn.softmax((X @ w) @ X.T, -1) @ jax.nn.relu(X @ w)
    return lax.cond(w[0, 0] > 0, jnp.sum, lambda a: jnp.sum(a**2), jax.nn.log_softmax(a))


BY_FORWARD = {"loop": looped, "scan and checkpoint": scanned, "attention": attention}
BY_REVERSE = {
    "custom_vjp": lambda w: jnp.sum(sine(X @ w) ** 2),
    "custom_vjp in a scan": lambda w: jnp.sum(
        lax.scan(lambda x, _: (sine(x @ w), None), X, None, length=2)[0]
    ),
    "eigh": lambda w: jnp.linalg.eigh(w + w.T)[0][-1] ** 2,
    "power": lambda w: jnp.sum(jnp.abs(w) ** 2.5),
}
CASES = BY_FORWARD | BY_REVERSE


@pytest.mark.parametrize("name", CASES)
def test_products_and_hessians_are_those_of_the_exact_function(name):
    fun = CASES[name]
    exact = {"custom_vjp": lambda w: jnp.sum(jnp.sin(X @ w) ** 2)}.get(name, fun)
    if name == "custom_vjp in a scan":
        exact = lambda w: jnp.sum(jnp.sin(jnp.sin(X @ w) @ w))
    if name == "loop":
        exact = lambda w: jnp.sum(jnp.sin(jnp.sin(jnp.sin(X @ w) @ w) @ w))
    staged = stage_for_forward(fbp.grad(fun), (W,), False, fbp.RULES)
    assert (staged is not None) == (name in BY_FORWARD)

    @jax.jit
    def all_ways(w):
        return fbp.hvp(fun, (w,), (V,))[0], fbp.hessian(fun)(w), jax.hessian(exact)(w)

    product, hessian, want = all_ways(W)
    np.testing.assert_allclose(product, jnp.tensordot(want, V, 2), rtol=3e-4, atol=3e-5)
    np.testing.assert_allclose(hessian, want, rtol=3e-4, atol=3e-5)


def test_a_changed_table_counts_twice():
    """By reverse mode, since JAX's forward mode knows nothing of it."""
    table = fbp.RULES | fbp.rule.derivative(lax.sin_p, lambda x, y: 2 * x)
    fun = lambda x: jnp.sum(
        jnp.sin(x) ** 2
    )  # slope 4 x sin x, of which the slope is 4 sin x + 8 x^2
    x = jnp.array([0.5, 1.5])
    want = 4 * jnp.sin(x) + 8 * x**2
    np.testing.assert_allclose(fbp.hvp(fun, (x,), (jnp.ones(2),), rules=table)[0], want, rtol=1e-6)
    np.testing.assert_allclose(fbp.hessian(fun, rules=table)(x), jnp.diag(want), rtol=1e-6)
    assert stage_for_forward(fbp.grad(fun, rules=table), (x,), False, table) is None


def test_a_rule_of_a_primitive_that_the_gradient_does_not_use_changes_nothing():
    table = fbp.RULES | fbp.rule.derivative(lax.round_p, lambda x, y: 1.0)
    gradient = fbp.grad(attention, rules=table)
    assert stage_for_forward(gradient, (W,), False, table) is not None


def test_a_primitive_that_jax_cannot_differentiate_is_left_to_reverse_mode():
    assert not any(primitive.name == "custom_vjp_call" for primitive in FORWARD)
    assert Primitive("frobnicate") not in FORWARD


def test_zero_to_the_power_of_one_has_no_curvature():
    """JAX's forward mode gives NaN."""
    fun = lambda x, y: jnp.sum(x**y)
    (got, _) = fbp.hvp(fun, (jnp.zeros(2), jnp.ones(2)), (jnp.ones(2), jnp.zeros(2)))
    np.testing.assert_array_equal(got, 0)


def test_complex_and_holomorphic():
    z = lax.complex(X[0], X[1])
    hessian = fbp.hessian(lambda z: jnp.sum(z**3), holomorphic=True)(z)
    np.testing.assert_allclose(hessian, jnp.diag(6 * z), rtol=1e-6)
    got = fbp.hvp(lambda z: jnp.sum(jnp.abs(z) ** 4), (z,), (jnp.conj(z),))[0]
    want = jax.jvp(jax.grad(lambda z: jnp.sum(jnp.abs(z) ** 4)), (z,), (jnp.conj(z),))[1]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_auxiliary_output_and_several_arguments():
    fun = lambda n, x, y: (jnp.sum(x**2 * y) * n, {"n": n, "name": "aux", "x": x})
    got, aux = fbp.hessian(fun, (1, 2), has_aux=True)(3, X[0], X[1])
    want, _ = jax.hessian(lambda *a: fun(*a)[0], (1, 2))(3, X[0], X[1]), None
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, want)
    assert (aux["name"], int(aux["n"])) == ("aux", 3)


@pytest.mark.parametrize(
    ("tangents", "text"),
    [
        ((jnp.ones(3),), r"the tangent of \[0\] is float32\[3\].*float32\[4\]"),
        ((jnp.ones(4), 1.0), "structure of its primals"),
        ((jnp.ones(4, int),), "int32"),
    ],
    ids=["shape", "structure", "dtype"],
)
def test_tangents_that_do_not_fit(tangents, text):
    with pytest.raises(ValueError, match=text):
        fbp.hvp(lambda x: jnp.sum(x**2), (jnp.ones(4),), tangents)


def test_a_product_takes_less_memory_than_by_reverse_mode():
    def loss(weights):
        x = jnp.ones((64, 32))
        for w in weights:
            x = jnp.tanh(x @ w)
        return jnp.mean(x**2)

    weights = [jnp.eye(32)] * 6
    by_forward = lambda w, v: fbp.hvp(loss, (w,), (v,))
    by_reverse = lambda w, v: fbp.vjp(fbp.grad(loss), w)[1](v)
    sizes = [
        jax.jit(f).lower(weights, weights).compile().memory_analysis().temp_size_in_bytes
        for f in (by_forward, by_reverse)
    ]
    assert sizes[1] > 1.4 * sizes[0]
