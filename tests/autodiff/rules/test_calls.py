"""Programs within programs: a jit stays a jit, other calls are their bodies."""

import logging

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental.layout import Format, Layout
from jax.extend.core.primitives import closed_call_p
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fbp
from tests.support.agreement import assert_jitted_grad, assert_same, total
from tests.support.jaxprs import primitives, staged

W = jnp.linspace(0.1, 2.0, 4)
SCALE = jnp.float32(0.3)
MATRIX = jnp.linspace(-1.0, 1.0, 16).reshape(4, 4)


@jax.jit
def smooth(x):
    return jnp.sin(x) * jnp.tanh(x)


@pytest.mark.parametrize(
    "fun",
    [
        lambda s, w: total(jax.jit(lambda s, w: jnp.sin(w) * s)(s, w)),
        lambda s, w: total(jax.jit(lambda s, w: (w, jnp.sin(w), 3, s, w))(s, w)),
        lambda s, w: total(jax.jit(lambda n, w: w * n, static_argnums=0)(3, w)) * s,
        lambda s, w: total(jax.jit(lambda s, w: w * s)(s, w=w)),
        lambda s, w: total(jax.jit(lambda w: w * s, inline=True)(w)),
        lambda s, w: total(jax.jit(lambda: w * s)()),
        lambda s, w: total(jax.jit(lambda w: jnp.ones(4))(w)) * s,
        lambda s, w: total(jax.jit(lambda w, i: w * i.astype(w.dtype) + s)(w, jnp.int32(2))),
        lambda s, w: total(jax.jit(lambda t: t["w"] * t["s"])({"w": w, "s": s})),
        lambda s, w: total(jax.jit(lambda w: jax.jit(smooth)(w) * s)(w)),
        lambda s, w: total(jax.jit(lambda w: w * np.arange(4, dtype=np.float32))(w)) * s,
        lambda s, w: total(jax.jit(jax.vmap(lambda w: smooth(w) * s))(w)),
        lambda s, w: total(jax.jit(lambda w, unused: smooth(w))(w, s)),
    ],
    ids=[
        "plain", "passes_inputs", "static", "keyword", "inline", "captured", "constant",
        "integer", "tree", "nested", "numpy", "vmap", "unused",
    ],
)  # fmt: skip
def test_gradient_through_jit(fun):
    assert_jitted_grad(fun, SCALE, W, argnums=(0, 1))


def test_jit_stays_jit_in_both_directions():
    names = [
        eqn.params["name"]
        for eqn in staged(fbp.grad(lambda x: total(smooth(x))), W)
        if str(eqn.primitive) == "jit"
    ]
    assert names == ["smooth", "smooth_backward"]


def test_a_repeated_jit_is_differentiated_once():
    def chain(x):
        for _ in range(5):
            x = smooth(x)
        return jnp.sum(x)

    jaxprs = [
        eqn.params["jaxpr"] for eqn in staged(fbp.grad(chain), W) if str(eqn.primitive) == "jit"
    ]
    assert len(jaxprs) == 10
    assert len({id(jaxpr) for jaxpr in jaxprs}) == 2
    assert_jitted_grad(chain, W)


def test_a_jit_is_staged_once_for_many_gradients():
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def counted(x):
        return jnp.sin(x)

    for scale in (1.0, 2.0, 3.0):
        fbp.grad(lambda x: total(counted(x)) * scale)(W)


def test_a_gradient_compiles_no_more_the_second_time(caplog):
    gradient = jax.jit(fbp.grad(lambda x: total(smooth(x))))
    gradient(W)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        gradient(W)
    assert not caplog.records


def test_eager_gradients_of_one_jit_compile_once(caplog):
    def loss(x):
        return total(smooth(x))

    fbp.grad(loss)(W)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        fbp.grad(loss)(W)
    assert not [r for r in caplog.records if "Compiling" in r.getMessage()]


def test_only_wanted_cotangents_leave_a_jit():
    def loss(x, y):
        return jnp.sum(jax.jit(lambda x, y: x @ y)(x, y))

    assert primitives(fbp.grad(loss), MATRIX, MATRIX)["dot_general"] == 2
    assert primitives(fbp.grad(loss, (0, 1)), MATRIX, MATRIX)["dot_general"] == 3


