"""Right gradients pass, wrong ones do not, and the report says which leaf and what to do."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fbp
from fbp.errors import InputError
from fbp.verify import Kind, assert_gradients, check
from tests.support.faulty import FAULTS, right_dense, with_fault


def loss(params, x):
    hidden = jnp.tanh(x @ params["w"] + params["b"][None])
    return jnp.mean((hidden @ params["u"]) ** 2)


def point(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 4)
    params = {
        "w": jax.random.normal(keys[0], (5, 4), dtype),
        "b": jnp.zeros(4, dtype),
        "u": jax.random.normal(keys[1], (4, 3), dtype),
    }
    return params, jax.random.normal(keys[2], (7, 5), dtype)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_a_right_gradient_passes(dtype):
    report = check(loss, *point(dtype))
    assert report.ok, report
    assert [leaf.leaf for leaf in report.leaves] == ["args[0]['b']", "args[0]['u']", "args[0]['w']"]
    assert not report.findings


def test_a_right_gradient_in_double_precision_passes():
    with jax.enable_x64(True):
        report = check(loss, *point(jnp.float64))
        assert report.ok, report
        assert all(leaf.bar_ulps < 1e4 for leaf in report.leaves)


@pytest.mark.parametrize(
    ("fault", "dtype"),
    [
        *((fault, jnp.float32) for fault in FAULTS),
        ("one per cent too large", jnp.bfloat16),
        ("one entry doubled", jnp.bfloat16),
    ],
)
def test_a_wrong_rule_is_found_and_named(fault, dtype):
    report = check(loss, *point(dtype), rules=with_fault("tanh", FAULTS[fault]))
    assert not report.ok
    (finding,) = (f for f in report.findings if f.kind == Kind.WRONG_RULE)
    assert finding.primitive == "tanh"
    assert "test_check.py" in finding.source
    assert {f.leaf for f in report.failures if f.kind == Kind.WRONG_GRADIENT} == {
        "args[0]['b']",
        "args[0]['w']",
    }


def scaled(factor):
    def gradient(params, x):
        grads = jax.grad(loss)(params, x)
        return grads | {"b": grads["b"] * factor}

    return gradient


def test_a_gradient_that_is_handed_over_is_checked():
    assert check(loss, *point(), gradient=scaled(1.0)).ok
    report = check(loss, *point(), gradient=scaled(1.001))
    assert [leaf.ok for leaf in report.leaves] == [False, True, True]


def test_a_gradient_from_numpy_is_checked_by_finite_differences():
    w, x = np.random.default_rng(0).normal(size=(3, 4)), np.arange(4.0)

    def value(w, x):
        return float(np.sum(np.tanh(w @ x)))

    def gradient(w, x):
        return np.outer(1 - np.tanh(w @ x) ** 2, x)

    assert check(value, w, x, gradient=gradient).ok
    report = check(value, w, x, gradient=lambda w, x: 1.0001 * gradient(w, x))
    assert not report.ok
    assert report.leaves[0].reference.startswith("finite differences")


def test_a_while_loop_is_checked_by_forward_mode():
    def grows(x):
        return jax.lax.while_loop(
            lambda c: c[0] < 50, lambda c: (c[0] * 1.5, jnp.sin(c[1])), (x, x)
        )

    assert check(grows, 1.3).ok
    report = check(grows, 1.3, rules=with_fault("sin", FAULTS["one per cent too large"]))
    assert not report.ok
    assert report.leaves[0].reference == "jax.jvp in float64"


def test_a_gradient_that_changes_under_a_transformation_fails():
    @jax.custom_batching.custom_vmap
    def twice_under_vmap(x):
        return x

    @twice_under_vmap.def_vmap
    def _(size, batched, x):
        return 2 * x, True

    report = check(
        lambda x: jnp.sum(x**2),
        jnp.arange(3.0),
        gradient=lambda x: twice_under_vmap(jax.grad(lambda x: jnp.sum(x**2))(x)),
    )
    (failure,) = report.failures
    assert failure.kind == Kind.TRANSFORM
    assert "vmap" in failure.message


def test_a_leaf_without_a_gradient_is_reported_unless_declared():
    def unused(params):
        return params["a"] ** 2 + jax.lax.stop_gradient(params["b"])

    report = check(unused, {"a": 1.0, "b": 2.0})
    assert report.ok
    assert [(f.kind, f.leaf) for f in report.findings] == [(Kind.ZERO, "args[0]['b']")]
    assert not check(unused, {"a": 1.0, "b": 2.0}, declared=["args[0]['b']"]).findings


def test_a_gradient_with_nan_fails():
    report = check(lambda x: jnp.sqrt(x["a"]), {"a": 0.0})
    assert not report.ok
    assert report.failures[0].kind == Kind.NON_FINITE
    assert report.failures[0].leaf == "args[0]['a']"
    assert "sqrt" in report.failures[0].message


def test_integer_and_empty_leaves_have_no_gradient_and_complex_ones_have():
    def mixed(args):
        return jnp.real(args["z"] * jnp.conj(args["z"])) * args["n"] + jnp.sum(args["empty"])

    report = check(mixed, {"z": 1.0 + 2.0j, "n": 3, "empty": jnp.zeros((0,))})
    assert report.ok, report
    assert [leaf.leaf for leaf in report.leaves] == ["args[0]['z']"]


def test_outputs_other_than_a_scalar_are_weighed():
    assert check(
        lambda x: {"a": x**2, "n": jnp.int32(3), "z": jax.lax.complex(x, x)}, jnp.arange(3.0)
    ).ok


def test_other_arguments_can_be_checked():
    assert [leaf.leaf for leaf in check(jnp.multiply, 2.0, 3.0, argnums=(0, 1)).leaves] == [
        "args[0]",
        "args[1]",
    ]


def test_assert_gradients_raises_with_the_report():
    assert_gradients(loss, *point())
    with pytest.raises(AssertionError, match=r"WRONG.*args\[0\]\['b'\]"):
        assert_gradients(loss, *point(), gradient=scaled(2.0))


def test_bad_arguments_are_named():
    with pytest.raises(fbp.InputError, match="no floating-point entry"):
        check(lambda x: x, "text")
    with pytest.raises(fbp.InputError, match="no floating-point entry"):
        check(lambda x: x, 1)
    with pytest.raises(fbp.InputError, match="argnums=3"):
        check(lambda x: x, 1.0, argnums=3)
    with pytest.raises(fbp.InputError, match="returns no floating-point entry"):
        check(lambda x: jnp.int32(x), 1.0)


def test_a_report_is_json():
    report = check(loss, *point(), gradient=scaled(2.0))
    read = json.loads(report.to_json())
    assert read["ok"] is False
    assert read["findings"][0]["kind"] == "wrong gradient"


def test_a_custom_rule_is_differentiated_twice():
    def fun(x, w):
        return jnp.mean(jnp.exp(right_dense(x, w)))

    report = check(fun, jnp.ones((3, 2)), jnp.ones((2, 2)), argnums=(0, 1))
    assert report.ok, report
    assert "a second differentiation" in report.checked


def relu_sum(x):
    return jnp.sum(jnp.where(x > 0, x, 0.1 * x))


@pytest.mark.parametrize(("slope", "right"), [(0.1, True), (0.6, True), (1.0, True), (1.1, False)])
def test_at_a_kink_every_slope_between_those_on_its_sides_is_right(slope, right):
    x = jnp.array([-1.0, 0.0, 2.0])
    report = check(relu_sum, x, gradient=lambda x: jnp.array([0.1, slope, 1.0]))
    assert report.ok == right
    if slope == 0.6:
        (finding,) = report.findings
        assert finding.kind == Kind.KINK
        assert finding.index == (1,)


def test_an_entry_that_is_wrong_beside_kinks_is_found():
    x = jnp.array([-1.0, 0.0, 2.0])
    assert not check(relu_sum, x, gradient=lambda x: jnp.array([0.1, 0.5, 1.2])).ok


def gradient_of_largest(share):
    """The gradient of a sum of squares of each row's largest, by its share for equal entries."""

    def gradient(x):
        largest = x.max(-1, keepdims=True)
        return 2 * largest * share((x == largest).astype(x.dtype))

    return gradient


