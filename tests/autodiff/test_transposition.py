"""linear_transpose is the adjoint: <y, A x> = <A' y, x>, as JAX's."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fbp
from tests.support.agreement import assert_same

X = jnp.linspace(-1.0, 1.5, 6).reshape(2, 3)
M = jnp.linspace(0.5, 2.0, 12).reshape(3, 4)


def smooth(x):
    def step(carry, x):
        carry = 0.9 * carry + 0.1 * x
        return carry, carry

    return lax.scan(step, jnp.zeros(3), x)[1]


def repeated(x):
    return lax.fori_loop(0, jnp.int32(4), lambda _, x: x * 0.5 + x[::-1], x)


LINEAR = {
    "product": lambda x: x @ M,
    "sum": lambda x: {"rows": x.sum(0), "all": (x.sum(), 2 * x)},
    "scan": smooth,
    "jit": jax.jit(lambda x: jnp.roll(x, 1, 0) - x),
    "cond": lambda x: lax.cond(M[0, 0] > 0, lambda x: 2 * x, jnp.zeros_like, x),
    "checkpoint": jax.checkpoint(lambda x: jnp.pad(x, 1)),
    "unused": lambda x: jnp.zeros(3),
    "tangents": lambda x: jax.jvp(jnp.sin, (X,), (x,))[1],
}


@pytest.mark.parametrize("fun", LINEAR.values(), ids=LINEAR)
def test_transpose_is_that_of_jax(fun):
    ct = jax.tree.map(
        lambda y: jnp.cos(jnp.arange(y.size).astype(y.dtype)).reshape(y.shape), fun(X)
    )
    got, want = (library.linear_transpose(fun, X)(ct) for library in (fbp, jax))
    assert_same(got, want, 8)
    shape = jax.ShapeDtypeStruct(X.shape, X.dtype)
    assert_same(jax.jit(fbp.linear_transpose(fun, shape))(ct), want, 8)


def test_dynamic_loop_has_a_transpose():
    (got,) = jax.jit(lambda ct: fbp.linear_transpose(repeated, X)(ct))(X)
    rows = jax.jacfwd(repeated)(X)
    assert_same(got, jnp.tensordot(X, rows, 2), 8)


def test_twice_transposed_is_the_function():
    fun = LINEAR["product"]
    transposed = fbp.linear_transpose(fun, X)
    (again,) = fbp.linear_transpose(lambda ct: transposed(ct)[0], fun(X))(X)
    assert_same(again, fun(X))


def test_several_arguments():
    def fun(x, y):
        return 2 * x - y["a"]

    args = X, {"a": X}
    got, want = (library.linear_transpose(fun, *args)(X) for library in (fbp, jax))
    assert_same(got, want)


@pytest.mark.parametrize("fun", [jnp.sin, lambda x: x * x, lambda x: x[0] @ x[1]])
def test_what_is_not_linear_is_named(fun):
    with pytest.raises(TypeError, match="not linear in its arguments"):
        fbp.linear_transpose(fun, X)(fun(X))


def test_integers_have_no_transpose():
    with pytest.raises(TypeError, match=r"only supports.*int32"):
        fbp.linear_transpose(lambda x: x * 2, np.arange(3, dtype=np.int32))


@pytest.mark.parametrize(
    ("ct", "message"),
    [({"y": X}, "cotangent tree does not match"), (X[0], "cotangent type does not match")],
)
def test_cotangents_must_fit(ct, message):
    with pytest.raises(TypeError, match=message):
        fbp.linear_transpose(lambda x: x * 2, X)(ct)


def test_the_transpose_is_a_pytree_of_what_the_function_closes_over():
    """As JAX's: it leaves the jit in which it was made, and enters another one."""

    @jax.jit
    def make(a):
        return fbp.linear_transpose(lambda x: a @ x, jax.ShapeDtypeStruct((2,), "float32"))

    a = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    transposed = make(a)
    assert [x.shape for x in jax.tree.leaves(transposed)] == [(2, 2)]
    ct = jnp.array([1.0, -1.0])
    np.testing.assert_allclose(jax.jit(lambda f, ct: f(ct))(transposed, ct)[0], ct @ a)


def test_primals_are_anything_with_a_shape_and_a_dtype():
    """As JAX documents, whose own rules pass abstract values."""
    ducks = [
        types.SimpleNamespace(shape=(2,), dtype=jnp.dtype("float32")),
        jax.core.ShapedArray((2,), jnp.dtype("float32")),
        np.zeros(2, np.float32),
    ]
    for duck in ducks:
        for library in (jax, fbp):
            (ct,) = library.linear_transpose(lambda x: 3 * x, duck)(jnp.ones(2))
            np.testing.assert_array_equal(ct, [3, 3])
