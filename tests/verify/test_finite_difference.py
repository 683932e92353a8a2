import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbp import InputError
from fbp.verify.finite_difference import deviation, grain, quantum, slope

SINGLE = 1.2e-7
POINTS = (-2.3, -1.0, -0.3, 0.0, 0.1, 0.7, 1.0, 2.0, math.pi, 7.1)
POSITIVE = (0.01, 0.3, 1.0, 2.0, 5.0)


@dataclass(frozen=True)
class Case:
    """A function, its derivative, and points where to take it."""

    name: str
    fun: Callable
    derivative: Callable
    points: tuple[float, ...] = POINTS
    useful: bool = True

    def slopes(self, wrap=lambda fun: fun, scale=None, eps=2.2e-16):
        fun = wrap(self.fun)
        for x in self.points:
            size = scale or max(abs(x), 0.1)
            found = slope(lambda t, x=x: fun(x + t), size, eps)
            yield found, self.derivative(x), f"{self.name} at {x}, scale {size}: {found}"


def power(k):
    return Case(f"x^{k}", lambda x: x**k, lambda x: k * x ** (k - 1) if k else 0.0)


SMOOTH = (
    Case("sin", np.sin, math.cos),
    Case("exp", np.exp, math.exp),
    Case("tanh", np.tanh, lambda x: 1 / math.cosh(x) ** 2),
    Case("log1p", np.log1p, lambda x: 1 / (1 + x), (-0.9, *POSITIVE)),
    Case("sqrt", np.sqrt, lambda x: 0.5 / math.sqrt(x), POSITIVE),
    Case("cbrt", np.cbrt, lambda x: 1 / (3 * np.cbrt(x) ** 2), (-1.0, *POSITIVE)),
    *(power(k) for k in range(7)),
    Case("1e8 x", lambda x: 1e8 * x, lambda x: 1e8),
    Case("1e-8 x", lambda x: 1e-8 * x, lambda x: 1e-8),
    Case("pole", lambda x: 1 / (x - 1.001), lambda x: -1 / (x - 1.001) ** 2, (0.9, 1.1, 2.0)),
    Case("sin 50x", lambda x: np.sin(50 * x), lambda x: 50 * math.cos(50 * x), POINTS[:8]),
    Case("near pole", lambda x: 1 / (x - 1.001), lambda x: -1 / (x - 1.001) ** 2, (1.0,), False),
    Case("fast", lambda x: np.sin(50 * x), lambda x: 50 * math.cos(50 * x), (7.1,), False),
    Case("offset", lambda x: 1e6 + np.sin(x), math.cos, useful=False),
    Case("cancelled", lambda x: (1e3 + np.sin(x)) - 1e3, math.cos, useful=False),
    Case("spike", lambda x: np.exp(-((x / 1e-3) ** 2)) + x, lambda x: 1, (0.0,), False),
)


def single(fun):
    return lambda x: np.asarray(fun(x.astype(np.float32)), np.float32).astype(np.float64)