TIED = jnp.array([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0], [0.5, -1.0, 0.0]])


@pytest.mark.parametrize(
    ("share", "right"),
    [
        (lambda equal: jnp.where(jnp.cumsum(equal, -1) == 1, equal, 0.0), True),
        (lambda equal: equal, False),
    ],
)
def test_the_slopes_of_equal_entries_of_a_maximum_add_up_to_one(share, right):
    report = check(lambda x: jnp.sum(x.max(-1) ** 2), TIED, gradient=gradient_of_largest(share))
    assert report.ok == right, report


def test_kinks_of_their_own_may_take_any_slope_though_they_cancel_when_moved_together():
    x = jnp.array([-1.0, 1.0, 0.5])  # where one entry of the clip begins to move, another stops
    report = check(
        lambda x: 2 * jnp.sum(jnp.clip(x, -1, 1)),
        x,
        gradient=lambda x: jnp.where(x == 0.5, 2.0, 0.0),
    )
    assert report.ok, report


def test_a_while_loop_around_a_custom_rule_is_checked_by_a_complex_step():
    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    f.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (ct * jnp.cos(x),))

    def fun(x):
        return jax.lax.while_loop(lambda c: c[0] < 9, lambda c: (c[0] * 2, f(c[1] * x)), (1.0, x))[
            1
        ]

    report = check(fun, 1.3)
    assert report.ok, report
    assert report.leaves[0].reference == "a complex step"
    wrong = check(fun, 1.3, rules=with_fault("mul", FAULTS["one per cent too large"]))
    assert not wrong.ok


def test_values_are_not_asked_where_a_gradient_is_stopped():
    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    f.defvjp(lambda x: (jnp.sin(x), jnp.cos(x)), lambda cos, ct: (cos * ct,))

    def fun(x):
        start = (1.0, jax.lax.stop_gradient(x) * x)
        return jax.lax.while_loop(lambda c: c[0] < 9, lambda c: (c[0] * 2, f(c[1])), start)[1]

    with pytest.raises(InputError, match=r"stop_gradient at .*test_check.py"):
        check(fun, 0.7)


def test_a_function_that_names_no_dtype_is_not_traced_anew_in_float64():
    def fun(x):
        return jnp.sum(jax.lax.scan(lambda c, x: (jnp.sin(c + x), c), jnp.zeros(()), x)[0])

    x = jnp.arange(3.0)
    assert not check(fun, x, gradient=lambda x: jnp.ones_like(x)).ok


def branching(x):
    return jnp.sum(jnp.sin(x)) if x[0] > 0 else jnp.sum(x**2)


def test_function_with_python_control_flow_is_checked_at_its_point():
    report = check(branching, jnp.array([0.7, 0.2]))
    assert report.ok
    assert "could not check the gradient under transformations" in str(report)
    wrong = fbp.RULES | fbp.rule.derivative(jax.lax.sin_p, lambda x, y: 1.01 * jax.lax.cos(x))
    assert not check(branching, jnp.array([0.7, 0.2]), rules=wrong).ok
