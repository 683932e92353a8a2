"""Custom rules are the user's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.custom_derivatives import SymbolicZero, linear_call

import fbp
from tests.support.agreement import assert_jitted_grad, assert_same, total
from tests.support.jaxprs import equations

W = jnp.linspace(0.1, 2.0, 4)

# custom_jvp


@jax.custom_jvp
def scaled(x, y):
    return jnp.sin(x) * y


@scaled.defjvp
def _(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    return scaled(x, y), 3 * jnp.cos(x) * y * dx + jax.jit(jnp.sin)(x) * dy


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 2))
def power(fun, x, n):
    return fun(x) ** n


@power.defjvp
def _(fun, n, primals, tangents):
    (x,), (dx,) = primals, tangents
    return power(fun, x, n), dx * n * fun(x)


@jax.custom_jvp
def by_argument(x, y):
    return jnp.sin(x) * y


by_argument.defjvps(lambda dx, ans, x, y: 2 * dx * y, None)


@jax.custom_jvp
def tree_rule(tree):
    return {"p": tree["x"] * tree["y"], "q": tree["x"]}


@tree_rule.defjvp
def _(primals, tangents):
    (tree,), (dot,) = primals, tangents
    return tree_rule(tree), {"p": 5 * dot["x"] * tree["y"], "q": dot["y"]}


@jax.custom_jvp
def counted(x, n):
    return x * n.astype(x.dtype), n


@counted.defjvp
def _(primals, tangents):
    (x, n), (dx, dn) = primals, tangents
    assert dn.dtype == jax.dtypes.float0
    return counted(x, n), (5 * dx, dn)


@jax.custom_jvp
def iterated(x):
    return lax.fori_loop(0, 3, lambda _, x: jnp.sin(x), x)


@iterated.defjvp
def _(primals, tangents):
    def body(carry, _):
        x, dx = carry
        return (jnp.sin(x), 2 * jnp.cos(x) * dx), None

    return lax.scan(body, (*primals, *tangents), length=3)[0]


@pytest.mark.parametrize(
    "fun",
    [
        lambda x, y: total(scaled(x, y)),
        lambda x, y: total(scaled(x, x)) + total(y),
        lambda x, y: total(power(jnp.sin, x, 3)) * y[0],
        lambda x, y: total(by_argument(x, y)),
        lambda x, y: total(tree_rule({"x": x, "y": y})),
        lambda x, y: total(counted(x * y, jnp.int32(3))[0]),
        lambda x, y: total(iterated(x)) * y[0],
        lambda x, y: total(scaled(scaled(x, y), iterated(y))),
        lambda x, y: total(jax.jit(scaled)(x, y)),
        lambda x, y: total(jax.vmap(scaled)(x, y)),
        lambda x, y: total(jax.checkpoint(scaled)(x, y)),
        lambda x, y: total(lax.scan(lambda c, x: (scaled(c, x), c), y, jnp.stack([x, y]))),
        lambda x, y: total(scaled(lax.stop_gradient(x), y)),
    ],
    ids=[
        "plain", "same_twice", "nondiff", "defjvps", "tree", "integer", "scan_in_rule", "nested",
        "in_jit", "vmap", "in_checkpoint", "in_scan", "stopped",
    ],
)  # fmt: skip
def test_custom_jvp_rules_are_the_users(fun):
    assert_jitted_grad(fun, W, W + 1, argnums=(0, 1))
    assert_jitted_grad(fun, W, W + 1)


@pytest.mark.parametrize(
    "name",
    ["relu", "relu6", "silu", "gelu", "softplus", "elu", "selu", "celu", "leaky_relu", "mish",
     "log_sigmoid", "hard_tanh", "hard_swish", "soft_sign", "squareplus", "sparse_plus",
     "softmax", "log_softmax", "logsumexp", "standardize"],
)  # fmt: skip
def test_activations_of_jax_nn(name):
    x = jnp.array([-3.0, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0, 6.0, 7.0])
    tolerance = 32 if name == "softmax" else 8  # its cotangents cancel
    assert_jitted_grad(lambda x: total(getattr(jax.nn, name)(x)), x, tolerance=tolerance)


def test_symbolic_zeros_mark_what_is_not_differentiated():
    seen = []

    @jax.custom_jvp
    def product(x, y):
        return x * y, x + y

    def rule(primals, tangents):
        (x, y), (dx, dy) = primals, tangents
        seen.append((isinstance(dx, SymbolicZero), isinstance(dy, SymbolicZero)))
        return product(x, y), (dx * y, dx)

    product.defjvp(rule, symbolic_zeros=True)
    assert_jitted_grad(lambda x: total(product(x, W)), W + 1)
    assert set(seen) == {(False, True)}


def test_a_custom_jvp_rule_of_the_wrong_shape_is_the_users_error():
    wrong = jax.custom_jvp(lambda x: x * 2)
    wrong.defjvp(lambda primals, tangents: (primals[0] * 2, tangents[0][:2]))
    with pytest.raises(TypeError, match="corresponding shapes and dtypes"):
        fbp.grad(lambda x: total(wrong(x)))(W)


@pytest.mark.parametrize("of_tangent", [jnp.sin, lambda t: t * t, lambda t: clipped(t, t)])
@pytest.mark.parametrize("within_jit", [False, True])
def test_a_custom_jvp_rule_that_is_not_linear_is_named(of_tangent, within_jit):
    crooked = jax.custom_jvp(jnp.sin)
    crooked.defjvp(lambda primals, tangents: (jnp.sin(primals[0]), of_tangent(tangents[0])))

    def loss(x):
        return total(crooked(x))

    with pytest.raises(TypeError, match=r"custom_jvp.*test_custom.py:\d+.*must be linear"):
        fbp.grad(jax.jit(loss) if within_jit else loss)(W)


# custom_vjp


@jax.custom_vjp
def clipped(x, y):
    return jnp.sin(x) * y


clipped.defvjp(
    lambda x, y: (clipped(x, y), (x, y)),
    lambda saved, ct: (7 * ct * saved[1], ct * jnp.cos(saved[0])),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 2))
def applied(fun, x, n):
    return fun(x) * n


applied.defvjp(lambda fun, x, n: (fun(x) * n, x), lambda fun, n, x, ct: (ct * (n + 1) * fun(x),))


@jax.custom_vjp
def structured(tree, n):
    return {"a": tree["x"] * n.astype(jnp.float32), "n": n}


structured.defvjp(
    lambda tree, n: (structured(tree, n), {"saved": tree["x"]}),
    lambda saved, ct: ({"x": ct["a"] * saved["saved"], "y": None}, None),
)


@jax.custom_vjp
def reversed_gradient(x):
    return x


reversed_gradient.defvjp(lambda x: (x, None), lambda _, ct: (-ct,))


@pytest.mark.parametrize(
    "fun",
    [
        lambda x, y: total(clipped(x, y)),
        lambda x, y: total(clipped(x, x)) + total(y),
        lambda x, y: total(applied(jnp.sin, x, 3)) * y[0],
        lambda x, y: total(structured({"x": x, "y": y}, jnp.int32(2))["a"]),
        lambda x, y: total(reversed_gradient(x * y)),
        lambda x, y: total(clipped(clipped(x, y), reversed_gradient(y))),
        lambda x, y: total(jax.jit(clipped)(x, y)),
        lambda x, y: total(jax.vmap(clipped)(x, y)),
        lambda x, y: total(jax.checkpoint(clipped)(x, y)),
        lambda x, y: total(lax.scan(lambda c, x: (clipped(c, x), c), y, jnp.stack([x, y]))),
        lambda x, y: total(lax.cond(x[0] > 0, clipped, lambda x, y: y, x, y)),
        lambda x, y: total(scaled(clipped(x, y), y)),
    ],
    ids=[
        "plain", "same_twice", "nondiff", "tree", "reversal", "nested", "in_jit", "vmap",
        "in_checkpoint", "in_scan", "in_cond", "with_custom_jvp",
    ],
)  # fmt: skip
def test_custom_vjp_rules_are_the_users(fun):
    assert_jitted_grad(fun, W, W + 1, argnums=(0, 1))
    assert_jitted_grad(fun, W, W + 1)


def test_custom_vjp_may_optimise_checkpoints():
    sine = jax.custom_vjp(jnp.sin)
    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (2 * ct * x,), optimize_remat=True)
    assert_jitted_grad(lambda x: total(sine(x)), W)
    assert_jitted_grad(lambda x: total(jax.checkpoint(sine)(x)), W)


def test_symbolic_zeros_reach_both_parts_of_a_custom_vjp():
    seen = []

    @jax.custom_vjp
    def product(x, y):
        return x * y, x + y

    def forward(x, y):
        seen.append((x.perturbed, y.perturbed))
        return product(x.value, y.value), y.value

    def backward(y, cts):
        seen.append(tuple(isinstance(ct, SymbolicZero) for ct in cts))
        return 3 * cts[0] * y, None

    product.defvjp(forward, backward, symbolic_zeros=True)
    assert_jitted_grad(lambda x: total(product(x, W)[0]), W + 1)
    assert set(seen) == {(True, False), (False, True)}


def test_custom_vjp_runs_forward_without_its_primal():
    calls = []

    @jax.custom_vjp
    def f(x):
        calls.append("primal")
        return jnp.sin(x)

    def forward(x):
        calls.append("forward")
        return jnp.sin(x), x

    f.defvjp(forward, lambda x, ct: (ct * x,))
    gradient = jax.make_jaxpr(fbp.grad(lambda x: total(f(x))))(W)
    assert calls.count("forward") == 1
    assert sum(str(eqn.primitive) == "sin" for eqn in equations(gradient)) == 1 + 1  # and total's


@pytest.mark.parametrize(
    ("forward", "backward", "error", "text"),
    [
        (lambda x: (x, None), lambda _, ct: (ct, ct), TypeError, "same container"),
        (lambda x: (x, None), lambda _, ct: (ct[:2],), ValueError, "same type|shape"),
        (lambda x: x, lambda _, ct: (ct,), TypeError, "must produce a pair"),
    ],
    ids=["structure", "shape", "forward"],
)
def test_a_wrong_custom_vjp_is_the_users_error(forward, backward, error, text):
    wrong = jax.custom_vjp(lambda x: x)
    wrong.defvjp(forward, backward)
    with pytest.raises(error, match=text):
        fbp.grad(lambda x: total(wrong(x)))(W)


def test_an_optimised_custom_vjp_runs_itself_where_only_its_value_is_needed():
    tangent = jax.custom_vjp(jnp.tan)
    tangent.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (3 * ct * x,), optimize_remat=True)
    value, slope = fbp.value_and_grad(lambda x: jax.checkpoint(tangent)(x) ** 2)(W[0])
    assert_same((value, slope), (jnp.tan(W[0]) ** 2, 6 * jnp.tan(W[0]) * W[0]), tolerance=2)
    assert_same(fbp.value_and_grad(tangent)(W[0]), (jnp.sin(W[0]), 3 * W[0]))
    assert_same(fbp.grad(fbp.grad(lambda x: jax.checkpoint(tangent)(x)))(W[0]), jnp.float32(3))


def scaled_by(fixed, x):
    return linear_call(lambda r, x: r * x, lambda r, ct: 3 * r * ct, fixed, x)


@jax.custom_jvp
def with_linear_call(x):
    return jnp.sin(x)


with_linear_call.defjvp(
    lambda primals, tangents: (jnp.sin(primals[0]), scaled_by(jnp.cos(primals[0]), tangents[0]))
)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: scaled_by(W, x),
        lambda x: jax.jit(scaled_by)(W, x) ** 2,
        lambda x: fbp.grad(lambda x: jnp.sum(scaled_by(W, x) ** 3))(x),
        with_linear_call,
    ],
    ids=["plain", "jit", "twice", "in_custom_jvp"],
)
def test_the_transpose_of_a_linear_call_is_the_users(fun):
    assert_jitted_grad(lambda x: total(fun(x)), W)


def test_a_linear_call_has_a_derivative_in_what_it_holds_fixed():
    assert_same(fbp.grad(lambda r: jnp.sum(scaled_by(r, W)))(W + 1), W)


@pytest.mark.parametrize("around", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_constant_of_numpy_among_the_residuals_is_an_array_of_jax(around):
    points = np.arange(1, 4, dtype=np.float32)
    scaled = jax.custom_vjp(lambda d, x: d * x)
    scaled.defvjp(
        lambda d, x: (d * x, (d, x)),
        lambda r, ct: (None, jnp.sum(ct * r[0].at[0].multiply(2))),
    )

    def loss(x):
        return jnp.sum(scaled(jnp.asarray(points), x) ** 2)

    x = jnp.float32(1.5)
    assert_same(around(fbp.grad(loss))(x), around(jax.grad(loss))(x))


@pytest.fixture
def hijax():
    jax.config.update("jax_custom_vjp3", True)
    yield
    jax.config.update("jax_custom_vjp3", False)


@pytest.mark.usefixtures("hijax")
@pytest.mark.parametrize("around", [lambda f: f, jax.jit, jax.checkpoint, jax.vmap])
def test_hi_primitives_have_the_users_rule(around):
    product = jax.custom_vjp(lambda x, y: jnp.sin(x) * y)
    product.defvjp(
        lambda x, y: (jnp.sin(x) * y, (x, y)), lambda saved, ct: (3 * ct * saved[1], None)
    )

    def loss(x, y):
        return total(lax.scan(lambda c, x: (around(product)(c, x), c), x, jnp.stack([y, x]))[0])

    def rule(x, y):
        return lax.stop_gradient(jnp.sin(x) * y - 3 * x * y) + 3 * x * lax.stop_gradient(y)

    def reference(x, y):
        return total(lax.scan(lambda c, x: (rule(c, x), c), x, jnp.stack([y, x]))[0])

    assert_same(fbp.grad(loss, (0, 1))(W, W + 1), jax.grad(reference, (0, 1))(W, W + 1), 16)
