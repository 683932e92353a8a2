from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, reshard
from jax.sharding import PartitionSpec as P

import fbp
from fbp.autodiff.rules.sharded import RULES, shard_map_p
from fbp.testing import Case
from tests.support.agreement import (
    assert_agree,
    assert_grad,
    assert_jitted_grad,
    assert_same,
    total,
)
from tests.support.jaxprs import primitives
from tests.support.table import rule_tests

TYPES = pytest.mark.parametrize("check_vma", [True, False])


def mesh():
    return jax.make_mesh((2, 4), ("rows", "columns"), axis_types=(AxisType.Auto,) * 2)


def mapped(body, in_specs, out_specs, check_vma=True, **options):
    return jax.shard_map(
        body,
        mesh=mesh(),
        in_specs=in_specs,
        out_specs=out_specs,
        check_vma=check_vma,
        **options,
    )


def elementwise(x, y):
    return jnp.sin(x) * y


def several_outputs(x, y):
    product = jnp.tanh(x @ y)
    sum_of_all = lax.psum(jnp.sum(product), ("rows", "columns"))
    return product * sum_of_all, sum_of_all, lax.pmean(product, ("rows", "columns"))


def scalar_residual(x, w):
    return x * jnp.exp(jnp.sin(jnp.sum(x))) * jnp.cos(w)


def contracted(x, w):
    return lax.psum(jnp.sin(x) @ w, "columns")


ROWS = P("rows")
BOTH = P("rows", "columns")


def cases(check_vma):
    make = partial(mapped, check_vma=check_vma)
    numbers = ("float32", "float64", "complex64") if check_vma else ("float32",)
    return [
        Case(shard_map_p, make(elementwise, (BOTH, BOTH), BOTH), ((4, 8), (4, 8)), numbers),
        Case(shard_map_p, make(elementwise, (ROWS, ROWS), ROWS), ((4,), (4,))),
        Case(
            shard_map_p,
            make(several_outputs, (P("rows", None), P(None, "columns")), (BOTH, P(), P())),
            ((4, 3), (3, 8)),
            tolerance=16,
        ),
        Case(shard_map_p, make(scalar_residual, (ROWS, P()), ROWS), ((4, 2), ()), tolerance=8),
        Case(
            shard_map_p,
            make(contracted, (BOTH, P("columns")), ROWS),
            ((4, 8), (8, 3)),
            tolerance=8,
        ),
    ]


CASES = [*cases(True), *cases(False)]


TestRules = rule_tests(RULES, CASES)


def within_jit(x, w):
    return jax.jit(lambda x, w: jnp.sin(x @ w))(x, w)


def within_scan(x, w):
    def step(carry, w):
        return carry * lax.psum(jnp.tanh(carry * w), "columns"), jnp.sum(carry)

    return lax.scan(step, jnp.sum(x, 1), w)[0][:, None] * x


def within_cond(x, w):
    odd = lax.axis_index("rows") % 2 == 1
    return lax.cond(odd, lambda x, w: jnp.sin(x @ w), lambda x, w: x @ w, x, w)


def within_checkpoint(x, w):
    return jax.checkpoint(lambda x, w: lax.psum(jnp.sin(jnp.sin(x @ w)), "columns") * x)(x, w)


@jax.custom_vjp
def doubled_backward(x):
    return jnp.sin(x)


doubled_backward.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (2 * ct * jnp.cos(x),))


def within_user_rules(x, w):
    return doubled_backward(x) @ jax.nn.relu(w)


@TYPES
@pytest.mark.parametrize(
    "body", [within_jit, within_scan, within_cond, within_checkpoint, within_user_rules]
)
def test_a_body_with_programs_inside(body, check_vma):
    run = mapped(body, (BOTH, P(None, None)), BOTH, check_vma)
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=shape), "float32") for shape in ((4, 8), (2, 2)))
    assert_jitted_gradients(lambda x, w: total(run(x, w)), x, w)


def assert_jitted_gradients(loss, *args):
    assert_jitted_grad(loss, *args, argnums=tuple(range(len(args))), tolerance=8)


@TYPES
def test_a_gradient_within_the_body(check_vma):
    def gradients(library):
        def body(x, w):
            def loss(x, w):
                return lax.pmean(jnp.sum(jnp.sin(x) @ w), ("rows", "columns"))

            return library.value_and_grad(loss, (0, 1))(x, w)

        return mapped(body, (BOTH, P("columns")), (P(), (BOTH, P("columns"))), check_vma)

    x, w = jnp.arange(32.0).reshape(4, 8), jnp.arange(24.0).reshape(8, 3)
    if not check_vma:
        w = jnp.ones_like(w)
    assert_agree(gradients(fbp), gradients(jax), x, w)


def test_a_gradient_in_a_value_that_all_devices_share_is_summed():
    def step(library):
        def body(w, x):
            loss, gradient = library.value_and_grad(lambda w: jnp.mean((x @ w) ** 2))(w)
            return lax.pmean(loss, "rows"), gradient

        return mapped(body, (P(), ROWS), (P(), P()))

    w, x = jnp.arange(3.0), jnp.arange(12.0).reshape(4, 3)
    assert_agree(step(fbp), step(jax), w, x)


