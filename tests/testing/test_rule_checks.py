"""The checks of a rule pass right ones and fail wrong ones, each for what it is there for."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import fbp
from fbp.testing import (
    Case,
    check_composed,
    check_eagerly,
    check_first_order,
    first_order_distances,
    ulps,
    uniform,
)
from tests.support.faulty import FAULTS, with_fault

CHECKS = (check_first_order, check_composed, check_eagerly)
TAN = [Case(lax.tan_p, lax.tan, (uniform(-1, 1, 3),), name="inside")]
RIGHT = fbp.RULES | fbp.rule.derivative(lax.tan_p, lambda x, y: lax.add(lax.square(y), 1.0))


@pytest.mark.parametrize("check", CHECKS)
def test_a_right_rule_of_an_author_passes(check):
    check(TAN, "float32", rules=RIGHT)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_rule_fails_with_the_name_of_the_case(check, fault):
    with pytest.raises(AssertionError, match="tan inside"):
        check(TAN, "float32", rules=with_fault("tan", FAULTS[fault]))


def test_a_rule_right_to_first_order_only_is_right_until_it_is_composed():
    def derivative(x, y):
        return lax.add(lax.square(lax.stop_gradient(y)), 1.0)

    rules = fbp.RULES | fbp.rule.derivative(lax.tan_p, derivative)
    check_first_order(TAN, "float32", rules=rules)
    with pytest.raises(AssertionError, match=r"tan inside fbp\(fbp\)"):
        check_composed(TAN, "float32", rules=rules)


def test_a_missing_conjugate_is_noticed_in_complex_numbers_only():
    rule = fbp.rule.derivative(lax.sin_p, lambda x, y: lax.cos(x).conj())
    cases = [Case(lax.sin_p, lax.sin, ((3,),), ("float32", "complex64"))]
    check_first_order(cases, "float32", rules=fbp.RULES | rule)
    with pytest.raises(AssertionError, match="sin"):
        check_first_order(cases, "complex64", rules=fbp.RULES | rule)


def test_a_primitive_without_a_rule_is_named():
    with pytest.raises(fbp.MissingRule, match="'tan'"):
        check_first_order(TAN, "float32", rules=fbp.Rules())


def test_distances_are_multiples_of_each_cases_tolerance():
    once, twice = (
        Case(lax.tan_p, lax.tan, (uniform(-1, 1, 3),), tolerance=tolerance) for tolerance in (4, 8)
    )
    rules = with_fault("tan", FAULTS["one per cent too large"])
    of_once, of_twice = first_order_distances([once, twice], "float32", rules=rules)
    assert of_once == 2 * of_twice > 1


def test_arguments_are_the_same_for_the_same_seed_and_others_for_another():
    (case,) = TAN
    (a,), (b,), (c,) = (case.arguments("float32", seed) for seed in (0, 0, 1))
    assert (a == b).all()
    assert not (a == c).any()


def test_an_ulp_is_that_of_the_largest_entry():
    want = jnp.float32([1.0, 1e-6])
    assert ulps(want + jnp.float32([0, 2**-23]), want) == pytest.approx(1, rel=1e-5)
    assert ulps(jnp.arange(3), jnp.arange(3)) == 0
    assert ulps(jnp.arange(3), jnp.arange(3) + 1) == float("inf")
    with pytest.raises(AssertionError):
        ulps(jnp.float32([1]), jnp.float32([jnp.nan]))
    assert ulps(jax.dtypes.float0, jnp.zeros(0)) == 0
