import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.extend.core import primitives as p
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, auto_axes, reshard

import fbp
from fbp.autodiff.rules.device_put import RULES, layout_constraint_p, reshard_p
from fbp.testing import Case
from tests.support.agreement import assert_grad, assert_same
from tests.support.table import check_covers, rule_tests

P = PartitionSpec


def rows():
    return NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))


def constrained(x):
    return jnp.sin(lax.with_sharding_constraint(x * 2, rows()))


def laid_out(x):
    return jnp.sin(with_layout_constraint(x * 2, Layout((1, 0))))


CASES = [
    Case(layout_constraint_p, laid_out, ((4, 3),)),
    Case(p.sharding_constraint_p, constrained, ((8, 3),)),
    Case(p.sharding_constraint_p, constrained, ((8, 0),)),
    Case(p.device_put_p, lambda x: jnp.sin(jax.device_put(x)), ((3,),)),
    Case(p.device_put_p, lambda x, y: jax.device_put((x, y, x * y))[1:], ((3,), (3,))),
]


TestRules = rule_tests(RULES, CASES, without=(reshard_p,))


def test_reshard_binds_its_primitive():
    divided = NamedSharding(explicit_mesh(), P("x"))
    check_covers([reshard_p], [Case(reshard_p, lambda x: reshard(x, divided), ((8, 3),))])


def test_a_cotangent_is_sharded_as_its_value():
    x = jnp.ones((8, 3))
    gradient = jax.jit(fbp.grad(lambda x: jnp.sum(constrained(x))))(x)
    assert gradient.sharding.is_equivalent_to(rows(), 2)


@pytest.mark.parametrize("source", [None, 0])
def test_a_gradient_through_another_device(source):
    devices = jax.devices()
    x = jnp.arange(3.0)
    x = x if source is None else jax.device_put(x, devices[source])

    def loss(x):
        return jnp.sum(jnp.sin(jax.device_put(x, devices[1])))

    assert_same(fbp.grad(loss)(x), jax.grad(loss)(x))


def test_a_gradient_within_another_device_and_back():
    devices = jax.devices()

    def loss(x):
        there = jnp.sin(jax.device_put(x, devices[1]))
        return jnp.sum(jax.device_put(there, devices[0], src=devices[1]))

    assert_grad(loss, jax.device_put(jnp.arange(3.0), devices[0]))


def explicit_mesh():
    return jax.make_mesh((2, 4), ("x", "y"), axis_types=(AxisType.Explicit,) * 2)


def dot(a, b, *spec):
    return jnp.dot(a, b, out_sharding=P(*spec))


def network(x, w1, w2):
    hidden = jax.nn.relu(dot(x, w1, "x", "y"))
    return jax.nn.log_softmax(dot(hidden, w2, "x", None), axis=-1)


def mapped(a):
    return jax.shard_map(
        lambda a: jnp.sin(a) * lax.psum(jnp.sum(a), ("x", "y")), out_specs=P("x", "y")
    )(a)


def summed_late(a, b):
    terms = jnp.einsum("ij,jk->ik", a, b, out_sharding=P("x", None, unreduced={"y"}))
    return reshard(terms, P("x", None))


def looped(a):
    return lax.scan(lambda sum_, row: (sum_ + row, sum_ * row), a[:, 0], a.T)[1]


def chosen(a):
    return lax.cond(jnp.sum(a) > 0, lambda a: jnp.sin(a), lambda a: a * a, a)


