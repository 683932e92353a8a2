from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

from fbp.verify.complex_step import ANALYTIC, CALLS, CONTINUED, CONTROL, OF_REAL_PART, complex_step
from tests.support.jaxprs import primitives

RNG = np.random.default_rng(0)
NORMAL, OTHER = RNG.normal(size=(2, 3, 4))
UNIT = RNG.uniform(0.1, 0.9, (3, 4))
SQUARE = RNG.normal(size=(3, 3)) + 3 * np.eye(3)
INDICES = np.array([2, 0, 2])


@dataclass(frozen=True)
class Case:
    """A use of a primitive."""

    primitive: Primitive
    fun: Callable
    args: tuple[np.ndarray, ...]


def unary(*names, of=NORMAL):
    return [Case(getattr(p, f"{name}_p"), getattr(lax, name), (of,)) for name in names]


def binary(*names, of=(NORMAL, OTHER)):
    return [Case(getattr(p, f"{name}_p"), getattr(lax, name), of) for name in names]


def reduced(fun, start):
    return lambda x: lax.reduce_window(x, start, fun, (2, 2), (1, 1), "VALID")


def times(fun):
    return lambda x: x * fun(x)


def compared(fun):
    return lambda x, y: lax.select(fun(x, y), x * y, x)


def custom_jvp(x):
    @jax.custom_jvp
    def fun(x):
        return jnp.sin(x)

    fun.defjvp(lambda xs, ts: (jnp.sin(xs[0]), 7 * ts[0]))
    return fun(x)


def custom_vjp(x):
    @jax.custom_vjp
    def fun(x):
        return jnp.sin(x)

    fun.defvjp(lambda x: (jnp.sin(x), None), lambda _, ct: (7 * ct,))
    return fun(x)