def test_named_scopes_survive_within_jit():
    @jax.jit
    def layer(x):
        with jax.named_scope("layer"):
            return jnp.sin(x)

    stacks = [
        str(eqn.source_info.name_stack)
        for eqn in staged(fbp.grad(lambda x: jnp.sum(layer(x))), W)
        if str(eqn.primitive) in ("cos", "mul")
    ]
    assert len(stacks) == 2
    assert all("layer" in stack for stack in stacks)
    assert "backward" in stacks[1]


MESH = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Auto,))
BY_ROW, WHOLE = (NamedSharding(MESH, PartitionSpec(*names)) for names in (["x"], []))
TRANSPOSED = Format(Layout((1, 0)), BY_ROW)
SETTINGS = [
    {"in_shardings": (BY_ROW, None), "out_shardings": WHOLE},
    {"in_shardings": (TRANSPOSED, None), "out_shardings": TRANSPOSED},
    {"keep_unused": True},
    {"donate_argnums": (0, 1)},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(s))
def test_a_jit_keeps_its_settings_in_both_directions(settings):
    layer = jax.jit(lambda x, y: jnp.sin(x) * y, **settings)

    def jits(lib):
        return [
            {k: v for k, v in eqn.params.items() if k not in ("jaxpr", "name")}
            for eqn in staged(lib.grad(lambda x, y: total(layer(x, y)), (0, 1)), MATRIX, MATRIX)
            if str(eqn.primitive) == "jit" and "jit" not in str(eqn.params["name"])
        ]

    mine, jaxs = jits(fbp), jits(jax)
    assert len(mine) == 2
    if "donate_argnums" in settings:
        jaxs[0]["donated_invars"] = (True, False)  # the backward pass reads y
    assert mine == jaxs


def test_what_the_backward_pass_does_not_read_is_given_away():
    layer = jax.jit(lambda x, y: jnp.sin(x) + 2 * y, donate_argnums=(0, 1))
    x, y = MATRIX + 1, MATRIX + 2
    gradients = fbp.grad(lambda x, y: jnp.sum(layer(x, y)), (0, 1))(x, y)
    assert_same(gradients, (jnp.cos(MATRIX + 1), jnp.full((4, 4), 2, "float32")))
    assert y.is_deleted()


def test_a_composite_stays_one_and_has_the_derivative_of_its_body():
    composite = lax.composite(lambda x: jnp.sin(x) * x, "library.function")

    def of(fun):
        return lambda x: total(fun(x))

    def body(x):
        return jnp.sin(x) * x

    assert_same(fbp.grad(of(composite))(W), jax.grad(of(body))(W))
    assert_same(
        fbp.grad(lambda x: total(fbp.grad(of(composite))(x)))(W),
        jax.grad(lambda x: total(jax.grad(of(body))(x)))(W),
        tolerance=16,
    )
    assert primitives(fbp.grad(of(composite)), W)["composite"] == 1


def test_a_function_batched_by_hand_has_the_derivative_of_its_body():
    batched = []

    @jax.custom_batching.custom_vmap
    def layer(x, y):
        return jnp.sin(x) * y

    @layer.def_vmap
    def _(size, in_batched, x, y):
        batched.append(in_batched)
        return jnp.sin(x) * y, True

    got = jax.vmap(fbp.grad(layer, (0, 1)), (0, None))(W, jnp.float32(2))
    assert_same(got, (2 * jnp.cos(W), jnp.sin(W)))
    assert batched == [[True, False]]
    assert_same(fbp.grad(lambda x: jnp.sum(jax.vmap(layer)(x, W)))(W), jnp.cos(W) * W)


def test_closed_calls_are_their_bodies():
    def called(x):
        program = jax.make_jaxpr(lambda x: (jnp.sin(x), x * x))(x)
        params = closed_call_p.get_bind_params({"call_jaxpr": program})
        return closed_call_p.bind(x, **params)

    assert_jitted_grad(lambda x: total(called(x)), W)