BOTH, ROWS, COLUMNS, ALL = P("x", "y"), P("x", None), P(None, "y"), P(None, None)
SHARDED = {
    "elementwise": (lambda a, b: jnp.sin(a + b) * b, ((8, 16), BOTH), ((8, 16), BOTH)),
    "reductions": (lambda a: jnp.mean(a, 1) * jnp.max(a, 1) + jnp.var(a, 1), ((8, 16), BOTH)),
    "copies": (lambda b: jnp.broadcast_to(b, (8, 16), out_sharding=BOTH) ** 2, ((16,), P("y"))),
    "bias": (lambda a, b: jnp.sin(a + b[None]), ((8, 16), BOTH), ((16,), P("y"))),
    "dot": (lambda a, b: dot(a, b, "x", None), ((8, 16), BOTH), ((16, 8), P("y", None))),
    "outer": (lambda a, b: a @ b, ((8, 16), ROWS), ((16, 8), COLUMNS)),
    "einsum": (
        lambda a, b: jnp.einsum("ij,jk->ki", a, b, out_sharding=P(None, "x")),
        ((8, 16), BOTH),
        ((16, 8), P("y", None)),
    ),
    "batch": (lambda a: jnp.einsum("bi,bi->b", a, jnp.sin(a)), ((8, 16), ROWS)),
    "split": (lambda a: lax.reshape(a, (8, 4, 4), out_sharding=P("x", "y", None)), ((8, 16), BOTH)),
    "flat": (lambda a: lax.reshape(a, (128,), out_sharding=P(("x", "y"))), ((8, 16), BOTH)),
    "transpose": (lambda a: jnp.sin(a.T[:, None]), ((8, 16), BOTH)),
    "tile": (lambda a: jnp.tile(a, (1, 2)) ** 2, ((8, 16), ROWS)),
    "pieces": (lambda a: jnp.concatenate([a, a[:, 2:] * 2, a[:, :1]], 1) ** 2, ((8, 16), ROWS)),
    "pad": (lambda a: jnp.pad(a, ((0, 0), (1, 2)))[:, ::-1] ** 2, ((8, 16), ROWS)),
    "stack": (lambda a: jnp.stack([a, a * a]), ((8, 16), BOTH)),
    "gather": (
        lambda a: a.at[:, jnp.array([1, 2, 2])].get(out_sharding=P("x", None)) ** 2,
        ((8, 16), ROWS),
    ),
    "scatter": (lambda a: a.at[:, 1].set(2.0) ** 2, ((8, 16), ROWS)),
    "blocks": (
        lambda a: lax.dynamic_update_slice_in_dim(a, a[:, :2] * 2, 1, 1) ** 2,
        ((8, 16), ROWS),
    ),
    "select": (lambda a: jnp.where(a > 0, a, 0.0) ** 2, ((8, 16), BOTH)),
    "cumulative": (lambda a: jnp.cumsum(a, 1) ** 2, ((8, 16), ROWS)),
    "reshard": (lambda a: jnp.sin(reshard(a * a, COLUMNS)), ((8, 16), BOTH)),
    "replicate": (lambda a: jnp.sin(reshard(a * a, ALL)), ((8, 16), BOTH)),
    "constraint": (lambda a: jnp.sin(lax.with_sharding_constraint(a * a, BOTH)), ((8, 16), BOTH)),
    "automatic": (
        lambda a: auto_axes(lambda a: jnp.sin(a) * a, out_sharding=BOTH)(a * 2),
        ((8, 16), BOTH),
    ),
    "summed late": (summed_late, ((8, 16), BOTH), ((16, 8), P("y", None))),
    "jit": (lambda a: jax.jit(lambda x: jnp.sin(x) * x)(a) ** 2, ((8, 16), BOTH)),
    "checkpoint": (jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))), ((8, 16), BOTH)),
    "scan": (looped, ((8, 16), ROWS)),
    "cond": (chosen, ((8, 16), BOTH)),
    "vmap": (jax.vmap(lambda a: jnp.sin(a) * jnp.sum(a)), ((8, 16), BOTH)),
    "shard_map": (mapped, ((8, 16), BOTH)),
    "unused": (lambda a, b: jnp.sin(a), ((8, 16), BOTH), ((8, 16), ROWS)),
    "convolution": (
        lambda a, w: lax.conv_general_dilated(a[:, None], w, (1,), "SAME"),
        ((8, 16), ROWS),
        ((2, 1, 3), P()),
    ),
    "network": (network, ((8, 16), ROWS), ((16, 32), COLUMNS), ((32, 8), P("y", None))),
}


@pytest.mark.parametrize("name", SHARDED)
def test_gradients_are_sharded_as_their_primals_where_types_say_so(name):
    fun, *described = SHARDED[name]
    rng = np.random.default_rng(0)
    with jax.set_mesh(explicit_mesh()):
        args = [
            jax.device_put(rng.normal(size=shape).astype("float32"), spec)
            for shape, spec in described
        ]
        argnums = tuple(range(len(args)))

        def gradients(library):
            return library.grad(lambda *args: jnp.sum(jnp.sin(fun(*args))), argnums)

        got, want = jax.jit(lambda *args: (gradients(fbp)(*args), gradients(jax)(*args)))(*args)
    for a, b, x in zip(got, want, args, strict=True):
        assert jax.typeof(a).sharding == jax.typeof(x).sharding
        assert_same(np.asarray(a), np.asarray(b), tolerance=16)


RESHAPED = {
    "split": lambda x: lax.reshape(x, (4, 2)),
    "split in a jit": jax.jit(lambda x: lax.reshape(x, (4, 2))),
    "axis of size one": lambda x: lax.expand_dims(x, (0,)),
    "spread": lambda x: jnp.broadcast_to(x[None], (3, 8)),
}