CASES = (
    *unary("neg", "exp", "exp2", "expm1", "sin", "cos", "tan", "sinh", "tanh", "asinh", "atan"),
    *unary("logistic", "square", "abs"),
    *unary("log", "log1p", "sqrt", "rsqrt", "asin", "acos", "atanh", of=UNIT),
    *unary("acosh", of=1 + UNIT),
    *unary("tanh", "logistic", "asinh", of=30 * NORMAL),
    *binary("add", "sub", "mul", "div", "max", "min"),
    *binary("pow", of=(UNIT, NORMAL)),
    Case(p.pow_p, lambda x: lax.pow(x, jnp.full_like(x, 3.0)), (NORMAL,)),
    Case(p.pow_p, lambda x: lax.pow(x, 3), (NORMAL,)),
    Case(p.integer_pow_p, lambda x: lax.integer_pow(x, -3), (NORMAL,)),
    Case(p.add_jaxvals_p, lambda x, y: p.add_jaxvals_p.bind(x, y), (NORMAL, OTHER)),
    Case(p.clamp_p, lambda x: lax.clamp(-0.5, x, 0.5), (NORMAL,)),
    Case(p.clamp_p, lambda x, y: lax.clamp(y - 1, x, y), (NORMAL, OTHER)),
    Case(p.select_n_p, lambda x, y: lax.select(np.asarray(NORMAL > 0), x, y), (NORMAL, OTHER)),
    Case(p.sort_p, lambda x, y: lax.sort((x, y), num_keys=1), (NORMAL, OTHER)),
    *(
        Case(getattr(p, f"reduce_{name}_p"), getattr(jnp, name), (NORMAL,))
        for name in ("sum", "prod", "max", "min")
    ),
    *unary("cumsum", "cumprod", "cummax", "cummin"),
    Case(p.dot_general_p, lambda x, y: x @ y.T, (NORMAL, OTHER)),
    Case(
        p.dot_general_p,
        lambda x: lax.dot(x, jnp.ones((4, 2)), preferred_element_type=jnp.float64),
        (NORMAL,),
    ),
    Case(p.reduce_window_sum_p, reduced(lax.add, 0.0), (NORMAL,)),
    Case(p.reduce_window_max_p, reduced(lax.max, -np.inf), (NORMAL,)),
    Case(p.reduce_window_min_p, reduced(lax.min, np.inf), (NORMAL,)),
    Case(p.lu_p, lambda x: lax.linalg.lu(x)[0], (SQUARE,)),
    Case(
        p.triangular_solve_p,
        lambda x, y: lax.linalg.triangular_solve(x, y, left_side=True, transpose_a=True),
        (SQUARE, NORMAL),
    ),
    Case(p.linear_solve_p, jnp.linalg.solve, (SQUARE, NORMAL)),
    Case(p.broadcast_in_dim_p, lambda x: lax.broadcast(x, (2,)), (NORMAL,)),
    Case(p.reshape_p, lambda x: lax.reshape(x, (12,)), (NORMAL,)),
    Case(p.squeeze_p, lambda x: lax.squeeze(x[:1], (0,)), (NORMAL,)),
    Case(p.transpose_p, lambda x: x.T, (NORMAL,)),
    Case(p.rev_p, lambda x: lax.rev(x, (1,)), (NORMAL,)),
    Case(p.copy_p, jnp.copy, (NORMAL,)),
    Case(p.name_p, lambda x: checkpoint_name(x, "x"), (NORMAL,)),
    Case(p.concatenate_p, lambda x, y: lax.concatenate([x, y], 0), (NORMAL, OTHER)),
    Case(p.concatenate_p, lambda x: lax.concatenate([x, jnp.ones((1, 4))], 0), (NORMAL,)),
    Case(p.pad_p, lambda x, y: lax.pad(x, y[0, 0], [(1, 0, 1), (0, -1, 0)]), (NORMAL, OTHER)),
    Case(p.slice_p, lambda x: lax.slice(x, (0, 1), (3, 4), (2, 1)), (NORMAL,)),
    Case(p.dynamic_slice_p, lambda x: lax.dynamic_slice(x, (1, 1), (2, 2)), (NORMAL,)),
    Case(
        p.dynamic_update_slice_p,
        lambda x, y: lax.dynamic_update_slice(x, y[:2], (1, 0)),
        (NORMAL, OTHER),
    ),
    Case(p.gather_p, lambda x: x[INDICES], (NORMAL,)),
    Case(p.scatter_p, lambda x, y: x.at[INDICES[:2]].set(y[:2]), (NORMAL, OTHER)),
    Case(p.scatter_add_p, lambda x, y: x.at[INDICES].add(y), (NORMAL, OTHER)),
    Case(
        p.conv_general_dilated_p,
        lambda x, y: lax.conv(x[None, None], y[None, None, :2, :2], (1, 1), "SAME"),
        (NORMAL, OTHER),
    ),
    *(
        Case(getattr(p, f"{name}_p"), compared(getattr(lax, name)), (NORMAL, OTHER))
        for name in ("eq", "ne", "lt", "le", "gt", "ge")
    ),
    *(
        Case(getattr(p, f"{name}_p"), times(getattr(lax, name)), (NORMAL,))
        for name in ("sign", "floor", "ceil", "round")
    ),
    Case(p.is_finite_p, lambda x: jnp.where(lax.is_finite(x), x * x, x), (NORMAL,)),
    Case(p.argmax_p, lambda x: x[jnp.argmax(x[:, 0])], (NORMAL,)),
    Case(p.argmin_p, lambda x: x[jnp.argmin(x[:, 0])], (NORMAL,)),
    Case(p.jit_p, jax.jit(jnp.sin), (NORMAL,)),
    Case(p.remat_p, jax.checkpoint(jnp.sin), (NORMAL,)),
    Case(p.scan_p, lambda x: lax.scan(lambda c, r: (c * r, c + r), x[0], x), (NORMAL,)),
    Case(p.scan_p, lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c * x), x), (NORMAL,)),
    Case(
        p.while_p,
        lambda x: lax.while_loop(
            lambda s: s[0] < 10, lambda s: (2 * s[0] + 1, s[1] * jnp.cos(s[1])), (x[0, 0] ** 2, x)
        ),
        (NORMAL,),
    ),
    *(
        Case(p.cond_p, lambda x, s=s: lax.cond(s * x[0, 0] > 0, jnp.sin, jnp.cos, x), (NORMAL,))
        for s in (1, -1)
    ),
)


