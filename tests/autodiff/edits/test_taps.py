"""What taps read, against derivatives taken by hand, through loops, branches and batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import fbp
from fbp import at, tap

X = jnp.array([0.5, -1.0, 2.0])
Y = X * X


def f(x):
    with jax.named_scope("square"):
        y = x * x
    with jax.named_scope("pair"):
        a, b = jnp.sin(y), jnp.cos(y)
    return jnp.sum(a * 2 + b * 3)


def tapped(taps, fun=f, x=X, **options):
    return fbp.value_and_grad(fun, taps=taps, **options)(x)[2]


def assert_close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


AT_Y = 2 * jnp.cos(Y) - 3 * jnp.sin(Y)


def test_a_tap_reads_what_arrives():
    assert_close(tapped({"t": tap("square")})["t"], AT_Y)


def test_a_tap_reads_what_leaves():
    assert_close(tapped({"t": tap("square", of="inputs")})["t"], AT_Y * 2 * X)


def test_a_site_with_several_values_gives_a_list():
    a, b = tapped({"t": tap("pair")})["t"]
    assert_close(a, 2 * jnp.ones(3))
    assert_close(b, 3 * jnp.ones(3))


def test_several_sites_give_a_dict_by_site():
    got = tapped({"t": tap(at.primitive("sin") | at.primitive("cos"), jnp.linalg.norm)})["t"]
    assert set(got) == {"pair/sin", "pair/cos"}
    assert_close(got["pair/cos"], 3 * np.sqrt(3))


def test_a_statistic_reads_value_and_cotangent():
    def statistic(y, ct):
        return {"mean": jnp.mean(ct), "attribution": jnp.vdot(y, ct)}

    got = tapped({"t": tap("square", statistic)})["t"]
    assert_close(got["mean"], jnp.mean(AT_Y))
    assert_close(got["attribution"], jnp.vdot(Y, AT_Y))


def test_a_region_reads_all_that_there_is():
    def statistic(cts, outs, ins):
        return jnp.vdot(cts[0], outs[0]), ins[0]

    first, second = tapped({"t": tap("square", statistic, of="region")})["t"]
    assert_close(first, jnp.vdot(AT_Y, Y))
    assert_close(second, X)


def test_a_region_of_one_equation_reads_its_parameters():
    def statistic(cts, outs, ins, *, axes):
        return jnp.float32(len(axes))

    site = at.primitive("reduce_sum")
    assert tapped({"t": tap(site, statistic, of="region")})["t"] == 1.0


def test_with_aux_the_value_is_a_pair():
    fun = lambda x: (f(x), {"y": x + 1})
    (value, aux), grads, taps = fbp.value_and_grad(
        fun, has_aux=True, taps={"t": tap("square", jnp.linalg.norm)}
    )(X)
    assert_close(value, f(X))
    assert_close(aux["y"], X + 1)
    assert_close(grads, jax.grad(f)(X))
    assert_close(taps["t"], jnp.linalg.norm(AT_Y))


def test_taps_and_edits_meet_in_their_order():
    rules = fbp.RULES | fbp.edit.cotangent("square", fbp.edit.scale(10.0))
    _, grads, taps = fbp.value_and_grad(f, rules=rules, taps={"t": tap("square")})(X)
    assert_close(grads, 10 * AT_Y * 2 * X)
    assert_close(taps["t"], 10 * AT_Y)


def test_no_taps_is_an_empty_dict():
    assert tapped({}) == {}


def test_a_tap_reads_off_the_way_of_the_gradient_to_the_arguments():
    def fun(w):
        x = checkpoint_name(jnp.arange(1.0, 4.0), "input")
        return jnp.sum(jnp.sin(x * w))

    assert_close(
        fbp.value_and_grad(fun, taps={"x": tap(at.name("input"))})(X)[2]["x"],
        jnp.cos(jnp.arange(1.0, 4.0) * X) * X,
    )


def scanned(x, length=4):
    def step(h, k):
        return jnp.sin(checkpoint_name(h * k, "state")), None

    return jnp.sum(lax.scan(step, x, jnp.arange(1.0, 1.0 + length))[0])


def states_by_hand(x, factors):
    """The cotangents of the states of a loop, from zeros that are added to them."""

    def run(zeros):
        h = x
        for z, k in zip(zeros, factors, strict=True):
            h = jnp.sin(h * k + z)
        return jnp.sum(h)

    return jnp.stack(jax.grad(run)([jnp.zeros_like(x) for _ in factors]))


def test_a_scan_stacks_by_iteration():
    got = tapped({"t": tap(at.name("state"))}, scanned)["t"]
    assert_close(got, states_by_hand(X, [1.0, 2.0, 3.0, 4.0]))


def test_a_chosen_iteration_is_alone_in_the_stack():
    got = tapped({"t": tap(at.name("state") & at.iteration(2))}, scanned)["t"]
    want = states_by_hand(X, [1.0, 2.0, 3.0, 4.0])
    assert_close(got, want.at[jnp.array([0, 1, 3])].set(0))


def test_nested_scans_stack_by_both():
    def nested(x):
        def outer(h, _):
            def inner(h, _):
                return jnp.sin(checkpoint_name(2 * h, "state")), None

            return lax.scan(inner, h, None, length=2)[0], None

        return jnp.sum(lax.scan(outer, x, None, length=3)[0])

    got = tapped({"t": tap(at.name("state"))}, nested)["t"]
    assert_close(got.reshape(6, 3), states_by_hand(X, [2.0] * 6))


def looped(x, stop=4.0):
    def step(state):
        k, h = state
        return k + 1, jnp.sin(checkpoint_name(h * k, "state"))

    return jnp.sum(lax.while_loop(lambda s: s[0] <= stop, step, (1.0, x))[1])


def test_a_while_loop_is_summed_over_iterations():
    got = tapped({"t": tap(at.name("state"), lambda ct: ct * ct)}, looped)["t"]
    want = jnp.sum(states_by_hand(X, [1.0, 2.0, 3.0, 4.0]) ** 2, 0)
    assert_close(got, want)


@pytest.mark.parametrize("last", [1, 3, 6])
def test_of_a_while_loop_the_last_iterations_are_kept(last):
    got = tapped({"t": tap(at.name("state"), last=last)}, looped)["t"]
    want = np.zeros((6, 3), np.float32)
    want[:4] = states_by_hand(X, [1.0, 2.0, 3.0, 4.0])[::-1]
    assert_close(got, want[:last])


def test_of_a_batch_of_while_loops_the_last_of_each_are_kept():
    read = fbp.value_and_grad(looped, taps={"t": tap(at.name("state"), last=2)})
    got = jax.vmap(read)(jnp.stack([X, X]), jnp.array([1.0, 3.0]))[2]["t"]
    assert_close(got[0], jnp.stack([states_by_hand(X, [1.0])[0], jnp.zeros(3)]))
    assert_close(got[1], states_by_hand(X, [1.0, 2.0, 3.0])[::-1][:2])


def test_a_scan_in_a_while_loop_is_stacked_within_the_iterations_kept():
    def nested(x):
        def step(state):
            inner = lambda h, _: (jnp.sin(checkpoint_name(2 * h, "state")), None)
            return state[0] + 1, lax.scan(inner, state[1], None, length=2)[0]

        return jnp.sum(lax.while_loop(lambda s: s[0] < 3 + jnp.int32(x[0]), step, (0, x))[1])

    got = tapped({"t": tap(at.name("state"), last=2)}, nested)["t"]
    want = states_by_hand(X, [2.0] * 6).reshape(3, 2, 3)[::-1][:2]
    assert_close(got, want)


def test_a_batch_of_while_loops_is_read_example_by_example():
    fun = lambda x, stop: looped(x, stop)
    read = fbp.value_and_grad(fun, taps={"t": tap(at.name("state"), lambda ct: ct * ct)})
    got = jax.vmap(read)(jnp.stack([X, X]), jnp.array([2.0, 4.0]))[2]["t"]
    for row, n in zip(got, (2, 4), strict=True):
        want = states_by_hand(X, [float(k) for k in range(1, n + 1)])
        assert_close(row, jnp.sum(want**2, 0))


@pytest.mark.parametrize(("x", "want"), [(1.0, 5.0), (-1.0, 0.0)])
def test_a_branch_that_does_not_run_gives_zero(x, want):
    def fun(x):
        return lax.cond(x > 0, lambda x: 5 * checkpoint_name(2 * x, "then"), lambda x: x, x)

    assert tapped({"t": tap(at.name("then"))}, fun, x)["t"] == want


def test_a_batch_inside_has_the_cotangents_of_all_examples():
    def fun(x):
        return jnp.sum(jax.vmap(lambda x: checkpoint_name(x, "each") ** 2)(x))

    assert_close(tapped({"t": tap(at.name("each"))}, fun)["t"], 2 * X)


def test_a_batch_outside_has_those_of_each_example():
    read = fbp.value_and_grad(f, taps={"t": tap("square", jnp.linalg.norm)})
    got = jax.vmap(read)(jnp.stack([X, 2 * X]))[2]["t"]
    assert_close(got, jnp.stack([tapped({"t": tap("square", jnp.linalg.norm)}, x=x)["t"]
                                 for x in (X, 2 * X)]))  # fmt: skip


def test_the_rule_of_a_function_is_in_force_beside_taps_in_its_body():
    @jax.custom_jvp
    def sine(x):
        return jnp.sin(checkpoint_name(2 * x, "inside"))

    sine.defjvp(lambda primals, tangents: (sine(*primals), 100 * tangents[0]))
    fun = lambda x: jnp.sum(sine(x))
    _, grads, taps = fbp.value_and_grad(fun, taps={"t": tap(at.name("inside"))})(X)
    assert_close(grads, 100.0)
    assert_close(taps["t"], jnp.cos(2 * X))


def test_second_derivatives_go_through_what_taps_read():
    def fun(x):
        return tapped({"t": tap("square", lambda ct: jnp.sum(ct))}, x=x)["t"]

    want = jax.grad(lambda x: jnp.sum(2 * jnp.cos(x * x) - 3 * jnp.sin(x * x)))(X)
    assert_close(fbp.grad(fun)(X), want)
    assert_close(jax.jvp(fun, (X,), (X,))[1], want @ X)


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        ({"t": tap("square", lambda ct: ct > 0)}, "of floats"),
        ({"t": tap("squar")}, "nearest are 'square'"),
        ({"t": "square"}, "fbp.tap"),
        (
            [("t", tap("square")), ("t", tap("pair"))],
            "'t' is there twice.*test_taps.py.*test_taps.py",
        ),
    ],
)
def test_a_tap_that_cannot_be_is_refused(taps, message):
    with pytest.raises(fbp.InputError, match=message):
        tapped(taps)


def test_a_tap_of_something_else_is_refused_at_once():
    with pytest.raises(fbp.InputError, match="outputs, inputs, region"):
        tap("square", of="output")
    with pytest.raises(TypeError, match="function is needed"):
        tap("square", 3.0)
    with pytest.raises(fbp.InputError, match="at least 1"):
        tap("square", last=0)
    with pytest.raises(TypeError):
        tap("square", of="region")
