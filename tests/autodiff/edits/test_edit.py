"""Edits against derivatives taken by hand, their order, and what they refuse."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import fbp
from fbp import at, edit

X = jnp.array([0.5, -1.0, 2.0])


def f(x):
    with jax.named_scope("square"):
        y = x * x
    with jax.named_scope("cube"):
        z = y * y * y
    return jnp.sum(z) + jnp.sum(y)


def grad(*edits, fun=f, key=None):
    rules = fbp.RULES
    for e in edits:
        rules = rules | e
    return fbp.grad(fun, rules=rules if key is None else rules.with_key(key))(X)


def assert_close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-6)


Y = X * X
AT_Y = 3 * Y**2 + 1  # the cotangent that arrives at y


def test_what_arrives_is_the_sum_over_all_readers():
    assert_close(grad(edit.cotangent("square", edit.scale(-1.0))), -AT_Y * 2 * X)


def test_what_leaves_is_the_part_of_the_site_alone():
    got = grad(edit.cotangent("cube", edit.scale(0.5), of="inputs"))
    assert_close(got, (0.5 * 3 * Y**2 + 1) * 2 * X)


def test_edits_of_one_site_are_met_in_their_order():
    clip, twice = (
        edit.cotangent("square", edit.clip(4.0)),
        edit.cotangent("square", edit.scale(2.0)),
    )
    assert_close(grad(clip, twice), 2 * jnp.clip(AT_Y, -4, 4) * 2 * X)
    assert_close(grad(twice, clip), jnp.clip(2 * AT_Y, -4, 4) * 2 * X)


def test_edits_of_what_leaves_are_met_in_their_order():
    clip = edit.cotangent("cube", edit.clip(4.0), of="inputs")
    twice = edit.cotangent("cube", edit.scale(2.0), of="inputs")
    part = 3 * Y**2
    assert_close(grad(clip, twice), (2 * jnp.clip(part, -4, 4) + 1) * 2 * X)
    assert_close(grad(twice, clip), (jnp.clip(2 * part, -4, 4) + 1) * 2 * X)


def test_an_edit_can_be_printed_and_taken_back():
    clip, twice = (
        edit.cotangent("square", edit.clip(4.0)),
        edit.cotangent("square", edit.scale(2.0)),
    )
    rules = fbp.RULES | clip | twice
    assert str(rules).splitlines()[1:] == [
        "  1. cotangent(scope('square'), clip(4.0))",
        "  2. cotangent(scope('square'), scale(2.0))>",
    ]
    assert rules.without(clip).edits == (twice,)
    assert rules.without() is fbp.RULES
    with pytest.raises(ValueError, match="no edit"):
        rules.without(edit.cotangent("square", edit.stop()))


def test_a_table_with_edits_survives_a_pickle():
    rules = fbp.RULES | edit.cotangent(at.primitive("mul"), edit.top_k(1))
    rules |= edit.residuals(at.scope("cube") & at.reads("0"), "e4m3")
    again = pickle.loads(pickle.dumps(rules))
    assert str(again) == str(rules)
    assert again.table is fbp.RULES


def test_tables_with_other_edits_share_what_is_remembered():
    assert (fbp.RULES | edit.cotangent("square", edit.stop())).table is fbp.RULES


@pytest.mark.parametrize(
    ("change", "by_hand"),
    [
        (edit.stop(), lambda ct: 0 * ct),
        (edit.clip_norm(1.0), lambda ct: ct / jnp.linalg.norm(ct)),
        (edit.clip_norm(1e6), lambda ct: ct),
        (edit.top_k(1), lambda ct: jnp.where(ct == ct.max(), ct, 0)),
        (edit.cast("bfloat16"), lambda ct: ct.astype("bfloat16").astype("float32")),
        (jnp.sign, jnp.sign),
        (lambda ct, y: jnp.where(y > 0.5, ct, 0), lambda ct: jnp.where(Y > 0.5, ct, 0)),
    ],
)
def test_a_change_is_what_it_says(change, by_hand):
    assert_close(grad(edit.cotangent("square", change)), by_hand(AT_Y) * 2 * X)


def test_noise_has_a_key_for_each_site_and_iteration():
    def loop(x):
        def step(h, _):
            return checkpoint_name(h, "state"), None

        return jnp.sum(lax.scan(step, x, None, length=2)[0])

    noisy = edit.cotangent(at.name("state"), edit.noise(1.0))
    draws = [grad(noisy, fun=loop, key=jax.random.key(seed)) - 1 for seed in (0, 0, 1)]
    assert_close(draws[0], draws[1])
    assert not np.allclose(draws[0], draws[2])
    many = jax.vmap(lambda key: grad(noisy, fun=loop, key=key) - 1)(
        jax.random.split(jax.random.key(0), 4000)
    )
    # two iterations, each with a draw of its own: variance 2 (4 with one draw for both)
    np.testing.assert_allclose(jnp.var(many), 2.0, rtol=0.1)
    with pytest.raises(fbp.InputError, match="with_key"):
        grad(noisy, fun=loop)


def test_an_iteration_of_a_scan_is_edited_alone():
    def loop(x):
        def step(h, _):
            return checkpoint_name(2 * h, "state"), None

        return jnp.sum(lax.scan(step, x, None, length=3)[0])

    site = at.name("state") & at.iteration(1)
    assert_close(grad(edit.cotangent(site, edit.scale(10.0)), fun=loop), 80.0)
    others = at.name("state") & ~at.iteration(1)
    assert_close(grad(edit.cotangent(others, edit.scale(10.0)), fun=loop), 800.0)
    later = at.name("state") & at.iteration(lambda i: i > 0)
    assert_close(grad(edit.cotangent(later, edit.stop()), fun=loop), 0.0)


def test_an_iteration_of_a_while_loop_is_edited_alone():
    def loop(x):
        def step(state):
            return state[0] + 1, checkpoint_name(2 * state[1], "state")

        return jnp.sum(lax.while_loop(lambda s: (s[0] < 3) | (x[0] > 9), step, (0, x))[1])

    site = at.name("state") & at.iteration(1)
    assert_close(grad(edit.cotangent(site, edit.scale(10.0)), fun=loop), 80.0)


def test_noise_in_a_batch_of_loops_is_refused():
    def batch(x):
        step = lambda s: (s[0] + 1, checkpoint_name(2 * s[1], "state"))
        run = lambda x, n: lax.while_loop(lambda s: s[0] < n, step, (0, x))[1]
        return jnp.sum(jax.vmap(run)(x, jnp.array([1, 2, 3])))

    with pytest.raises(fbp.InputError, match=r"test_edit.py:.*vmap of the gradient"):
        grad(edit.cotangent(at.name("state"), edit.noise(1.0)), fun=batch, key=jax.random.key(0))
    assert_close(
        grad(edit.cotangent(at.name("state"), edit.scale(3.0)), fun=batch), [6.0, 36.0, 216.0]
    )


def test_a_rule_of_a_primitive_holds_at_its_site_alone():
    def two(x):
        with jax.named_scope("a"):
            y = jnp.round(3 * x)
        return jnp.sum(y * y + jnp.round(2 * x))

    straight = fbp.rule.derivative(lax.round_p, lambda x, y: 1.0)
    assert_close(grad(edit.rule("a", straight), fun=two), 6 * jnp.round(3 * X))


def test_the_later_rule_of_a_site_wins():
    slopes = [fbp.rule.derivative(lax.sin_p, lambda x, y, s=s: s) for s in (2.0, 3.0)]
    fun = lambda x: jnp.sum(jnp.sin(x))
    assert_close(grad(*(edit.rule(at.primitive("sin"), s) for s in slopes), fun=fun), 3.0)


def test_a_region_gets_cotangents_outputs_and_inputs():
    seen = {}

    def pullback(cts, outs, ins):
        seen.update(cts=cts, outs=outs, ins=ins)
        return [7 * cts[0]]

    assert_close(grad(edit.region("cube", pullback)), (7 + 1) * 2 * X)
    assert [len(x) for x in seen.values()] == [1, 1, 1]


def test_a_region_of_one_equation_reads_its_parameters():
    def scaled(cts, outs, ins, *, axes):
        return [jnp.full_like(ins[0], len(axes)) * cts[0]]

    fun = lambda x: jnp.sum(x) * 2
    assert_close(grad(edit.region(at.primitive("reduce_sum"), scaled), fun=fun), 2.0)
    with pytest.raises(fbp.InputError, match="axis"):
        grad(edit.region(at.primitive("reduce_sum"), lambda c, o, i, *, axis: c), fun=fun)


def test_a_change_around_a_region_is_met_before_and_after_it():
    region = edit.region("cube", lambda cts, outs, ins: [cts[0] + 1])
    before = edit.cotangent("cube", edit.scale(10.0))
    after = edit.cotangent("cube", edit.scale(3.0), of="inputs")
    for edits in ([region, before, after], [after, region, before]):
        assert_close(grad(*edits), ((10 + 1) * 3 + 1) * 2 * X)


def test_a_site_inside_a_scoped_rule_is_edited_too():
    inside = edit.cotangent("cube", edit.scale(0.0))
    around = edit.rule(at.scope("cube") | at.scope("square"), fbp.RULES)
    assert_close(grad(around, inside), 2 * X)


def test_a_value_is_replaced_forward():
    doubled = fbp.RULES | edit.value("square", lambda y: 2 * y)
    value, got = fbp.value_and_grad(f, rules=doubled)(X)
    want, slope = jax.value_and_grad(lambda x: jnp.sum((2 * x * x) ** 3 + 2 * x * x))(X)
    assert_close(value, want)
    assert_close(got, slope)


def test_a_value_is_replaced_off_the_way_of_the_gradient():
    def shifted(x):
        with jax.named_scope("data"):
            noise = jnp.arange(3.0) * 2
        return jnp.sum(x * noise)

    assert_close(grad(edit.value("data", jnp.ones_like), fun=shifted), 1.0)


def test_edits_go_through_vjp_hessian_and_linear_transpose():
    rules = fbp.RULES | edit.cotangent("square", edit.scale(-1.0))
    _, pullback = fbp.vjp(f, X, rules=rules)
    assert_close(pullback(jnp.float32(1.0))[0], -AT_Y * 2 * X)
    want = jax.jacobian(lambda x: -(3 * x**4 + 1) * 2 * x)(X)
    assert_close(fbp.hessian(f, rules=rules)(X), want)
    assert_close(fbp.hvp(f, (X,), (X,), rules=rules)[0], want @ X)

    def linear(x):
        with jax.named_scope("square"):
            return 3 * x

    assert_close(fbp.linear_transpose(linear, X, rules=rules)(X)[0], -3 * X)


def test_the_tape_records_an_edited_gradient():
    rules = fbp.RULES | edit.cotangent("square", edit.scale(-1.0))
    _, gradient, entries = fbp.tape(f, rules=rules)(X)
    assert_close(gradient, -AT_Y * 2 * X)
    assert "mul" in [entry.primitive for entry in entries]


def test_edits_under_vmap_see_one_example():
    rules = fbp.RULES | edit.cotangent("square", edit.clip_norm(1.0))
    got = jax.vmap(fbp.grad(f, rules=rules))(jnp.stack([X, 2 * X]))
    want = jnp.stack([fbp.grad(f, rules=rules)(x) for x in (X, 2 * X)])
    np.testing.assert_allclose(got, want, rtol=1e-6)


def shape(ct):
    return ct[:1]


def dtype(ct):
    return ct.astype("bfloat16")


def cutting(x):
    def step(h, _):
        with jax.named_scope("enc"):
            return jnp.sin(h), None

    with jax.named_scope("enc"):
        x = 2 * x
    h = lax.scan(step, x, None, length=2)[0]
    return jnp.sum(h)


def on_the_side(x):
    with jax.named_scope("square"):
        y = jnp.sin(lax.stop_gradient(x))
    return jnp.sum(x * y)


def pass_on(cts, outs, ins):
    return cts


@pytest.mark.parametrize(
    ("fun", "edits", "message"),
    [
        (f, [edit.cotangent("square", shape)], r"float32\[1\].*float32\[3\]"),
        (f, [edit.cotangent("square", dtype)], r"bfloat16\[3\].*float32\[3\]"),
        (f, [edit.region("cube", lambda cts, outs, ins: [cts[0], cts[0]])], "one for each input"),
        (f, [edit.region("cube", lambda cts, outs, ins: [cts[0][:1]])], r"float32\[1\]"),
        (f, [edit.value("square", lambda y: y[:1])], r"float32\[1\].*float32\[3\]"),
        (on_the_side, [edit.cotangent("square", edit.scale(2.0))], "no cotangent comes"),
        (f, [edit.rule("square", fbp.rule.transpose(lax.neg_p, lambda ct, x: ct))], "changes noth"),
        (f, [edit.region("cube", pass_on), edit.region(at.scope("cube"), pass_on)], "overlap"),
        (
            f,
            [edit.region("cube", pass_on), edit.region(at.reads("0") | at.scope("cube"), pass_on)],
            "overlap|unit",
        ),
        (cutting, [edit.region("enc", pass_on)], "cuts through the body of scan"),
    ],
    ids=["shape", "dtype", "two", "row", "value", "aside", "rule", "twice", "overlap", "cut"],
)
def test_an_edit_that_does_not_fit_is_one_error_with_the_line(fun, edits, message):
    with pytest.raises(fbp.InputError, match=message) as error:
        grad(*edits, fun=fun)
    assert "test_edit.py:" in str(error.value)


def test_what_is_no_edit_is_refused_at_once():
    with pytest.raises(fbp.InputError, match="outputs, inputs"):
        edit.cotangent("square", edit.stop(), of="input")
    with pytest.raises(TypeError, match="one to 3"):
        edit.cotangent("square", lambda a, b, c, d: a)
    with pytest.raises(TypeError, match="function is needed"):
        edit.cotangent("square", 2.0)
