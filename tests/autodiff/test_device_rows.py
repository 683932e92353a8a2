"""A Jacobian in a shard_map is each device's own: together they are that of the whole program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import fbp

W = jnp.cos(jnp.arange(12.0)).reshape(3, 4)
X = jnp.sin(jnp.arange(24.0)).reshape(8, 3)
V = jnp.linspace(-1.0, 1.0, 12).reshape(3, 4)


SHARED, ROWS = P(), P("rows")


def mapped(body, out_specs=ROWS):
    mesh = jax.make_mesh((4,), ("rows",), axis_types=(AxisType.Auto,))
    return jax.jit(jax.shard_map(body, mesh=mesh, in_specs=(SHARED, ROWS), out_specs=out_specs))


def apart(w, x, mean):
    """Each row for itself."""
    return jnp.tanh(x @ w).sum(-1)


def normalized(w, x, mean):
    """Each row depends on all others."""
    y = jnp.tanh(x @ w)
    return (y - mean(y)[None]).sum(-1) * mean(y**2).sum()


def normalized_in_a_loop(w, x, mean):
    return lax.fori_loop(0, 2, lambda _, y: y * normalized(w, x, mean), x[:, 0])


def said_to_vary(w, x, mean):
    return apart(lax.pcast(w, ("rows",), to="varying") if mean is over_devices else w, x, mean)


def over_devices(y):
    return lax.pmean(y.mean(0), "rows")


def over_rows(y):
    return y.mean(0)


def assert_close(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), got, want)


@pytest.mark.parametrize("fun", [apart, normalized, normalized_in_a_loop, said_to_vary])
@pytest.mark.parametrize("order", ["jacrev", "hessian"])
def test_rows_of_all_devices_are_the_jacobian_of_the_whole(fun, order):
    got = mapped(lambda w, x: getattr(fbp, order)(lambda w: fun(w, x, over_devices))(w))(W, X)
    assert_close(got, jax.jit(getattr(jax, order)(lambda w: fun(w, X, over_rows)))(W))


def test_values_that_all_devices_share_have_one_jacobian():
    """Beside others, each device's own, of one function."""

    def outs(w, x, mean):
        return {"own": normalized(w, x, mean), "sum": mean(x @ w), "same": jnp.sin(w).sum(0)}

    specs = {"own": P("rows"), "sum": P(), "same": P()}
    got = mapped(lambda w, x: fbp.jacrev(lambda w: outs(w, x, over_devices))(w), specs)(W, X)
    assert_close(got, jax.jit(jax.jacrev(lambda w: outs(w, X, over_rows)))(W))


def test_auxiliary_integer_and_several_arguments():
    def jacobian(w, x):
        fun = lambda n, x, w: (n * normalized(w, x, over_devices), x)
        (by_n, by_w), aux = fbp.jacrev(fun, (0, 2), has_aux=True, allow_int=True)(3, x, w)
        assert (by_n.dtype, by_n.shape) == (jax.dtypes.float0, (2,))
        return by_w, aux

    got, aux = mapped(jacobian, (P("rows"), P("rows")))(W, X)
    want = jax.jit(jax.jacrev(lambda w: 3 * normalized(w, X, over_rows)))(W)
    assert_close((got, aux), (want, X))


def test_a_jacobian_in_what_differs_from_device_to_device():
    rows = mapped(lambda w, x: fbp.jacrev(lambda x: jnp.sin(x @ w))(x))(W, X)
    gradient = jax.jit(jax.jacrev(lambda x: jnp.sin(x @ W)))
    blocks = [gradient(x) for x in X.reshape(4, 2, 3)]
    assert_close(rows, jnp.concatenate(blocks))


@pytest.mark.parametrize("axes", [("a", "b"), ("b", "a")])
def test_along_several_axes_of_a_mesh(axes):
    """Columns of w differ along one axis, rows of x along the other."""
    rows, columns = axes

    def fun(w, x, total):
        return jnp.tanh(x @ w) * total(jnp.sin(x @ w))

    def body(w, x):
        return fbp.jacrev(lambda w: fun(w, x, lambda y: lax.psum(y.sum(0), rows)[None]))(w)

    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    specs = P(None, columns), P(rows)
    run = jax.shard_map(body, mesh=mesh, in_specs=specs, out_specs=P(rows, columns))
    got = jax.jit(run)(W, X)
    whole = jax.jit(jax.jacrev(lambda w: fun(w, X, lambda y: y.sum(0)[None])))(W)
    halves = [whole[:, part, :, part] for part in (slice(0, 2), slice(2, 4))]
    assert_close(got, jnp.concatenate(halves, 1))


def test_nothing_is_computed_once_per_device_without_communication():
    def rows(fun):
        jacobian = mapped(lambda w, x: fbp.jacrev(lambda w: fun(w, x, over_devices))(w))
        return jax.jit(jacobian).lower(W, X).compile().cost_analysis()["flops"]

    assert rows(normalized) > 2 * rows(apart)


@pytest.mark.parametrize("what", ["varying", "the same"])
def test_a_cotangent_and_a_vector_may_be_the_same_on_all_devices(what):
    def body(w, x):
        ct = jnp.ones((2, 4)) if what == "the same" else jnp.ones_like(x @ w)
        vector = jnp.ones((2, 3)) if what == "the same" else jnp.ones_like(x)
        (from_ct,) = fbp.vjp(lambda x: jnp.sin(x @ w), x)[1](ct)
        (product,) = fbp.hvp(lambda x: jnp.sum(jnp.sin(x @ w)), (x,), (vector,))
        return from_ct, product

    def loss(x):
        return jnp.sum(jnp.sin(x @ W))

    want = jax.jit(lambda x: jax.jvp(jax.grad(loss), (x,), (jnp.ones_like(x),)))(X)
    assert_close(mapped(body, (P("rows"), P("rows")))(W, X), want)


def test_a_product_with_the_hessian_of_a_loss_of_all_devices():
    def loss(w, x, total):
        return total(jnp.sum(jnp.sin(x @ w)))

    def body(w, x):
        product = fbp.hvp(lambda w: loss(w, x, lambda y: lax.psum(y, "rows")), (w,), (V,))
        hessian = fbp.hessian(lambda w: loss(w, x, lambda y: lax.psum(y, "rows")))(w)
        return product[0], hessian

    hessian = jax.jit(jax.hessian(lambda w: loss(w, X, lambda y: y)))(W)
    assert_close(mapped(body, (P(), P()))(W, X), (jnp.tensordot(hessian, V, 2), hessian))