def hashed(x):
    """A number between -1/2 and 1/2 made of its bits: neighbours have nothing in common."""
    bits = np.asarray(x, np.float64).view(np.uint64)
    for _ in range(2):
        bits = (bits ^ (bits >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    return (bits >> np.uint64(11)) * 2.0**-53 - 0.5


def noisy(fun):
    return lambda x: fun(x) + 1e-10 * hashed(x)


PRECISIONS = {
    "double": (lambda f: f, 2.2e-16),
    "single": (single, SINGLE),
    "noisy": (noisy, 2.2e-16),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("scale", [None, 1.0])
@pytest.mark.parametrize("case", SMOOTH, ids=lambda case: case.name)
def test_derivative_is_within_the_bar(case, scale, precision):
    wrap, eps = PRECISIONS[precision]
    for found, true, words in case.slopes(wrap, scale, eps):
        assert found.error == math.inf or abs(found.value - true) <= found.error, words
        assert found.contains(true), words
        assert found.kind != "jump", words


@pytest.mark.parametrize("case", [c for c in SMOOTH if c.useful], ids=lambda case: case.name)
def test_bar_is_small_in_double_precision(case):
    for found, true, words in case.slopes():
        assert found.kind == "smooth", words
        assert found.error <= 1e-6 * abs(true) or (true == 0 and found.error < 1e-12), words


def test_bar_is_small_enough_in_single_precision_to_tell_a_wrong_derivative():
    for case in SMOOTH[:3]:
        for found, true, words in case.slopes(single, eps=SINGLE):
            assert found.error <= 1e-2 * max(abs(true), 1e-3), words


def relu(x):
    return np.maximum(x, 0)


KINKS = (
    Case("abs", abs, np.sign),
    Case("relu", relu, lambda x: float(x > 0)),
    Case("lifted", lambda x: 5 + relu(x) + np.sin(x), lambda x: math.cos(x) + (x > 0)),
    Case("max", lambda x: np.maximum(np.sin(x), x * x), lambda x: math.cos(x) if x > 0 else 2 * x),
)
JUMPS = (
    Case("floor", np.floor, lambda x: 0.0),
    Case("sign", np.sign, lambda x: 0.0),
    Case(
        "where", lambda x: np.where(x > 0, x * x + x, 3 - x), lambda x: 2 * x + 1 if x > 0 else -1
    ),
)
DISTANCES = [s * d for d in (1e-3, 1e-5, 1e-7, 1e-9) for s in (1, -1)]


@pytest.mark.parametrize("case", KINKS + JUMPS, ids=lambda case: case.name)
@pytest.mark.parametrize("x", DISTANCES)
def test_near_a_kink_or_a_jump_the_own_side_counts(case, x):
    found = slope(lambda t: case.fun(x + t), scale=1.0)
    assert found.kind == "smooth"
    assert abs(found.value - case.derivative(x)) <= found.error < 1e-3


@pytest.mark.parametrize("case", KINKS, ids=lambda case: case.name)
@pytest.mark.parametrize("x", DISTANCES)
def test_a_kink_closer_than_single_precision_resolves_admits_both_sides(case, x):
    found = slope(lambda t: single(case.fun)(x + t), scale=1.0, eps=SINGLE)
    assert found.kind == ("smooth" if abs(x) >= 1e-3 else "kink")
    assert abs(found.value - case.derivative(x)) <= found.error
    assert found.contains(case.derivative(x))


@pytest.mark.parametrize("case", JUMPS, ids=lambda case: case.name)
@pytest.mark.parametrize("x", DISTANCES)
def test_a_jump_closer_than_single_precision_resolves_admits_both_sides(case, x):
    found = slope(lambda t: single(case.fun)(x + t), scale=1.0, eps=SINGLE)
    assert found.contains(case.derivative(x))


@pytest.mark.parametrize(
    ("fun", "left", "right"),
    [
        (abs, -1, 1),
        (relu, 0, 1),
        (lambda t: 1e6 + relu(t) - 2 * relu(-t), 2, 1),
        (lambda t: np.where(t > 0, np.exp(2 * t), np.cos(t)), 0, 2),
        (lambda t: noisy(abs)(t), -1, 1),
    ],
)
def test_at_a_kink_everything_between_the_sides_is_a_derivative(fun, left, right):
    found = slope(fun, scale=1.0)
    assert found.kind == "kink"
    assert abs(found.left.value - left) <= found.left.error < 1e-4
    assert abs(found.right.value - right) <= found.right.error < 1e-4
    low, high = sorted((left, right))
    assert all(found.contains(x) for x in np.linspace(low, high, 5))
    assert not found.contains(low - 0.01)
    assert not found.contains(high + 0.01)
    assert not found.contains(math.nan)


@pytest.mark.parametrize(
    ("fun", "left", "right"),
    [
        (np.sign, 0, 0),
        (np.floor, 0, 0),
        (lambda t: np.where(t > 0, t * t, 3 + t), 1, 0),
        (lambda t: np.where(t == 0, 1, 2 * t), 2, 2),
        (lambda t: noisy(np.sign)(t), 0, 0),
    ],
)
def test_at_a_jump_the_derivative_is_that_of_a_side(fun, left, right):
    found = slope(fun, scale=1.0)
    assert found.kind == "jump"
    assert found.contains(left)
    assert found.contains(right)
    assert not found.contains((left + right) / 2 + 0.3)


@pytest.mark.parametrize(
    "fun", [np.cbrt, np.sqrt, np.log, lambda t: t * np.log(abs(t) + 1e-300), lambda t: t + np.nan]
)
def test_infinite_or_absent_derivative_is_unresolved_and_refutes_nothing(fun):
    for scale in (1e-3, 1.0, 1e3):
        found = slope(fun, scale)
        assert (found.kind, found.error) == ("unresolved", math.inf)
        assert found.contains(math.inf)
        assert found.contains(3.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_at_an_edge_the_side_that_has_values_counts(sign):
    found = slope(lambda t: np.where(sign * t < 0, np.nan, np.exp(t)), scale=1.0)
    assert found.kind == "edge"
    assert abs(found.value - 1) <= found.error < 1e-8
    assert math.isnan((found.left if sign > 0 else found.right).value)


def test_near_an_edge_both_sides_count():
    found = slope(lambda t: np.log(1e-9 + t), scale=1.0)
    assert found.kind == "smooth"
    assert abs(found.value - 1e9) <= found.error < 1e8


@pytest.mark.parametrize(
    ("fun", "eps"), [(lambda t: 3.0 + 0 * t, SINGLE), (lambda t: 0 * t, 2.2e-16)]
)
def test_constant_has_the_slope_0(fun, eps):
    found = slope(fun, scale=1.0, eps=eps)
    assert (found.kind, found.value) == ("smooth", 0)
    assert found.error < 30 * eps
    assert not found.contains(1e-3)


def test_noise_alone_is_unresolved():
    found = slope(lambda t: hashed(t + 0.3), scale=1.0)
    assert found.kind == "unresolved"
    assert found.contains(0.1)


def test_values_that_differ_from_call_to_call_widen_the_bar():
    rng = np.random.default_rng(0)
    found = slope(lambda t: np.sin(1 + t) + 1e-6 * rng.normal(), scale=1.0)
    again = slope(lambda t: np.sin(1 + t), scale=1.0)
    assert again.error < 1e-9 < 1e-7 < found.error
    assert found.contains(math.cos(1))


def test_rounded_values_are_unresolved_where_steps_are_wide_and_noise_where_they_are_narrow():
    wide = slope(lambda t: np.round(1000 * (t + 0.3)) / 1000, scale=1.0)
    assert wide.kind == "unresolved"
    assert wide.contains(0)
    assert wide.contains(1)
    narrow = slope(
        lambda t: np.float32(1000) + np.sin((1 + t).astype(np.float32)) - np.float32(1000),
        1.0,
        SINGLE,
    )
    assert narrow.kind == "smooth"
    assert abs(narrow.value - math.cos(1)) <= narrow.error < 0.02


def test_steps_do_not_fall_into_step_with_a_period():
    found = slope(lambda t: np.sin(2 * np.pi * 1024 * t), scale=1.0)
    assert found.contains(2 * np.pi * 1024)
    assert found.error < 1e-3


def test_rungs_are_the_quotients_by_step():
    found = slope(lambda t: t**2 + t, scale=2.0)
    steps = [rung.step for rung in found.rungs]
    assert steps == sorted(steps, reverse=True)
    for rung in found.rungs[:20]:
        np.testing.assert_allclose(
            (rung.left, rung.central, rung.right), (1 - rung.step, 1, 1 + rung.step), rtol=1e-8
        )


def test_function_is_called_twice_with_one_dimensional_doubles():
    seen = []

    def phi(t):
        seen.append((t.ndim, t.dtype))
        return t

    slope(phi, scale=1.0)
    assert seen == [(1, np.float64)] * 2


@pytest.mark.parametrize(
    ("scale", "eps"),
    [(0.0, 1e-16), (-1.0, 1e-16), (math.nan, 1e-16), (math.inf, 1e-16), (1.0, 0.0), (1.0, 2.0)],
)
def test_sizes_that_are_no_sizes_raise(scale, eps):
    with pytest.raises(InputError, match="must be"):
        slope(np.sin, scale, eps)


FAMILIES = {
    "sin": (np.sin, np.cos),
    "exp": (np.exp, np.exp),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "cube": (lambda x: x**3, lambda x: 3 * x**2),
    "abs": (abs, np.sign),
    "sin of abs": (lambda x: np.sin(abs(x)), lambda x: np.sign(x) * np.cos(x)),
    "relu": (relu, lambda x: 1.0 * (x > 0)),
}


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(FAMILIES)),
    st.floats(-3, 1).map(lambda e: 10**e),
    st.sampled_from([-1, 1]),
    st.floats(-1, 1).map(lambda e: 10**e),
    st.floats(-4, 4).map(lambda e: 10**e),
    st.sampled_from([0.0, 1.0, -1e3, 1e6]),
    st.sampled_from(sorted(PRECISIONS)),
)
def test_bar_holds_for_any_size_offset_and_precision(
    name, x, sign, scale, factor, offset, precision
):
    fun, derivative = FAMILIES[name]
    wrap, eps = PRECISIONS[precision]
    x = float(np.float32(sign * x))
    found = slope(lambda t: wrap(lambda y: factor * fun(y) + offset)(x + t), abs(x) * scale, eps)
    assert found.contains(factor * derivative(x))
    assert not abs(found.value - factor * derivative(x)) > found.error


def test_deviation_is_that_of_noise_and_not_of_a_smooth_function_or_a_kink():
    t = np.linspace(0, 1e-3, 32)
    noise = np.random.default_rng(1).normal(size=32)
    assert 0.5e-9 < deviation(np.sin(t) + 1e-9 * noise) < 2e-9
    assert deviation(np.sin(t)) < 1e-15
    assert deviation(abs(t - 3e-4)) < 1e-15
    assert deviation(np.full(32, np.nan)) == 0


def test_lattices_are_seen():
    t = np.linspace(0, 1, 32)
    assert quantum(0.1 * np.round(100 * np.sin(t))) == pytest.approx(0.1)
    assert quantum(np.sin(t)) == 0
    assert grain(np.round(1024 * np.sin(t)) / 1024) == 2.0**-10
    assert grain(np.sin(t)) < 1e-15
    assert grain(np.sign(t - 0.5)) == 0