@pytest.mark.parametrize("name", RESHAPED)
def test_what_is_still_to_be_summed_is_reshaped_as_such(name):
    fun = RESHAPED[name]
    with jax.set_mesh(explicit_mesh()):
        x = jax.device_put(np.ones(8, np.float32), P(reduced={"x", "y"}))
        got = jax.jit(fbp.grad(lambda x: jnp.sum(fun(x))))(x)
        assert jax.typeof(got).sharding.spec.unreduced == {"x", "y"}
        total = reshard(got, P())
    np.testing.assert_array_equal(total, fun(np.ones(8, np.float32)).size / 8)


def test_a_step_keeps_the_sharding_of_its_parameters():
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=shape), "float32") for shape in ((8, 16), (16, 8)))
    w = jax.device_put(w, NamedSharding(mesh, P(None, "y")))
    x = jax.device_put(x, NamedSharding(mesh, P("x", None)))

    def step(library):
        gradient = library.grad(lambda w: jnp.mean(jnp.tanh(x @ w) ** 2))
        return jax.jit(lambda w: w - gradient(w))(w)

    assert step(fbp).sharding.is_equivalent_to(w.sharding, 2)
    assert_same(step(fbp), step(jax))


def test_a_cotangent_returns_to_the_hosts_memory():
    host, device = jax.memory.Space.Host, jax.memory.Space.Device

    def loss(x):
        return jnp.sum(jnp.sin(jax.device_put(jax.device_put(x, host), device)))

    x = jnp.arange(3.0)
    assert_same(jax.jit(fbp.grad(loss))(x), jnp.cos(x))
    staged = jax.make_jaxpr(fbp.grad(loss))(x)
    spaces = [
        eqn.outvars[0].aval.memory_space for eqn in staged.eqns if "put" in str(eqn.primitive)
    ]
    assert spaces == [host, device, host, device]


# Regions in the terms of another mesh, that close over values without one


def region(mesh_type):
    """The terms in which a region is, within those of a mesh."""
    if mesh_type is AxisType.Explicit:
        return lambda f: auto_axes(f, out_sharding=P())
    return lambda f: jax.sharding.explicit_axes(f, in_sharding=P())


CLOSURES = {
    "straight": lambda p, x, inside: inside(lambda x: jnp.sin(p * x) * x)(x) * p,
    "cond": lambda p, x, inside: lax.cond(
        p[0] > 0, lambda x: inside(lambda x: jnp.sin(p * x) * x * p)(x), lambda x: x, x
    ),
    "scan": lambda p, x, inside: lax.scan(
        lambda c, _: (inside(lambda c: jnp.sin(p * c) * c)(c) * p, ()), x, length=2
    )[0],
    "a scan within": lambda p, x, inside: inside(
        lambda x: lax.scan(lambda c, _: (jnp.sin(p * c) * c, ()), x, length=2)[0]
    )(x),
    "a jit within": lambda p, x, inside: inside(jax.jit(lambda x: jnp.sin(p * x) * x * p))(x),
    "checkpoint": lambda p, x, inside: jax.checkpoint(inside(lambda x: jnp.sin(p * x) * p))(x) * p,
    "fori_loop": lambda p, x, inside: lax.fori_loop(
        0, 2, lambda _, c: inside(lambda c: jnp.sin(p * c) * c)(c) * p, x
    ),
}


@pytest.mark.parametrize("mesh_type", [AxisType.Explicit, AxisType.Auto], ids=str)
@pytest.mark.parametrize("name", CLOSURES)
def test_a_region_that_closes_over_a_value_without_a_mesh(name, mesh_type):
    def loss(p, x, inside, put):
        return jnp.sum(CLOSURES[name](p, put(x), inside))

    p, x = jnp.linspace(0.5, 1.5, 4), jnp.linspace(-1.0, 1.0, 4)
    plain = lambda *args: loss(*args, lambda f: f, lambda x: x)
    want = jax.jit(lambda p, x: [order(jax)(plain)(p, x) for order in ORDERS])(p, x)
    mesh = jax.make_mesh((4,), ("x",), axis_types=(mesh_type,))
    with jax.set_mesh(mesh):
        put = (lambda x: reshard(x, P())) if mesh_type is AxisType.Explicit else lambda x: x
        inside = region(mesh_type)
        in_region = lambda *args: loss(*args, inside, put)
        got = jax.jit(lambda p, x: [order(fbp)(in_region)(p, x) for order in ORDERS])(p, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, want)


ORDERS = (
    lambda library: library.grad,
    lambda library: lambda f: library.grad(f, 1),
    lambda library: lambda f: library.jacrev(library.grad(f, (0, 1)), (0, 1)),
)
