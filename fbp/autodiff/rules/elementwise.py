"""Elementwise functions: the table of derivatives.

Unary rules name the operand x and the result y, binary ones the operands x, y and the result z.
Conventions at kinks are JAX's: a maximum splits its cotangent evenly between equal operands,
|x| has the derivative 1 at 0, and at a bound clamp has none.
"""

from dataclasses import replace
from math import log as ln
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p
from jax.lax import (
    abs,
    conj,
    cos,
    cosh,
    exp,
    floor,
    imag,
    integer_pow,
    log,
    neg,
    real,
    rsqrt,
    select,
    sign,
    sin,
    sinh,
    square,
)
from jax.lax import bitwise_and as both

from fbp.autodiff.activity import differentiable_outputs
from fbp.autodiff.avals import full, is_complex, struct, tangent_dtype
from fbp.autodiff.compat import from_edtype_p, named_primitives, to_edtype_p
from fbp.autodiff.rule import (
    Cotangents,
    Rules,
    derivative,
    transpose,
    unbroadcast,
    vjp,
    vjp_jointly,
)


def lifted(operation: Any) -> Any:
    """Lift a binary operation of lax to Python numbers, in the dtype of the other operand."""

    def apply(a: Any, b: Any) -> Any:
        if isinstance(a, int | float):
            return operation(np.asarray(a, b.dtype), b)
        if isinstance(b, int | float):
            return operation(a, np.asarray(b, a.dtype))
        return operation(a, b)

    return apply


add, sub, mul, div, complex = map(lifted, (lax.add, lax.sub, lax.mul, lax.div, lax.complex))
eq, ge, gt, lt, ne = map(lifted, (lax.eq, lax.ge, lax.gt, lax.lt, lax.ne))


def filled(x: Any, value: float) -> Any:
    """Return an array like x, filled with one value."""
    return full(struct(x), value)


def broadcast_like(x: Any, y: Any) -> Any:
    """Broadcast x, which may be a number, to the shape of y."""
    x = np.asarray(x, y.dtype) if isinstance(x, int | float) else x
    return x if x.shape == y.shape else lax.broadcast_in_dim(x, y.shape, range(x.ndim))


def where_lifted(condition: Any, a: Any, b: Any) -> Any:
    """Select a where the condition holds, else b; one of them may be a number."""
    a = filled(b, a) if isinstance(a, int | float) else a
    b = filled(a, b) if isinstance(b, int | float) else b
    return select(condition, a, b)


def balanced_ties(ct: Any, z: Any, x: Any, y: Any) -> Any:
    """Pull back z = max(x, y) or min(x, y): ct where z is x alone, half of it where it is both."""
    return select(eq(x, z), select(eq(y, z), mul(ct, 0.5), ct), filled(ct, 0))


def share(ct: Any, other: Any, x: Any, out_dtype: Any = None) -> Any:
    """Pull back a product to x: ct times the other operand, in the dtype of x if `out_dtype` is
    set."""
    return mul(ct, other) if out_dtype is None else lax.mul(ct, other, out_dtype=x.dtype)


def by_denominator(ct: Any, z: Any, x: Any, y: Any) -> Any:
    """Pull back z = x / y: ct_y = -ct z / y. If y is broadcast, sum first and do not read z:
    -sum(ct x) / y / y. Never divide by y^2, which is 0 or infinite before 1 / y is."""
    if y.shape == ct.shape:
        return neg(div(mul(ct, z), y))
    return neg(div(div(unbroadcast(mul(ct, x), y), y), y))


def power_of_base(x: Any, y: Any, z: Any) -> Any:
    """Return d x^y / dx = y x^(y-1), and 0 where y = 0 whatever x is.

    Where y = 0 and x^-1 is finite the formula stands: it has a derivative in y.
    """
    if np.ndim(y) == 0 and not isinstance(y, jax.Array):  # a number that the program holds
        y = np.asarray(y, x.dtype)
        return mul(y, lax.pow(x, y - np.ones((), x.dtype))) if y else 0
    y = lax.convert_element_type(y, z.dtype)
    has_slope = broadcast_like(lax.bitwise_or(ne(y, 0), gt(abs(x), 0)), z)
    exponent = select(has_slope, broadcast_like(sub(y, 1), z), filled(z, 1))
    return where_lifted(has_slope, mul(y, lax.pow(x, exponent)), 0)


def slope_of_integer_power(x: Any, z: Any, *, y: int) -> Any:
    """Return d x^y / dx = y x^(y-1)."""
    if y in (0, 1):
        return y
    return mul(y, x if y == 2 else integer_pow(x, y - 1))


def power_of_exponent(x: Any, y: Any, z: Any) -> Any:
    """Return d x^y / dy = log(x) x^y, and 0 where x = 0."""
    x = broadcast_like(x, z)
    return mul(log(where_lifted(eq(x, 0), 1, x)), z)


