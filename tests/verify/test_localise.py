"""A wrong rule is found wherever its equation lies, and no other is blamed."""

import jax
import jax.numpy as jnp
import pytest

import fbp
from fbp.verify.localise import wrong_rules
from fbp.verify.problem import problem_of
from tests.support.faulty import FAULTS, with_fault


def in_scan(x):
    c, ys = jax.lax.scan(lambda c, x: (jnp.sin(c * x), jnp.cos(c)), jnp.float32(0.3), x)
    return c + jnp.sum(jnp.exp(ys))


def in_while(x):
    def body(c):
        return c[0] * 1.5, jnp.sin(c[1]) * x[2]

    return jax.lax.while_loop(lambda c: c[0] < 50, body, (x[0], x[1]))[1]


def in_branches(x):
    return jnp.sum(jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x))


def in_jit_and_remat(x):
    return jnp.sum(jax.jit(jax.checkpoint(lambda x: jnp.sin(x) * x))(x))


def in_a_custom_rule(x):
    @jax.custom_jvp
    def f(x):
        return jnp.exp(x)

    f.defjvp(lambda xs, ts: (jnp.exp(xs[0]), jnp.cos(0.0) * jnp.exp(xs[0]) * ts[0]))
    return jnp.sum(f(jnp.sin(x)))


def in_nested_loops(x):
    def outer(c, i):
        return jax.lax.fori_loop(0, 3, lambda j, c: jnp.where(j == 1, jnp.sin(c) + i, c), c), None

    return jax.lax.scan(outer, x, jnp.arange(4.0))[0].sum()


X = jnp.array([0.7, 1.3, 0.4])
PROGRAMS = [in_scan, in_while, in_branches, in_jit_and_remat, in_a_custom_rule, in_nested_loops]


@pytest.mark.parametrize("fun", PROGRAMS)
@pytest.mark.parametrize("fault", ["doubled", "one per cent too large"])
def test_the_equation_at_fault_is_the_only_one_named(fun, fault):
    (finding,) = wrong_rules(problem_of(fun, (X,), 0), with_fault("sin", FAULTS[fault]))
    assert finding.primitive == "sin"
    assert finding.source is not None
    assert fun.__name__ in finding.source


@pytest.mark.parametrize("fun", PROGRAMS)
def test_right_rules_are_not_blamed(fun):
    assert wrong_rules(problem_of(fun, (X,), 0), fbp.RULES) == []


def test_the_iteration_is_that_of_the_largest_error():
    def fault(ct):
        return jnp.where(abs(ct) > 0.9, 2 * ct, ct)

    def step(c, x):
        return c, jnp.sin(c * x)

    def fun(x):
        return jnp.sum(jax.lax.scan(step, jnp.float32(1), x)[1])

    x = jnp.array([1.4, 1.5, 0.1, 1.3])
    (finding,) = wrong_rules(problem_of(fun, (x,), 0), with_fault("sin", fault))
    assert finding.iteration == (2,)
    assert finding.got == pytest.approx(2 * finding.expected)


@pytest.mark.parametrize(("fun", "primitive"), [(in_scan, "scan"), (in_branches, "cond")])
def test_the_rule_of_a_loop_itself_is_named_if_all_inside_are_right(fun, primitive):
    (finding,) = wrong_rules(problem_of(fun, (X,), 0), with_fault(primitive, FAULTS["doubled"]))
    assert finding.primitive == primitive


def test_an_equation_of_a_library_is_placed_where_the_user_called_it():
    problem = problem_of(lambda x: jnp.var(x), (X,), 0)
    for finding in wrong_rules(problem, with_fault("div", FAULTS["doubled"])):
        assert "test_localise.py" in finding.source


def test_cotangents_of_a_symmetric_matrix_are_compared_as_such():
    def fun(x):
        factor = jnp.linalg.cholesky(x @ x.T + 3 * jnp.eye(3))
        return jnp.sum(jnp.log(jnp.diagonal(factor))) + jnp.sum(jnp.sin(x))

    x = jnp.arange(9.0).reshape(3, 3) / 9
    problem = problem_of(fun, (x,), 0)
    assert wrong_rules(problem, fbp.RULES) == []
    (finding,) = wrong_rules(problem, with_fault("sin", FAULTS["doubled"]))
    assert finding.primitive == "sin"
