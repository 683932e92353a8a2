"""Jacobians, Hessians and their products are JAX's: values, trees, shapes and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fbp
from tests.support.agreement import assert_agree, assert_same

X = jnp.linspace(-1.0, 1.5, 6).reshape(2, 3)
TREE = {"w": jnp.linspace(0.2, 1.1, 3), "b": (jnp.float32(0.7), jnp.linspace(1.0, 2.0, 2))}


def of_tree(p, scale=1.0):
    w, (b, c) = p["w"], p["b"]
    return {"y": jnp.sin(w) * b * scale, "z": [jnp.outer(c, w), b**3]}


def scalar_of_tree(p):
    out = of_tree(p)
    return jnp.sum(out["y"]) * jnp.sum(out["z"][0]) + out["z"][1]


FUNCTIONS = {
    "matrix": (lambda x: jnp.sin(x) @ x.T, X),
    "scalar": (lambda x: jnp.sum(x**3), X),
    "vector_to_itself": (lambda x: x, X[0]),
    "zero_size": (lambda x: x[:, :0] * 2, X),
    "no_dependence": (lambda x: jnp.ones(2), X),
    "tree": (of_tree, TREE),
    "scalar_of_tree": (scalar_of_tree, TREE),
}


@pytest.mark.parametrize(("fun", "x"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_jacobian(fun, x):
    got, want = jax.jit(lambda x: (fbp.jacrev(fun)(x), jax.jacrev(fun)(x)))(x)
    assert_same(got, want)
    assert_same(fbp.jacrev(fun)(x), want)


@pytest.mark.parametrize(("fun", "x"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_hessian(fun, x):
    assert_agree(fbp.hessian(fun), jax.hessian(fun), x, tolerance=8)


@pytest.mark.parametrize("argnums", [0, 1, (0,), (1, 0), -1])
def test_argnums(argnums):
    def fun(x, y):
        return x * jnp.sin(y)

    args = X[0], X[1]
    assert_agree(fbp.jacrev(fun, argnums), jax.jacrev(fun, argnums), *args)
    assert_agree(fbp.hessian(fun, argnums), jax.hessian(fun, argnums), *args)


def test_auxiliary_output():
    def fun(x):
        return x**2, {"mean": jnp.mean(x)}

    for mine, other in ((fbp.jacrev, jax.jacrev), (fbp.hessian, jax.hessian)):
        assert_agree(mine(fun, has_aux=True), other(fun, has_aux=True), X)


def test_holomorphic():
    z = lax.complex(X[0], X[1])
    for mine, other in ((fbp.jacrev, jax.jacrev), (fbp.hessian, jax.hessian)):
        assert_agree(mine(jnp.sin, holomorphic=True), other(jnp.sin, holomorphic=True), z)


def test_integer_inputs_have_float0_jacobians():
    got = fbp.jacrev(lambda n: n.astype(float), allow_int=True)(jnp.arange(3))
    assert (got.shape, got.dtype) == ((3, 3), jax.dtypes.float0)


@pytest.mark.parametrize(
    ("fun", "x"),
    [
        (lambda n: n.astype(float), np.arange(3)),
        (lambda x: x.astype(int), X),
        (lambda x: lax.complex(x, x), X),
    ],
    ids=["integer_input", "integer_output", "complex_output"],
)
def test_errors_are_those_of_jax(fun, x):
    with pytest.raises(TypeError) as wanted:
        jax.jacrev(fun)(x)
    with pytest.raises(TypeError) as got:
        fbp.jacrev(fun)(x)
    assert str(got.value).replace("fbp.", "jax.").startswith(str(wanted.value))


def test_third_order():
    def fun(x):
        return jnp.sum(jnp.sin(x) * x[0])

    ours, theirs = (lib.jacrev(lib.jacrev(lib.grad(fun))) for lib in (fbp, jax))
    assert_agree(ours, theirs, X[0], tolerance=8)


def test_hvp_is_the_hessian_times_the_vector():
    tangents = jax.tree.map(jnp.cos, TREE)
    (got,) = fbp.hvp(scalar_of_tree, (TREE,), (tangents,))
    want = jax.jvp(jax.grad(scalar_of_tree), (TREE,), (tangents,))[1]
    assert_same(got, want, 8)


def test_hvp_forward_over_reverse_is_the_same():
    tangents = jax.tree.map(jnp.cos, TREE)
    (got,) = fbp.hvp(scalar_of_tree, (TREE,), (tangents,))
    assert_same(jax.jvp(fbp.grad(scalar_of_tree), (TREE,), (tangents,))[1], got, 8)


def test_hvp_of_several_arguments():
    def fun(x, y):
        return jnp.sum(x**2 * y)

    vectors = jnp.cos(X), jnp.sin(X)
    want = jax.jvp(jax.grad(fun, (0, 1)), (X, X + 1), vectors)[1]
    assert_same(fbp.hvp(fun, (X, X + 1), vectors), want)
