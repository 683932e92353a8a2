"""Gradients of gradients, in every order of fbp and JAX, under vmap, jit and jvp."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import fbp
from tests.support.agreement import assert_same, total
from tests.support.programs import PROGRAMS, W, X, mlp

programs = pytest.mark.parametrize("name", PROGRAMS)


def energy(gradient, x):
    """A scalar function of a gradient."""
    return total(gradient(x))


def in_turn(fun, *libraries):
    """The gradient of an energy of the gradient of ..., each by its library, within jit."""
    first, *others = libraries
    gradient = first.grad(fun)
    for library in others:
        gradient = library.grad(functools.partial(energy, gradient))
    return jax.jit(gradient)


def assert_each_is_jaxs(fun, *args, tolerance):
    """The results by name of `fun(library, ...)` are those of JAX; one compilation makes all."""

    @jax.jit
    def both(*args):
        return fun(fbp, *args), fun(jax, *args)

    got, want = both(*args)
    for name in got:
        assert_same(got[name], want[name], tolerance)


@programs
def test_second_order(name):
    @jax.jit
    def all_orders(x):
        return {
            f"{outer.__name__} of {inner.__name__}": in_turn(PROGRAMS[name], inner, outer)(x)
            for outer in (fbp, jax)
            for inner in (fbp, jax)
        }

    results = all_orders(X)
    for order, got in results.items():
        assert_same({order: got}, {order: results["jax of jax"]}, tolerance=64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "branch", "remat", "custom_vjp", "short_loop"])
def test_third_order(name):
    got = in_turn(PROGRAMS[name], fbp, fbp, fbp)(X)
    assert_same(got, in_turn(PROGRAMS[name], jax, jax, jax)(X), tolerance=512)


@pytest.mark.slow
@pytest.mark.parametrize("libraries", [(jax, fbp, jax), (fbp, jax, fbp)], ids=["jfj", "fjf"])
def test_third_order_in_turns(libraries):
    got = in_turn(PROGRAMS["short_loop"], *libraries)(X)
    assert_same(got, in_turn(PROGRAMS["short_loop"], jax, jax, jax)(X), tolerance=512)


def test_fourth_order_of_a_scalar_function():
    def fourth(library):
        grad = library.grad
        return grad(grad(grad(grad(lambda x: jnp.sin(x) * jnp.exp(x)))))(0.7)

    assert_same(fourth(fbp), fourth(jax), tolerance=32)


@programs
def test_vmap_of_a_gradient_and_gradient_of_a_vmap(name):
    xs = jnp.stack([X, -X, X * 2])

    def maps(library, xs):
        return {
            "vmap of grad": jax.vmap(library.grad(PROGRAMS[name]))(xs),
            "grad of vmap": library.grad(lambda xs: total(jax.vmap(PROGRAMS[name])(xs)))(xs),
        }

    assert_each_is_jaxs(maps, xs, tolerance=16)


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - {"custom_vjp"}))
def test_forward_over_reverse_and_reverse_over_forward(name):
    v = jnp.array([1.0, -0.5, 2.0, 0.25])

    def products(library, x):
        def slope(x):
            return jax.jvp(PROGRAMS[name], (x,), (v,))[1]

        return {
            "forward over reverse": jax.jvp(library.grad(PROGRAMS[name]), (x,), (v,)),
            "reverse over forward": library.grad(slope)(x),
        }

    assert_each_is_jaxs(products, X, tolerance=64)


def test_hessian_by_jacfwd_of_grad_is_symmetric():
    hessian = jax.jit(jax.jacfwd(fbp.grad(mlp)))(X)
    assert_same(hessian, jax.jit(jax.hessian(mlp))(X), tolerance=64)
    assert_same(hessian, hessian.T, tolerance=64)


def test_gradients_within_a_scan():
    def descend(library, x):
        def step(x, _):
            value, gradient = library.value_and_grad(mlp)(x)
            return x - 0.01 * gradient, value

        return lax.scan(step, x, length=3)

    got, want = (jax.jit(functools.partial(descend, library))(X) for library in (fbp, jax))
    assert_same(got, want, tolerance=16)


def test_gradient_through_gradient_descent():
    def unrolled(library, x):
        def step(x, _):
            return x - 0.1 * library.grad(mlp)(x), None

        return mlp(lax.scan(step, x, length=3)[0])

    pairs = [(fbp, fbp), (fbp, jax), (jax, fbp), (jax, jax)]
    gradients = [outer.grad(functools.partial(unrolled, inner)) for outer, inner in pairs]
    *got, want = jax.jit(lambda x: [gradient(x) for gradient in gradients])(X)
    for each in got:
        assert_same(each, want, tolerance=64)


def test_gradients_within_branches_and_checkpoints():
    def loss(library, x):
        gradient = library.grad(mlp)
        y = lax.cond(x[0] > 0, gradient, lambda x: x, x)
        return total(jax.checkpoint(gradient)(y))

    want = jax.jit(jax.grad(functools.partial(loss, jax)))(X)
    assert_same(jax.jit(fbp.grad(functools.partial(loss, fbp)))(X), want, tolerance=64)


def test_gradients_within_custom_rules():
    def made(library):
        f = jax.custom_vjp(mlp)
        f.defvjp(lambda x: (mlp(x), x), lambda x, ct: (ct * library.grad(mlp)(x) * 2,))
        return f

    assert_same(jax.jit(fbp.grad(made(fbp)))(X), jax.jit(jax.grad(made(jax)))(X))


def test_per_example_gradients_are_vmap_of_grad():
    xs, ys = jnp.stack([X, X + 1, X * 2]), jnp.arange(3.0)

    def per_example(library):
        def loss(w, x, y):
            return (jnp.sum(jnp.tanh(w @ x)) - y) ** 2

        return jax.jit(jax.vmap(library.grad(loss), (None, 0, 0)))(W, xs, ys)

    assert_same(per_example(fbp), per_example(jax), tolerance=16)


def test_vmap_with_named_axes():
    def loss(library, x):
        return library.grad(lambda x: jnp.sum(jnp.sin(x)) * lax.axis_size("batch"))(x)

    xs = jnp.stack([X, X + 1])
    got = jax.vmap(functools.partial(loss, fbp), axis_name="batch")(xs)
    assert_same(got, jax.vmap(functools.partial(loss, jax), axis_name="batch")(xs))


# Precision


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["mlp", "loop", "branch_in_loop", "remat", "custom_jvp"])
def test_doubles_agree_to_doubles_precision(name):
    x = jnp.asarray(np.asarray(X), jnp.float64)
    fun = jax.tree_util.Partial(PROGRAMS_IN_DOUBLE[name])
    assert_same(jax.jit(fbp.grad(fun))(x), jax.jit(jax.grad(fun))(x), tolerance=16)


def _in_double(fun):
    def run(x):
        with jax.numpy_dtype_promotion("standard"):
            return fun(x)

    return run


PROGRAMS_IN_DOUBLE = {name: _in_double(fun) for name, fun in PROGRAMS.items()}


def test_mixed_precision_of_a_network():
    def loss(params, x):
        hidden = jnp.tanh(x.astype(jnp.bfloat16) @ params["w"].astype(jnp.bfloat16))
        logits = (hidden @ params["v"]).astype(jnp.float32) + params["b"][None]
        return jnp.mean(jax.nn.log_softmax(logits)[:, 0])

    params = {"w": W, "v": W.astype(jnp.bfloat16), "b": X}
    x = jnp.stack([X, X + 1])
    got, want = fbp.grad(loss)(params, x), jax.grad(loss)(params, x)
    assert [x.dtype for x in got.values()] == [x.dtype for x in want.values()]
    in_bfloat16 = functools.partial(jax.tree.map, lambda x: x.astype(jnp.bfloat16))
    assert_same(in_bfloat16(got), in_bfloat16(want), tolerance=4)


# Several devices


@pytest.mark.parametrize("name", ["mlp", "loop", "remat", "branch"])
def test_a_batch_over_several_devices_has_the_same_gradient(name):
    mesh = Mesh(np.array(jax.devices()), ("data",))
    xs = jnp.linspace(-1.0, 1.0, 4 * len(jax.devices())).reshape(-1, 4)

    def loss(scale, xs):
        return jnp.mean(jax.vmap(PROGRAMS[name])(xs * scale))

    gradient = jax.jit(fbp.grad(loss, (0, 1)))
    sharded = jax.device_put(xs, NamedSharding(mesh, PartitionSpec("data")))
    got = gradient(jnp.float32(1.5), sharded)
    assert len(got[1].sharding.device_set) == len(jax.devices())
    want = jax.jit(jax.grad(loss, (0, 1)))(jnp.float32(1.5), xs)
    assert_same(got, want, tolerance=64)


def test_sharded_parameters_have_sharded_gradients():
    mesh = Mesh(np.array(jax.devices()).reshape(2, -1), ("data", "model"))
    w = jax.random.normal(jax.random.key(0), (8, 16))
    xs = jax.random.normal(jax.random.key(1), (4, 8))

    def loss(w, xs):
        return jnp.mean(jnp.tanh(xs @ w) ** 2)

    w_sharding = NamedSharding(mesh, PartitionSpec(None, "model"))
    x_sharding = NamedSharding(mesh, PartitionSpec("data"))
    gradient = jax.jit(fbp.grad(loss), out_shardings=w_sharding)
    got = gradient(jax.device_put(w, w_sharding), jax.device_put(xs, x_sharding))
    assert got.sharding.is_equivalent_to(w_sharding, 2)
    assert_same(got, jax.jit(jax.grad(loss))(w, xs), tolerance=16)
