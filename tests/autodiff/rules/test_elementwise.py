"""Elementwise functions: every derivative beside JAX's, at kinks and edges of the domain too."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import primitives as p

import fbp
from fbp.autodiff.compat import from_edtype_p, named_primitives, to_edtype_p
from fbp.autodiff.rules import elementwise
from fbp.testing import (
    COMPLEX,
    FLOATS,
    NUMBERS,
    Case,
    check_eagerly,
    fixed,
    normal,
    real,
    ties,
    values,
)
from tests.support.elementwise_cases import ALL, INF, JAX_POWERS, NAN, PAIRS, binary, unary
from tests.support.table import by_primitive, rule_tests

ARITHMETIC = [
    *unary(p.neg_p, lax.neg, -2, 2, ALL, NUMBERS),
    *binary(p.add_p, lax.add, dtypes=NUMBERS, edges=PAIRS),
    *binary(p.sub_p, lax.sub, dtypes=NUMBERS, edges=PAIRS),
    *binary(p.mul_p, lax.mul, dtypes=NUMBERS, edges=PAIRS),
    *(
        Case(
            p.mul_p,
            partial(lax.mul, out_dtype=to),
            ((2, 3), fixed(np.float32([[1.5, -2, 0.3]]))),
            composed=to == "float32",
            name=f"in {to}",
        )
        for to in ("float32", "float16")
    ),
    *binary(p.div_p, lax.div, dtypes=NUMBERS, edges=PAIRS),
    *binary(p.rem_p, lax.rem, (-9, 9), (1, 2), edges=PAIRS),
    Case(p.add_jaxvals_p, p.add_jaxvals_p.bind, ((3,), (3,)), NUMBERS),
]


def raised(exponent: int) -> Callable:
    return lambda x: lax.integer_pow(x, exponent)


def power_of_integers(x: Any, y: Any) -> Any:
    with jax.numpy_dtype_promotion("standard"):
        return lax.pow(x, y)


POWERS = [
    *binary(p.pow_p, lax.pow, (0.1, 3), edges=JAX_POWERS, constant=2.0),
    *binary(p.pow_p, lax.pow, (0.1, 3), (0.5, 2), dtypes=COMPLEX, tolerance=16),
    *(
        Case(
            p.pow_p,
            power_of_integers,
            (values(*[x] * 6), fixed(np.array([0, 1, 2, -1, 3, -2], np.int32))),
            per_element=True,
            composed=False,
            name=f"integer exponents, base {x}",
        )
        for x in (0.0, -1.5, 2.0)
    ),
    *(
        case
        for exponent in (0, 1, 2, 3, -1, -2, 7)
        for case in unary(p.integer_pow_p, raised(exponent), 0.5, 2, ALL, NUMBERS)
    ),
    *unary(p.square_p, lax.square, -2, 2, ALL, NUMBERS),
    *unary(p.sqrt_p, lax.sqrt, 0.1, 3, ALL, NUMBERS),
    *unary(p.rsqrt_p, lax.rsqrt, 0.1, 3, ALL, NUMBERS),
    *unary(p.cbrt_p, lax.cbrt, -3, 3, ALL),
    *unary(p.exp_p, lax.exp, -3, 3, (*ALL, 100, -100), NUMBERS),
    *unary(p.exp2_p, lax.exp2, -3, 3, (*ALL, 100, -100), NUMBERS),
    *unary(p.expm1_p, lax.expm1, -3, 3, (0.0, -0.0, 1e-6, INF, NAN), NUMBERS, tolerance=32),
    *unary(p.logistic_p, lax.logistic, -3, 3, ALL, NUMBERS),
    *unary(p.log_p, lax.log, 0.1, 3, ALL, NUMBERS),
    *unary(p.log1p_p, lax.log1p, -0.9, 3, (*ALL, 1e-6), NUMBERS),
    *(
        case
        for q in named_primitives("log2_p")
        for case in unary(q, lax.log2, 0.1, 3, ALL, NUMBERS)
    ),
    *(
        case
        for q in named_primitives("one_minus_square_p")
        for case in unary(q, q.bind, -2, 2, ALL, NUMBERS)
    ),
    *(
        Case(q, lambda x, *c: q.bind(x, *c), ((4,), (4,), (4,), (4,)))
        for q in named_primitives("polynomial_p")
    ),
]

TRIGONOMETRY = [
    *unary(p.sin_p, lax.sin, -3, 3, ALL, NUMBERS),
    *unary(p.cos_p, lax.cos, -3, 3, ALL, NUMBERS),
    *unary(p.tan_p, lax.tan, -1.4, 1.4, ALL, NUMBERS),
    *unary(p.asin_p, lax.asin, -0.9, 0.9, ALL, NUMBERS),
    *unary(p.acos_p, lax.acos, -0.9, 0.9, ALL, NUMBERS),
    *unary(p.atan_p, lax.atan, -3, 3, ALL, NUMBERS),
    *binary(p.atan2_p, lax.atan2, edges=PAIRS),
    *unary(p.sinh_p, lax.sinh, -2, 2, ALL, NUMBERS),
    *unary(p.cosh_p, lax.cosh, -2, 2, ALL, NUMBERS),
    *unary(p.tanh_p, lax.tanh, -2, 2, ALL, NUMBERS, tolerance=16),
    *unary(p.asinh_p, lax.asinh, -2, 2, ALL, NUMBERS),
    *unary(p.acosh_p, lax.acosh, 1.1, 3, (1.0, 30.0, INF, 0.5, NAN), NUMBERS),
    *unary(p.atanh_p, lax.atanh, -0.9, 0.9, ALL, NUMBERS),
]


def clamped(low: float, high: float) -> Callable:
    return lambda x: lax.clamp(np.asarray(low, x.dtype), x, np.asarray(high, x.dtype))


def select_two(which: Any) -> Callable:
    return lambda x, y: lax.select_n(which, x, y)


CHOICE = fixed(np.array([[0, 1, 2], [2, 0, 1]], np.int32))
BOOLEANS = np.array([[True, False, True], [False, False, True]])

KINKS = [
    *binary(p.max_p, lax.max, edges=PAIRS),
    *binary(p.min_p, lax.min, edges=PAIRS),
    Case(p.max_p, lax.max, (ties(4, 5), ties(4, 5)), name="ties"),
    Case(p.min_p, lax.min, (ties(4, 5), ties(4, 5)), name="ties"),
    Case(p.clamp_p, lax.clamp, ((4, 5), (4, 5), (4, 5))),
    Case(p.clamp_p, lax.clamp, (ties(4, 5), ties(4, 5), ties(4, 5)), name="ties"),
    Case(p.clamp_p, clamped(-1, 1), (values(*ALL, 0.5),), name="numbers"),
    Case(p.clamp_p, clamped(1, -1), (values(*ALL, 0.5),), name="bounds cross"),
    Case(p.clamp_p, lax.clamp, ((), (), ()), name="scalars"),
    Case(p.clamp_p, lax.clamp, ((0, 3), (0, 3), (0, 3)), name="empty"),
    *unary(p.abs_p, lax.abs, -2, 2, ALL, NUMBERS),
    Case(p.abs_p, lax.abs, (values(0, 1, -1, 1j, 3 + 4j),), COMPLEX, name="zero", composed=False),
    Case(p.select_n_p, lax.select_n, (CHOICE, (2, 3), (2, 3), (2, 3)), NUMBERS),
    Case(p.select_n_p, lax.select_n, (fixed(BOOLEANS), (2, 3), (2, 3)), NUMBERS, name="booleans"),
    Case(p.select_n_p, select_two(BOOLEANS), ((2, 3), (2, 3)), name="constant predicate"),
    Case(p.select_n_p, lax.select_n, (fixed(True), (2, 3), (2, 3)), name="scalar predicate"),
    Case(p.select_n_p, lax.select_n, (fixed(np.int32(2)), (3,), (3,), (3,)), name="scalar index"),
    Case(p.select_n_p, lax.select_n, (fixed(BOOLEANS[:0]), (0, 3), (0, 3)), name="empty"),
    Case(
        p.select_n_p,
        lambda which, x: lax.select_n(which, x, x),
        (fixed(BOOLEANS), (2, 3)),
        name="the same twice",
    ),
    Case(
        p.select_n_p,
        lambda x: lax.select(lax.gt(x, lax.full_like(x, 0)), x, lax.full_like(x, 0)),
        (ties(4, 5),),
        name="rectifier",
    ),
]


def converted(*dtypes: Any) -> Callable:
    def fun(x: Any) -> Any:
        for dtype in dtypes:
            x = lax.convert_element_type(x, dtype)
        return x

    return fun


TYPES = [
    *(
        Case(
            p.convert_element_type_p,
            converted(to),
            ((2, 3),),
            tuple(dtype for dtype in FLOATS if dtype != to),
            name=f"to {to}",
        )
        for to in ("float16", "bfloat16", "float32")
    ),
    Case(p.convert_element_type_p, converted("complex64"), ((2, 3),), name="real to complex"),
    Case(p.convert_element_type_p, converted("float16", "float32"), ((),), name="there and back"),
    Case(p.convert_element_type_p, converted("float16"), ((0, 3),), name="empty"),
    Case(
        p.convert_element_type_p,
        lambda x: x * converted("int32", x.dtype)(x),
        ((2, 3),),
        name="through integers",
    ),
    Case(p.reduce_precision_p, lambda x: lax.reduce_precision(x, 5, 4), ((2, 3),)),
    Case(p.real_p, lax.real, ((2, 3),), COMPLEX),
    Case(p.imag_p, lax.imag, ((2, 3),), COMPLEX),
    Case(p.complex_p, lax.complex, (real(normal(2, 3)), real(normal(2, 3))), COMPLEX),
    Case(p.complex_p, lambda x, y: lax.complex(x, y) ** 2, ((2, 3), (2, 3)), ("float32",)),
    Case(p.conj_p, lax.conj, ((2, 3),), COMPLEX),
    Case(p.conj_p, lax.conj, (real(normal(2, 3)),), COMPLEX, name="of a real"),
    Case(p.copy_p, lambda x: p.copy_p.bind(x), ((2, 3),), NUMBERS),
    Case(p.name_p, lambda x: p.name_p.bind(x, name="x"), ((2, 3),), NUMBERS),
    Case(lax.optimization_barrier_p, lax.optimization_barrier, ((2, 3),), NUMBERS),
    Case(
        lax.optimization_barrier_p,
        lambda x, i, y: lax.optimization_barrier((x, i, y))[0] * y,
        ((3,), fixed(np.arange(3)), (3,)),
        name="part used",
    ),
]

CASES = (*ARITHMETIC, *POWERS, *TRIGONOMETRY, *KINKS, *TYPES)


WITHOUT = (
    p.nextafter_p,  # tested below: JAX 0.10 has no derivative of it
    *(to_edtype_p, from_edtype_p),  # tests/autodiff/test_extended_dtypes.py
)

TestRules = rule_tests(elementwise.RULES, CASES, composed=("float32", "complex64"), without=WITHOUT)


def test_the_next_number_moves_with_the_number():
    assert fbp.grad(lax.nextafter, (0, 1))(2.0, 3.0) == (1, 0)


def test_the_cotangent_of_a_copy_is_a_copy():
    ct = jnp.ones(3)
    (x_ct,) = fbp.vjp(lambda x: jnp.array(x, copy=True), jnp.zeros(3))[1](ct)
    assert x_ct.unsafe_buffer_pointer() != ct.unsafe_buffer_pointer()


@pytest.mark.slow
@by_primitive(CASES)
def test_cotangents_are_those_of_jax_without_jit(group, dtype):
    check_eagerly(group, dtype)