def total(fun):
    """The outputs, weighted, in one number."""

    def scalar(*args):
        outs = jax.tree.leaves(fun(*args))
        return sum(jnp.sum(jnp.cos(jnp.arange(1.0, y.size + 1)).reshape(y.shape) * y) for y in outs)

    return scalar


def directions(args, seed=1):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=np.shape(x)) for x in args)


def exact(fun, args, directions):
    doubles = [tuple(jnp.asarray(x, jnp.float64) for x in xs) for xs in (args, directions)]
    return float(jax.jvp(fun, *doubles)[1])


def compiled(case):
    """A case; without optimization XLA has no clamp of complex numbers."""
    marks = [pytest.mark.optimized] if case.primitive is p.clamp_p else []
    return pytest.param(case, id=case.primitive.name, marks=marks)


@pytest.mark.parametrize("case", [*map(compiled, CASES)])
def test_derivative_is_exact_for_each_listed_primitive(case, x64):
    assert case.primitive in CALLS or case.primitive.name in primitives(case.fun, *case.args)
    fun, along = total(case.fun), directions(case.args)
    found = complex_step(fun, case.args, along)
    assert found.refused == ""
    assert found.value == pytest.approx(exact(fun, case.args, along), rel=1e-12, abs=1e-13)


def test_each_listed_primitive_has_a_case():
    listed = ANALYTIC | OF_REAL_PART | CONTINUED.keys() | CONTROL.keys()
    tested = {case.primitive for case in CASES}
    assert listed - tested == {p.stop_gradient_p}
    assert tested <= listed | CALLS


@pytest.mark.parametrize("fun", [custom_jvp, custom_vjp])
def test_user_rules_play_no_part(fun, x64):
    found = complex_step(total(fun), (NORMAL,), (OTHER,))
    assert found.value == pytest.approx(exact(total(jnp.sin), (NORMAL,), (OTHER,)), rel=1e-12)


def test_stop_gradient_stops_no_values(x64):
    found = complex_step(lambda x: lax.stop_gradient(x) * x, (3.0,), (1.0,))
    assert found.value == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("name", "fun"),
    [
        ("erf", lax.erf),
        ("erfc", lax.erfc),
        ("lgamma", lax.lgamma),
        ("digamma", lax.digamma),
        ("cbrt", lax.cbrt),
        ("cosh", lax.cosh),
        ("erf_inv", lambda x: lax.erf_inv(jnp.tanh(x))),
        ("atan2", lambda x: lax.atan2(x, x + 1)),
        ("rem", lambda x: lax.rem(x, 2.0)),
        ("cumlogsumexp", lax.cumlogsumexp),
        ("fft", lambda x: jnp.fft.rfft(x).real),
        ("cholesky", lambda x: jnp.linalg.cholesky(x @ x.T)),
        ("qr", lambda x: jnp.linalg.qr(x)[0]),
        ("eigh", lambda x: jnp.linalg.eigvalsh(x @ x.T)),
        ("svd", lambda x: jnp.linalg.svd(x, compute_uv=False)),
        ("reduce_precision", lambda x: lax.reduce_precision(x, 8, 7)),
        ("convert_element_type", lambda x: x.astype(jnp.float32)),
        ("convert_element_type", lambda x: x.astype(jnp.bfloat16).astype(jnp.float64)),
        ("convert_element_type", lambda x: x.astype(jnp.int32).astype(jnp.float64)),
        (
            "bitcast_convert_type",
            lambda x: lax.bitcast_convert_type(x, jnp.int64).astype(jnp.float64),
        ),
        ("scatter-mul", lambda x: x.at[INDICES].mul(2.0)),
        ("top_k", lambda x: lax.top_k(x, 2)[0]),
        ("igamma", lambda x: lax.igamma(x * x, x * x)),
        ("erf", lambda x: lax.scan(lambda c, r: (c, lax.erf(r)), 0.0, x)),
        ("erf", lambda x: lax.cond(True, lax.erf, jnp.sin, x)),
        ("erf", lambda x: lax.while_loop(lambda c: c[0, 0] > 9, lax.erf, x)),
        ("erf", jax.jit(jax.vmap(jax.checkpoint(lax.erf)))),
    ],
)
def test_what_is_not_listed_is_refused_by_name(name, fun, x64):
    found = complex_step(lambda x: jnp.sum(sum(jax.tree.leaves(fun(x)))), (NORMAL,), (OTHER,))
    assert found.value is None
    assert found.refused.startswith(f"{name} ")
    assert found.refused.endswith("is not known to be analytic")