@TYPES
def test_some_axes_mapped_and_the_others_automatic(check_vma):
    run = mapped(
        lambda x, w: lax.psum(jnp.sin(x) * jnp.exp(w), "rows"),
        (ROWS, P()),
        P(),
        check_vma,
        axis_names={"rows"},
    )
    x, w = jnp.arange(32.0).reshape(4, 8), jnp.ones(())
    assert_jitted_gradients(lambda x, w: total(run(x, w)), x, w)


@TYPES
def test_one_map_within_another(check_vma):
    def body(x, w):
        inner = jax.shard_map(
            lambda x, w: lax.psum(jnp.sin(x) * w, "columns"),
            in_specs=(P(None, "columns"), P()),
            out_specs=P(),
            check_vma=check_vma,
            axis_names={"columns"},
        )
        return jnp.cos(inner(x, w)) * w

    def both_at_once(x, w):
        return jnp.cos(lax.psum(jnp.sin(x) * w, "columns")) * w

    nested = mapped(body, (ROWS, P()), ROWS, check_vma, axis_names={"rows"})
    flat = mapped(both_at_once, (BOTH, P()), ROWS, check_vma)
    x, w = jnp.arange(32.0).reshape(4, 8), jnp.ones(())
    ours = fbp.value_and_grad(lambda x, w: total(nested(x, w)), (0, 1))
    theirs = jax.value_and_grad(lambda x, w: total(flat(x, w)), (0, 1))
    assert_agree(ours, theirs, x, w, tolerance=8)


@TYPES
def test_constants_integers_and_keys(check_vma):
    table = jnp.arange(8.0)

    def body(x, index, key):
        noise = jax.random.normal(key[0], x.shape)
        return (x * noise) ** 2 * table[index]

    run = mapped(body, (ROWS, ROWS, ROWS), ROWS, check_vma)
    x, index, keys = jnp.arange(4.0), jnp.arange(4), jax.random.split(jax.random.key(0), 2)
    assert_jitted_grad(lambda x: total(run(x, index, keys)), x)


def test_forward_and_backward_are_one_map_each():
    run = mapped(lambda x: jnp.sin(jnp.sin(x)), BOTH, BOTH)
    counts = primitives(fbp.grad(lambda x: jnp.sum(run(x))), jnp.ones((4, 8)))
    assert counts["shard_map"] == 2
    assert counts["sin"] == 2


@TYPES
def test_a_map_of_tangents_is_transposed(check_vma):
    @jax.custom_jvp
    def sine(x):
        return jnp.sin(x)

    @sine.defjvp
    def _(primals, tangents):
        (x,), (t,) = primals, tangents
        slope = mapped(lambda t, x: lax.psum(t * jnp.cos(x), "rows"), (ROWS, ROWS), P(), check_vma)
        return sine(x), jnp.broadcast_to(slope(t, x), (2, *x.shape[1:])).reshape(x.shape)

    assert_grad(lambda x: total(sine(x)), jnp.arange(6.0).reshape(2, 3))


def test_the_residuals_of_a_map_are_named_and_divided():
    run = mapped(lambda x: jnp.sin(jnp.exp(x)), ROWS, ROWS)
    _, pullback = fbp.vjp(run, jnp.ones((4, 3)))
    assert {r.origin for r in pullback.residuals} == {"shard_map"}
    assert {r.shape for r in pullback.residuals} == {(4, 3)}


@TYPES
def test_a_map_under_vmap(check_vma):
    run = mapped(lambda x, w: lax.psum(jnp.sin(x) * w, "rows"), (ROWS, P()), P(), check_vma)

    def gradient(library):
        return jax.vmap(library.grad(lambda x, w: total(run(x, w)), (0, 1)), (0, None))

    x, w = jnp.arange(12.0).reshape(3, 4), jnp.ones(())
    assert_agree(gradient(fbp), gradient(jax), x, w)


@TYPES
def test_a_map_under_a_vmap_that_is_divided_over_devices(check_vma):
    run = mapped(lambda x: jnp.sin(jnp.sum(x)) * x, P("columns"), P("columns"), check_vma)

    def gradient(library):
        return jax.vmap(library.grad(lambda x: total(run(x))), spmd_axis_name="rows")

    x = jnp.arange(16.0).reshape(2, 8)
    assert_agree(gradient(fbp), gradient(jax), x)


@TYPES
@pytest.mark.parametrize("kind", ["reduced", "unreduced"])
def test_sums_that_are_still_to_be_made_outside_of_the_body(kind, check_vma):
    explicit = jax.make_mesh((2,), ("rows",), axis_types=(AxisType.Explicit,))
    in_spec, out_spec = (
        (P(), P(reduced=frozenset({"rows"})))
        if kind == "reduced"
        else (ROWS, P(unreduced=frozenset({"rows"})))
    )

    def body(x):
        if not check_vma:
            return x * x
        return lax.pcast(x * x, "rows", to=kind)

    def gradient(library):
        def loss(x):
            y = jax.shard_map(body, in_specs=in_spec, out_specs=out_spec, check_vma=check_vma)(x)
            return jnp.sum(jnp.sin(reshard(y, P())))

        return jax.jit(library.grad(loss))(x)

    with jax.set_mesh(explicit):
        x = jax.device_put(jnp.arange(4.0), in_spec)
        got, want = gradient(fbp), gradient(jax)
    assert jax.typeof(got).sharding == jax.typeof(want).sharding
    assert_same(np.asarray(got), np.asarray(want))
