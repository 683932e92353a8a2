"""Checkpoint: what the policy does not store is computed again."""

import collections
import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import fbp
from tests.support.agreement import assert_jitted_grad, assert_same, total
from tests.support.jaxprs import primitives

W = jnp.linspace(0.1, 2.0, 4)
SCALE = jnp.float32(0.3)
MATRIX = jnp.linspace(-1.0, 1.0, 16).reshape(4, 4)
X = MATRIX.T + 0.3
POLICIES = jax.checkpoint_policies


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


def offloading():
    return {
        "offload_dot_with_no_batch_dims": POLICIES.offload_dot_with_no_batch_dims(
            "device", "pinned_host"
        ),
        "save_and_offload_only_these_names": POLICIES.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=["hidden"],
            offload_src="device",
            offload_dst="pinned_host",
        ),
    }


def counts(fun, *args):
    """How often each primitive is executed: a scan's body as often as the scan says."""
    totals = collections.Counter()

    def add(jaxpr, times):
        for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
            totals[str(eqn.primitive)] += times
            more = eqn.params["length"] if str(eqn.primitive) == "scan" else 1
            for inner in jax.tree.leaves(
                [v for k, v in eqn.params.items() if k in ("jaxpr", "branches", "call_jaxpr")]
            ):
                add(inner, times * more)

    add(jax.make_jaxpr(fun)(*args), 1)
    return totals


def layer(w, x):
    return checkpoint_name(jnp.tanh(jnp.sin(x @ w) @ w), "hidden")


def looped(w, x):
    carry, stacked = lax.scan(lambda c, _: (layer(w, c), c @ w), x, length=3)
    return jnp.sin(carry) + jnp.sum(stacked, 0)


def branching(w, x):
    return jnp.sin(lax.cond(x[0, 0] < 0, layer, lambda w, x: jnp.sin(w @ x), w, x))


def looped_twice(w, x):
    return lax.scan(
        lambda c, _: (lax.scan(lambda c, _: (layer(w, c), None), c, length=2)[0], None), x, length=3
    )[0]


def branching_in_a_loop(w, x):
    return lax.scan(lambda c, _: (branching(w, c), None), x, length=3)[0]


def jitted_in_a_loop(w, x):
    return lax.scan(lambda c, _: (jax.jit(layer)(w, c), None), x, length=3)[0]


PROGRAMS = [looped, branching, looped_twice, branching_in_a_loop, jitted_in_a_loop]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", ["everything_saveable", "dots_saveable", "save_only_these_names",
                                  "save_anything_except_these_names"])  # fmt: skip
def test_a_policy_sees_into_programs_within_programs(program, name):
    def loss(w, x):
        return total(jax.checkpoint(program, policy=policies()[name])(w, x))

    assert_jitted_grad(loss, MATRIX, X, argnums=(0, 1), tolerance=64)
    mine, jaxs = (counts(lib.grad(loss, (0, 1)), MATRIX, X) for lib in (fbp, jax))
    assert mine["dot_general"] == jaxs["dot_general"]
    if name == "everything_saveable":
        assert mine == mine | {p: jaxs[p] for p in ("sin", "cos", "tanh")}
    if name == "save_only_these_names":
        assert mine["tanh"] == jaxs["tanh"]


@pytest.mark.parametrize("program", [layer, looped, branching])
@pytest.mark.parametrize("name", sorted(OFFLOADING))
def test_a_policy_moves_values_to_the_hosts_memory_and_back(program, name):
    def loss(w, x):
        after = jax.checkpoint(lambda w, x: jnp.sin(program(w, x)), policy=offloading()[name])
        return total(after(w, x))

    assert_jitted_grad(loss, MATRIX, X, argnums=(0, 1), tolerance=64)
    mine, jaxs = (counts(lib.grad(loss, (0, 1)), MATRIX, X) for lib in (fbp, jax))
    assert mine["dot_general"] == jaxs["dot_general"]
    assert mine["device_put"] >= jaxs["device_put"] > 0


def test_what_is_moved_is_kept_in_the_hosts_memory():
    policy = offloading()["offload_dot_with_no_batch_dims"]
    _, pullback = fbp.vjp(jax.checkpoint(layer, policy=policy), MATRIX, MATRIX.T)
    kinds = [x.sharding.memory_kind for x in jax.tree.leaves(pullback)]
    assert kinds.count("pinned_host") == 2


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
        lambda s, w: total(jax.checkpoint(jax.jit(jnp.tanh), policy=POLICIES.dots_saveable)(w)) * s,
        lambda s, w: total(jax.checkpoint(lambda: jnp.sin(w) * s)()),
        lambda s, w: total(jax.checkpoint(lambda w: (w, jnp.sin(w), 1.0, s))(w)),
        lambda s, w: total(jax.vmap(jax.checkpoint(lambda w: jnp.sin(w) * s))(w)),
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


def test_a_print_changes_nothing_about_what_is_kept():
    def kept(step):
        def loop(x):
            return lax.scan(lambda c, _: (step(c), None), x, length=3)[0]

        _, pullback = fbp.vjp(jax.checkpoint(lambda x: jnp.sin(loop(x))), W)
        return [(r.origin, r.shape) for r in pullback.residuals]

    def loud(x):
        jax.debug.print("{}", x)
        return jnp.sin(x)

    assert kept(loud) == kept(jnp.sin)


def test_a_repeated_checkpoint_is_differentiated_once():
    asked = []

    def policy(primitive, *_, **__):
        asked.append(primitive)
        return False

    layer = jax.checkpoint(lambda x: jnp.sin(x), policy=policy)
    jax.make_jaxpr(fbp.grad(lambda x: jnp.sum(layer(x))))(W)
    once = len(asked)
    jax.make_jaxpr(fbp.grad(lambda x: jnp.sum(layer(layer(layer(x))))))(W)
    assert len(asked) == once


@pytest.mark.parametrize("prevent_cse", [(True, False), ({"w": False}, True), (False, False)])
def test_common_subexpressions_may_be_kept_apart_by_argument(prevent_cse):
    @functools.partial(jax.checkpoint, prevent_cse=prevent_cse)
    def layer(params, x):
        return jnp.sin(params["w"] * x + jnp.arange(4.0))

    assert_jitted_grad(lambda w: total(layer({"w": w}, W)), W)
    text = jax.jit(fbp.grad(lambda w: total(layer({"w": w}, W)))).lower(W).as_text()
    assert ("optimization_barrier" in text) == any(jax.tree.leaves(prevent_cse))
