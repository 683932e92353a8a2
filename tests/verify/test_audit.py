"""Custom rules beside the derivatives of their own functions."""

import jax
import jax.numpy as jnp
import pytest

import fbp
from fbp.verify import Kind, check
from fbp.verify.audit import audit as audited
from fbp.verify.declared import declarations
from fbp.verify.problem import problem_of
from tests.support.faulty import dense, square, straight_through


def audit(fun, *args, declared=()):
    problem = problem_of(fun, args, tuple(range(len(args))))
    return list(audited(problem, fbp.RULES, declarations(declared)).findings)


def layer(x, w, b):
    return jnp.sum(jax.nn.relu(dense(x, w, b)))


def args_of_layer():
    keys = jax.random.split(jax.random.key(0), 2)
    return jax.random.normal(keys[0], (6, 5)), jax.random.normal(keys[1], (5, 4)), jnp.zeros(4)


def test_a_wrong_custom_rule_is_found_with_its_operand():
    (finding,) = audit(layer, *args_of_layer())
    assert finding.kind == Kind.WRONG_CUSTOM_RULE
    assert finding.operand == 2
    assert finding.got == pytest.approx(2 * finding.expected)
    assert "dense at" in finding.message
    assert "test_audit.py" in finding.source


def test_a_gradient_with_a_wrong_custom_rule_fails_though_jax_agrees():
    report = check(layer, *args_of_layer(), argnums=(0, 1, 2), gradient=jax.grad(layer, (0, 1, 2)))
    assert all(leaf.ok for leaf in report.leaves)
    assert [f.kind for f in report.failures] == [Kind.WRONG_CUSTOM_RULE]


def test_a_deviation_is_an_error_unless_declared():
    x = jnp.array([0.3, 1.2])
    (finding,) = audit(lambda x: jnp.sum(straight_through(x) ** 2), x)
    assert finding.kind == Kind.WRONG_CUSTOM_RULE
    assert (finding.expected, abs(finding.got) > 0) == (0.0, True)
    (finding,) = audit(straight_through, x, declared=["straight_through"])
    assert finding.kind == Kind.DECLARED
    assert check(straight_through, x, declared=[straight_through]).ok


def test_right_custom_rules_are_not_mentioned():
    def fun(x):
        return jnp.sum(square(x) + jax.nn.silu(x) + jnp.logaddexp(x, x) + jax.nn.softmax(x))

    assert audit(fun, jnp.array([0.5, -1.0, 0.0])) == []


def test_a_kink_admits_every_slope_between_those_on_its_sides():
    (finding,) = audit(lambda x: jnp.sum(jax.nn.relu(x)), jnp.zeros(3))
    assert finding.kind == Kind.KINK
    assert not finding.kind.fails


def test_a_wrong_slope_is_found_among_many_kinks():
    @jax.custom_jvp
    def relu(x):
        return jnp.maximum(x, 0)

    relu.defjvp(lambda xs, ts: (relu(xs[0]), jnp.where(xs[0] > 0, 1.1, 0.0) * ts[0]))
    x = jnp.zeros(1000).at[::10].set(1.0)
    (finding,) = audit(lambda x: jnp.sum(relu(x)), x)
    assert finding.kind == Kind.WRONG_CUSTOM_RULE


def test_a_rule_in_a_loop_is_found_with_its_iteration():
    @jax.custom_jvp
    def f(x):
        return jnp.sin(x)

    f.defjvp(lambda xs, ts: (f(xs[0]), jnp.where(xs[0] > 2, 2.0, 1.0) * jnp.cos(xs[0]) * ts[0]))

    def fun(x):
        return jax.lax.scan(lambda c, y: (c + f(y * c), None), x, jnp.array([1.0, 1.2, 0.9, 1.0]))[
            0
        ]

    (finding,) = audit(fun, 1.0)
    assert finding.iteration in {(1,), (2,), (3,)}  # where its argument is above 2