def truncated_quotient(x: Any, y: Any) -> Any:
    """Return x / y rounded towards zero, as rem does."""
    quotient = div(x, y)
    return mul(sign(quotient), floor(abs(quotient)))


def sign_ct(ct: Any, y: Any, x: Any) -> Any:
    """Pull back y = |x|: ct or -ct, for complex x ct conj(x) / |x|."""
    if not is_complex(x.dtype):
        return select(ge(x, 0), ct, neg(ct))
    modulus = where_lifted(eq(y, 0), 1, y)
    return mul(complex(div(ct, modulus), 0), conj(x))


def to_dtype(ct: Any, x: Any) -> Any:
    """Pull back a conversion: convert to the dtype of x, to the real part for a real x."""
    if is_complex(ct.dtype) and not is_complex(x.dtype):
        ct = real(ct)
    return lax.convert_element_type(ct, x.dtype)


def as_tangent(ct: Any, x: Any) -> Any:
    """Convert to the dtype of the cotangents of x: an extended dtype may have its own."""
    return lax.convert_element_type(ct, tangent_dtype(x.dtype))


def conjugate(ct: Any, x: Any) -> Any:
    """Pull back y = conj(x), where x may be real."""
    return conj(ct) if is_complex(x.dtype) else real(ct)


def select_n_cts(cts: Cotangents, outs: Any, ins: Any, needs_ct: Any) -> Cotangents:
    """Pull back select_n: each case gets the cotangent where it was selected."""
    (ct,), which, zero = cts, jnp.asarray(ins[0]), filled(cts[0], 0)

    def chosen(i: int) -> Any:
        if which.dtype == np.bool_:
            return select(which, ct, zero) if i else select(which, zero, ct)
        return select(eq(which, i), ct, zero)

    return [chosen(i - 1) if want else None for i, want in enumerate(needs_ct)]


def powers(cts: Cotangents, outs: Any, ins: Any, needs_ct: Any) -> Cotangents:
    """Pull back y = c_0 + c_1 x + ... + c_n x^n, by Horner's rule."""
    (ct,), (x, *coefficients) = cts, ins
    degree = len(coefficients) - 1
    slope = filled(ct, 0)
    for k in range(degree, 0, -1):
        slope = add(mul(slope, x), mul(coefficients[k], float(k)))
    in_cts = [
        mul(ct, slope),
        *(unbroadcast(mul(ct, integer_pow(x, k)), c) for k, c in enumerate(coefficients)),
    ]
    return [m if want else None for m, want in zip(in_cts, needs_ct, strict=True)]


def barrier_cts(cts: Cotangents, outs: Any, ins: Any, needs_ct: Any) -> Cotangents:
    """Pull back a barrier: a barrier for the cotangents that are not zero."""
    indices = [i for i, ct in enumerate(cts) if ct is not None]
    in_cts = dict(zip(indices, lax.optimization_barrier([cts[i] for i in indices]), strict=True))
    return [in_cts.get(i) for i in range(len(ins))]


ARITHMETIC = Rules(
    transpose(p.neg_p, lambda ct, x: neg(ct)),
    transpose(p.add_p, lambda ct, x, y: ct),
    transpose(p.add_jaxvals_p, lambda ct, x, y: ct),
    transpose(p.sub_p, lambda ct, x, y: ct, lambda ct, x, y: neg(unbroadcast(ct, y))),
    transpose(
        p.mul_p,
        lambda ct, x, y, **how: share(ct, y, x, **how),
        lambda ct, x, y, **how: share(ct, x, y, **how),
    ),
    vjp(
        p.div_p,
        lambda ct, z, x, y: div(ct, y),
        by_denominator,
    ),
    vjp(
        p.rem_p,
        lambda ct, z, x, y: ct,
        lambda ct, z, x, y: neg(mul(ct, truncated_quotient(x, y))),
    ),
)

POWERS = Rules(
    derivative(p.pow_p, power_of_base, power_of_exponent),
    derivative(p.integer_pow_p, slope_of_integer_power),
    derivative(p.square_p, lambda x, y: mul(2, x)),
    derivative(p.sqrt_p, lambda x, y: div(0.5, y)),
    derivative(p.rsqrt_p, lambda x, y: mul(-0.5, div(y, x))),
    derivative(p.cbrt_p, lambda x, y: mul(1 / 3, integer_pow(y, -2))),
    derivative(p.exp_p, lambda x, y: y),
    derivative(p.exp2_p, lambda x, y: mul(ln(2), y)),
    derivative(p.expm1_p, lambda x, y: exp(x)),
    derivative(p.logistic_p, lambda x, y: mul(y, sub(1, y))),
    vjp(p.log_p, lambda ct, y, x: div(ct, x)),
    vjp(p.log1p_p, lambda ct, y, x: div(ct, add(x, 1))),
    *(vjp(q, lambda ct, y, x: div(ct, mul(x, ln(2)))) for q in named_primitives("log2_p")),
    *(derivative(q, lambda x, y: mul(-2, x)) for q in named_primitives("one_minus_square_p")),
    *(vjp_jointly(q, powers) for q in named_primitives("polynomial_p")),
)

