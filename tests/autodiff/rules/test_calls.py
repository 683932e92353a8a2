"""Programs within programs: jit stays jit, remat recomputes, custom rules are the user's."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import assert_jitted_grad, assert_same, total
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero
from jax.extend.core.primitives import closed_call_p
from jaxprs import equations, primitives, staged

import fbp

W = jnp.linspace(0.1, 2.0, 4)
SCALE = jnp.float32(0.3)
MATRIX = jnp.linspace(-1.0, 1.0, 16).reshape(4, 4)
POLICIES = jax.checkpoint_policies


# jit


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


def test_a_repeated_checkpoint_is_differentiated_once():
    asked = []

    def policy(primitive, *_, **__):
        asked.append(primitive)
        return False

    layer = jax.checkpoint(lambda x: jnp.sin(x), policy=policy)
    jax.make_jaxpr(fbp.grad(lambda x: jnp.sum(layer(layer(layer(x))))))(W)
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("prevent_cse", [(True, False), ({"w": False}, True), (False, False)])
def test_common_subexpressions_may_be_kept_apart_by_argument(prevent_cse):
    @functools.partial(jax.checkpoint, prevent_cse=prevent_cse)
    def layer(params, x):
        return jnp.sin(params["w"] * x + jnp.arange(4.0))

    assert_jitted_grad(lambda w: total(layer({"w": w}, W)), W)
    text = jax.jit(fbp.grad(lambda w: total(layer({"w": w}, W)))).lower(W).as_text()
    assert ("optimization_barrier" in text) == any(jax.tree.leaves(prevent_cse))


def test_a_jit_is_staged_once_for_many_gradients():
    count = 0

    @jax.jit
    def counted(x):
        nonlocal count
        count += 1
        return jnp.sin(x)

    for scale in (1.0, 2.0, 3.0):
        fbp.grad(lambda x: total(counted(x)) * scale)(W)
    assert count == 1


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


# checkpoint


def deep(w, x):
    hidden = checkpoint_name(jnp.tanh(jnp.sin(w @ x) @ w), "hidden")
    return jnp.sum(jnp.sin(hidden))


def policies():
    names = POLICIES.save_only_these_names("hidden")
    return {
        "none": None,
        "everything_saveable": POLICIES.everything_saveable,
        "nothing_saveable": POLICIES.nothing_saveable,
        "dots_saveable": POLICIES.dots_saveable,
        "checkpoint_dots": POLICIES.checkpoint_dots,
        "dots_with_no_batch_dims_saveable": POLICIES.dots_with_no_batch_dims_saveable,
        "checkpoint_dots_with_no_batch_dims": POLICIES.checkpoint_dots_with_no_batch_dims,
        "save_only_these_names": names,
        "save_anything_except_these_names": POLICIES.save_anything_except_these_names("hidden"),
        "save_any_names_but_these": POLICIES.save_any_names_but_these("hidden"),
        "save_from_both_policies": POLICIES.save_from_both_policies(POLICIES.dots_saveable, names),
    }


OFFLOADING = {"offload_dot_with_no_batch_dims", "save_and_offload_only_these_names"}


def test_every_policy_of_jax_has_a_test():
    known = {name for name in dir(POLICIES) if not name.startswith("_")}
    assert known == (policies().keys() - {"none"}) | OFFLOADING


@pytest.mark.parametrize("name", policies())
def test_checkpoint_recomputes_as_much_as_jax_does(name):
    remat = jax.checkpoint(deep, policy=policies()[name])
    assert_jitted_grad(remat, MATRIX, MATRIX.T, argnums=(0, 1), tolerance=16)
    mine = primitives(fbp.grad(remat), MATRIX, MATRIX.T)
    theirs = primitives(jax.grad(remat), MATRIX, MATRIX.T)
    for primitive in ("sin", "tanh", "cos", "dot_general"):
        assert mine[primitive] == theirs[primitive], primitive


def test_recomputation_is_shielded_from_common_subexpression_elimination():
    def lowered(fun, **options):
        gradient = fbp.grad(jax.checkpoint(fun, **options))
        return jax.jit(gradient).lower(MATRIX, MATRIX.T).as_text()

    assert "optimization_barrier" in lowered(deep)
    assert "optimization_barrier" not in lowered(deep, prevent_cse=False)


@pytest.mark.parametrize(
    "policy",
    [
        POLICIES.offload_dot_with_no_batch_dims("device", "pinned_host"),
        POLICIES.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=["hidden"],
            offload_src="device",
            offload_dst="pinned_host",
        ),
    ],
    ids=sorted(OFFLOADING),
)
def test_a_policy_that_offloads_is_a_clear_error(policy):
    with pytest.raises(NotImplementedError, match="the checkpoint policy offloads the result"):
        fbp.grad(jax.checkpoint(deep, policy=policy))(MATRIX, MATRIX.T)


def test_checkpoint_keeps_only_what_its_policy_allows():
    def kept(policy):
        _, pullback = fbp.vjp(jax.checkpoint(deep, policy=policy), MATRIX, MATRIX.T)
        return len([r for r in pullback.residuals if not r.origin.startswith("input")])

    assert kept(None) == 0
    assert kept(POLICIES.save_only_these_names("hidden")) == 1
    assert kept(POLICIES.dots_saveable) == 2


@pytest.mark.parametrize(
    "fun",
    [
        lambda s, w: total(jax.checkpoint(lambda s, w: jnp.sin(w) * s, prevent_cse=False)(s, w)),
        lambda s, w: total(jax.checkpoint(lambda n, w: jnp.sin(w) * n, static_argnums=0)(3, w)),
        lambda s, w: total(jax.checkpoint(lambda i, w: w * i.astype(w.dtype))(jnp.int32(3), w)),
        lambda s, w: total(jax.checkpoint(lambda w: jax.checkpoint(jnp.sin)(w) * s)(w)),
        lambda s, w: total(jax.checkpoint(smooth, policy=POLICIES.dots_saveable)(w)) * s,
        lambda s, w: total(jax.checkpoint(lambda: jnp.sin(w) * s)()),
        lambda s, w: total(jax.checkpoint(lambda w: (w, jnp.sin(w), 1.0, s))(w)),
        lambda s, w: total(jax.vmap(jax.checkpoint(lambda w: smooth(w) * s))(w)),
        lambda s, w: total(
            jax.checkpoint(lambda w: lax.scan(lambda c, _: (jnp.sin(c * s), c), w, length=3))(w)
        ),
        lambda s, w: total(jax.checkpoint(lambda w: lax.cond(s > 0, jnp.sin, jnp.cos, w))(w)),
    ],
    ids=[
        "no_barrier", "static", "integer", "nested", "jit", "captured", "passes_inputs", "vmap",
        "scan", "cond",
    ],
)  # fmt: skip
def test_gradient_through_checkpoint(fun):
    assert_jitted_grad(fun, SCALE, W, argnums=(0, 1))


def test_checkpoint_still_recomputes_when_differentiated_twice():
    def energy(w):
        return jnp.sum(fbp.grad(jax.checkpoint(deep))(w, MATRIX) ** 2)

    def reference(w):
        return jnp.sum(jax.grad(deep)(w, MATRIX) ** 2)

    assert_same(fbp.grad(energy)(MATRIX), jax.grad(reference)(MATRIX), tolerance=16)
    kept = sum(r.bytes for r in fbp.vjp(energy, MATRIX)[1].residuals)
    without = sum(
        r.bytes
        for r in fbp.vjp(lambda w: jnp.sum(fbp.grad(deep)(w, MATRIX) ** 2), MATRIX)[1].residuals
    )
    assert kept < without


def test_effects_in_a_checkpoint_happen_at_least_once(capsys):
    def loud(x):
        jax.debug.print("seen")
        return jnp.sin(x)

    fbp.grad(lambda x: total(jax.checkpoint(loud)(x)))(W)
    jax.effects_barrier()
    assert capsys.readouterr().out.startswith("seen\n")


# custom_jvp


@jax.custom_jvp
def scaled(x, y):
    return jnp.sin(x) * y


@scaled.defjvp
def _(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    return scaled(x, y), 3 * jnp.cos(x) * y * dx + smooth(x) * dy


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

    with pytest.raises(TypeError, match=r"custom_jvp.*test_calls.py:\d+.*must be linear"):
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


def test_closed_calls_are_their_bodies():
    def called(x):
        program = jax.make_jaxpr(lambda x: (jnp.sin(x), x * x))(x)
        params = closed_call_p.get_bind_params({"call_jaxpr": program})
        return closed_call_p.bind(x, **params)

    assert_jitted_grad(lambda x: total(called(x)), W)