def test_refusal_names_the_line():
    found = complex_step(lambda x: lax.erf(x + 1), (1.0,), (1.0,))
    assert "erf at " in found.refused
    assert "test_complex_step.py:" in found.refused


def test_what_the_arguments_do_not_reach_may_be_anything(x64):
    noise = jax.random.normal(jax.random.key(0), (4,), jnp.float64)
    found = complex_step(lambda x: jnp.sum(x * lax.erf(noise)), (NORMAL[0],), (OTHER[0],))
    assert found.value == pytest.approx(float(np.sum(OTHER[0] * lax.erf(noise))))


@pytest.mark.parametrize(
    "fun",
    [
        jnp.log,
        jnp.sqrt,
        jnp.arcsin,
        lambda x: x + jnp.nan,
        lambda x: 1 / (x + 2),
        lambda x: 1 + jnp.sqrt(x + 2),
    ],
)
def test_outside_of_the_domain_there_is_no_derivative(fun):
    found = complex_step(fun, (-2.0,), (1.0,))
    assert found.value is None
    assert "that of its continuation" in found.refused


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_at_a_tie_it_is_the_derivative_in_the_direction(direction):
    assert complex_step(jax.nn.relu, (0.0,), (direction,)).value == max(direction, 0)


def test_program_in_single_precision_is_run_in_double_without_x64():
    x = NORMAL.astype(np.float32)
    found = complex_step(lambda x: jnp.sum(jax.nn.log_softmax(jnp.tanh(x)) ** 2), (x,), (OTHER,))
    with jax.enable_x64(True):
        true = exact(lambda x: jnp.sum(jax.nn.log_softmax(jnp.tanh(x)) ** 2), (x,), (OTHER,))
    assert found.value == pytest.approx(true, rel=1e-13)


def test_pytrees_and_integers_are_arguments(x64):
    params = {"w": NORMAL, "n": 3}
    found = complex_step(lambda q, k: jnp.sum(q["w"] ** 2) * q["n"] * k, (params, 2), (params, 0))
    assert found.value == pytest.approx(12 * np.sum(NORMAL**2))
    taken = complex_step(lambda x, i: jnp.sum(x[i]), (NORMAL, INDICES), (OTHER, INDICES))
    assert taken.value == pytest.approx(np.sum(OTHER[INDICES]))


@pytest.mark.parametrize(
    ("fun", "args", "along"),
    [
        (lambda x: x, (NORMAL,), (NORMAL,)),
        (lambda x: (x, x), (1.0,), (1.0,)),
        (lambda x: x > 0, (1.0,), (1.0,)),
        (lambda x: x, (1.0,), (NORMAL,)),
        (lambda x: x, (1.0,), (1.0, 1.0)),
    ],
)
def test_what_has_no_derivative_in_one_number_raises(fun, args, along):
    with pytest.raises(ValueError, match=r"must return one real number|differ"):
        complex_step(fun, args, along)


@settings(max_examples=20)
@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(1e-3, 1e3))
def test_it_is_linear_in_the_direction(x, y, factor):
    def fun(x, y):
        return jnp.exp(jnp.sin(x * y)) * jnp.tanh(x) / (2 + jnp.cos(y))

    at = (x, y)
    both = complex_step(fun, at, (factor, 1.0)).value
    one, other = complex_step(fun, at, (1.0, 0.0)).value, complex_step(fun, at, (0.0, 1.0)).value
    assert both == pytest.approx(factor * one + other, rel=1e-10, abs=1e-12)