TRIGONOMETRY = Rules(
    derivative(p.sin_p, lambda x, y: cos(x)),
    derivative(p.cos_p, lambda x, y: neg(sin(x))),
    derivative(p.tan_p, lambda x, y: add(1, square(y))),
    derivative(p.asin_p, lambda x, y: rsqrt(mul(sub(1, x), add(1, x)))),
    derivative(p.acos_p, lambda x, y: neg(rsqrt(mul(sub(1, x), add(1, x))))),
    vjp(p.atan_p, lambda ct, y, x: div(ct, add(1, square(x)))),
    derivative(
        p.atan2_p,
        lambda x, y, z: div(y, add(square(x), square(y))),
        lambda x, y, z: div(neg(x), add(square(x), square(y))),
    ),
    derivative(p.sinh_p, lambda x, y: cosh(x)),
    derivative(p.cosh_p, lambda x, y: sinh(x)),
    derivative(p.tanh_p, lambda x, y: mul(sub(1, y), add(1, y))),
    derivative(p.asinh_p, lambda x, y: rsqrt(add(square(x), 1))),
    derivative(p.acosh_p, lambda x, y: mul(rsqrt(sub(x, 1)), rsqrt(add(x, 1)))),
    vjp(p.atanh_p, lambda ct, y, x: div(ct, mul(sub(1, x), add(1, x)))),
)

KINKS = Rules(
    vjp(p.max_p, balanced_ties, lambda ct, z, x, y: balanced_ties(ct, z, y, x)),
    vjp(p.min_p, balanced_ties, lambda ct, z, x, y: balanced_ties(ct, z, y, x)),
    vjp(
        p.clamp_p,
        lambda ct, y, low, x, high: where_lifted(both(gt(low, x), lt(low, high)), ct, 0),
        lambda ct, y, low, x, high: where_lifted(both(gt(x, low), lt(x, high)), ct, 0),
        lambda ct, y, low, x, high: where_lifted(lt(high, x), ct, 0),
    ),
    vjp(p.abs_p, sign_ct),
    vjp_jointly(p.select_n_p, select_n_cts),
    transpose(p.nextafter_p, lambda ct, x, towards: ct, None),
)

TYPES = Rules(
    replace(transpose(p.convert_element_type_p, to_dtype), activity=differentiable_outputs),
    transpose(to_edtype_p, as_tangent),
    transpose(from_edtype_p, as_tangent),
    transpose(
        p.reduce_precision_p,
        lambda ct, x, *, exponent_bits, mantissa_bits: lax.reduce_precision(
            ct, exponent_bits, mantissa_bits
        ),
    ),
    transpose(p.real_p, lambda ct, x: complex(ct, 0)),
    transpose(p.imag_p, lambda ct, x: complex(0, neg(ct))),
    transpose(p.complex_p, lambda ct, x, y: real(ct), lambda ct, x, y: neg(imag(ct))),
    transpose(p.conj_p, conjugate),
    transpose(p.copy_p, lambda ct, x: p.copy_p.bind(ct)),  # so that either may be donated
    transpose(p.name_p, lambda ct, x: ct),
    vjp_jointly(lax.optimization_barrier_p, barrier_cts),
)

RULES = Rules(
    Rules(ARITHMETIC, POWERS, TRIGONOMETRY).tag("elementwise"),
    KINKS.tag("elementwise", "recomputable"),
    TYPES,
).tag(
    "forward_mode",
    differs_from_jax="pow acosh",  # NaN at 0^0, the other branch of acosh
    elementwise="convert_element_type",
    same_finiteness="neg abs copy reduce_precision",
    moves="convert_element_type copy name reduce_precision",
    by_precision="nextafter",
    permutes="convert_element_type copy",
    selects="select_n max min clamp",
    pole="log log1p rsqrt atanh tan",
    analytic="""
        neg add add_any sub mul div square integer_pow sqrt rsqrt exp exp2 expm1 log log1p
        logistic sin cos tan asin acos atan sinh tanh asinh acosh atanh max min clamp select_n
        copy name
    """,
    transcendental="""
        pow exp exp2 expm1 log log1p logistic sin cos tan asin acos atan sinh cosh tanh asinh acosh
        atanh cbrt
    """,
    recomputable="""
        neg add add_any sub mul div square integer_pow sqrt rsqrt exp expm1 log log1p logistic
        sin cos tanh convert_element_type to_edtype from_edtype copy name
    """,
)
