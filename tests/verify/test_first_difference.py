"""Where two functions part: the equation, the line, the iteration."""

import jax
import jax.numpy as jnp
import pytest

import fbp
from fbp.verify import first_difference
from tests.support.faulty import FAULTS, with_fault

X = jnp.linspace(0.1, 1.0, 6)


def before(x):
    def step(c, y):
        return jnp.tanh(c + y), jnp.sin(c)

    return jnp.sum(jax.lax.scan(step, jnp.zeros(()), x)[1])


def after(x):
    def step(c, y):
        y = jnp.where(y > 0.6, 1.01 * y, y)  # from the fourth on
        return jnp.tanh(c + y), jnp.sin(c)

    return jnp.sum(jax.lax.scan(step, jnp.zeros(()), x)[1])


def test_functions_that_agree_have_no_difference():
    assert first_difference(before, lambda x: 1.0 * before(x), X) is None


def test_the_first_iteration_that_differs_is_named():
    found = first_difference(before, after, X)
    assert (found.what, found.iteration) == ("value", 3)
    assert found.equation[0].endswith("= add")
    assert "test_first_difference.py" in found.source[0]


def test_a_rule_that_differs_shows_as_a_cotangent():
    wrong = with_fault("tanh", FAULTS["one per cent too large"])
    found = first_difference(before, None, X, rules=(fbp.RULES, wrong))
    assert found.what == "cotangent"


def test_another_precision_differs_where_rounding_is_amplified_alone():
    assert first_difference(before, None, X, double=True) is None


def test_one_function_beside_itself_is_refused():
    with pytest.raises(fbp.InputError, match="double=True"):
        first_difference(before, None, X)
