"""Python's control flow on values: functions that are evaluated while they are staged."""

import gc
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.core import Tracer

import fbp
from tests.support.agreement import assert_same

X = jnp.array([1.0, -2.0, 3.0])


@jax.custom_vjp
def twice(x):
    return 2 * x if x > 0 else 3 * x


twice.defvjp(
    lambda x: (twice(x), x) if x > 0 else (twice(x), 5 * x),
    lambda residual, ct: (ct * residual if residual > 1 else 10 * ct * residual,),
)


@jax.custom_jvp
def wave(x):
    return jnp.sin(x) if x > 0 else 3 * x


@wave.defjvp
def wave_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return (wave(x), 2 * t * jnp.cos(x)) if x > 0 else (wave(x), 7 * t)


def composed(x):
    y = 2 * x
    return wave(y) * twice(x) * wave(x * y)


def halved(x):
    y = jnp.sin(x)
    while y > 0.1:
        y = 0.5 * y
    return x * y


def newton(a):
    x = a
    for _ in range(30):
        if abs(x * x - a) < 1e-6:
            break
        x = 0.5 * (x + a / x)
    return x


SCALAR = {
    "if": lambda x: jnp.sin(x) if x > 0 else x**2,
    "while": halved,
    "newton": newton,
    "truth of a float": lambda x: x * x if x else x,
    "item": lambda x: x * x.item(),
    "int": lambda x: [x, x * x, x**3][int(x)],
    "index": lambda x: [x, x * x, x**3][x.astype(int)],
    "range": lambda x: sum(x * i for i in range(int(x) + 3)),
    "max": lambda x: max(x, x * x, 3.0),
    "sorted": lambda x: sorted([x, -x, x * x])[0],
    "numpy on what is constant": lambda x: x * np.sin(lax.stop_gradient(x)) * float(np.any(x > 0)),
    "list of what is constant": lambda x: x * len([(x > 0).tolist()]),
    "loop with a count": lambda x: lax.fori_loop(0, x.astype(int), lambda _, c: c * x, x),
    "cond": lambda x: lax.cond(x > 1, jnp.sin, jnp.cos, x) * (2.0 if x > 0 else 1.0),
    "custom_jvp": wave,
    "custom_vjp": twice,
    "custom rules": composed,
    "jvp": lambda x: jax.jvp(lambda y: y * y if y > 0 else y, (x,), (x,))[1],
    "checkpoint": lambda x: jax.checkpoint(lambda y: jnp.sin(y) * x)(x) if x > 0 else x,
    "static argument": lambda x: jax.jit(lambda y, n: y * n, static_argnums=1)(x, int(x)),
    "unmapped": lambda x: jnp.sum(jax.vmap(lambda y: x * y if x > 0 else y)(X)),
}


@pytest.mark.parametrize("x", [0.5, 2.0])
@pytest.mark.parametrize("name", SCALAR)
def test_gradient_with_python_control_flow_is_jaxs(name, x):
    fun = SCALAR[name]
    want = jax.tree.map(jnp.asarray, jax.value_and_grad(fun)(x))
    assert_same(fbp.value_and_grad(fun)(x), want)
    value, pullback = fbp.vjp(fun, x)
    assert_same((value, *pullback(jnp.ones_like(value))), want)


@pytest.mark.parametrize("name", ["if", "while", "custom rules", "cond", "jvp"])
def test_second_derivatives_with_python_control_flow_are_jaxs(name):
    fun = SCALAR[name]
    want = jax.grad(jax.grad(fun))(2.0)
    assert_same(fbp.grad(fbp.grad(fun))(2.0), want)
    assert_same(fbp.grad(jax.grad(fun))(2.0), want)
    assert float(jax.grad(fbp.grad(fun))(2.0)) == pytest.approx(float(want), rel=1e-6)
    assert_same(fbp.hessian(fun)(2.0), want)
    (product,) = fbp.hvp(fun, (2.0,), (jnp.ones_like(2.0),))
    assert float(product) == pytest.approx(float(want), rel=1e-6)


def test_rule_of_a_function_of_the_outer_variable_sees_its_value():
    def mixed(grad):
        return grad(lambda y: grad(lambda x: composed(y) * x)(2.0))(0.5)

    assert_same(mixed(fbp.grad), mixed(jax.grad))


VECTOR = {
    "mask": lambda x: jnp.sum(x[x > 0] ** 2),
    "slice": lambda x: jnp.sum(x[: x[0].astype(int) + 1] ** 2),
    "argmax": lambda x: x[int(jnp.argmax(x))] ** 2,
    "nonzero": lambda x: jnp.sum(x[jnp.nonzero(x > 0)]),
    "entries": lambda x: sum(y * y for y in x if y > 0),
    "repeat": lambda x: jnp.sum(jnp.repeat(x, (x > 0).astype(int) + 1)),
    "update": lambda x: x.at[int(x[0])].set(3.0)[0] * x[2] if x[1] < 0 else x[0],
}


@pytest.mark.parametrize("name", VECTOR)
def test_shapes_that_depend_on_values_are_jaxs(name):
    assert_same(fbp.grad(VECTOR[name])(X), jax.grad(VECTOR[name])(X))


def test_jacobians_with_python_control_flow_are_jaxs():
    def fun(x):
        return jnp.cumsum(x * x) if x[0] > 0 else x

    assert_same(fbp.jacrev(fun)(X), jax.jacrev(fun)(X))
    assert_same(fbp.hessian(fun)(X), jax.hessian(fun)(X))


def test_float_complex_and_format_give_the_value():
    seen = []

    def fun(z):
        seen.append((complex(z), float(abs(z)), f"{z.real:.1f}", str(z.imag)))
        return z * z if z.real > 0 else z

    assert fbp.grad(fun, holomorphic=True)(1 + 2j) == 2 + 4j
    ((z, size, real, imaginary),) = seen
    assert z == 1 + 2j
    assert size == pytest.approx(5**0.5)
    assert real == "1.0"
    assert "(2.0)" in imaginary


def test_argnums_aux_and_integers():
    def fun(n, x, y):
        value = sum((x * y if x > i else y for i in range(n)), start=0.0)
        return value, {"twice": 2 * value, "name": "text", "number": x.item()}

    assert_same(
        fbp.value_and_grad(lambda *args: fun(*args)[0], argnums=(1, 2))(3, 2.0, 3.0),
        jax.value_and_grad(lambda *args: fun(*args)[0], argnums=(1, 2))(3, 2.0, 3.0),
    )
    (value, aux), _ = fbp.value_and_grad(fun, argnums=1, has_aux=True)(3, 2.0, 3.0)
    assert aux == {"twice": 2 * value, "name": "text", "number": 2.0}
    assert not isinstance(aux["twice"], Tracer)


# What runs, and how often


def test_users_python_runs_once_at_every_call(capsys):
    scale, calls = [2.0], []

    def fun(x):
        calls.append(None)
        print("value", float(x))
        return scale[0] * x if x > 0 else x

    gradient = fbp.grad(fun)
    assert gradient(1.0) == 2
    scale[0] = 5.0
    assert gradient(1.0) == 5
    assert gradient(-1.0) == 1
    assert len(calls) == 3
    assert capsys.readouterr().out == "value 1.0\nvalue 1.0\nvalue -1.0\n"


def test_a_random_branch_is_drawn_at_every_call():
    numbers = random.Random(0)

    def fun(x):
        return 2 * x if float(x) * numbers.random() > 0.5 else 3 * x

    assert {float(fbp.grad(fun)(1.0)) for _ in range(20)} == {2.0, 3.0}


def effects_of(transform, fun):
    seen = []
    result = transform(lambda x: fun(x, lambda *v: seen.append([float(y) for y in v])))(2.0)
    jax.block_until_ready(result)
    jax.effects_barrier()
    return seen


@pytest.mark.parametrize(
    "transform", [fbp.grad, lambda f: lambda x: fbp.vjp(f, x)[1](jnp.ones_like(x))]
)
def test_effects_happen_once_and_in_order(transform):
    def fun(x, see):
        jax.debug.callback(see, x, ordered=True)
        y = x * x
        if y > 1:
            y = 2 * y
        _, y, other = jax.jit(lambda v: (jax.debug.callback(see, v, ordered=True), 2 * v, v))(y)
        if other > 0:
            y = 2 * y
        jax.debug.callback(see, y, ordered=True)
        return y

    assert effects_of(transform, fun) == [[2.0], [8.0], [32.0]]


def test_a_mutable_array_outside_is_written_once():
    count = jax.new_ref(jnp.zeros(()))

    def fun(x):
        count[...] += 1
        if x > 0:
            x = 2 * x
        count[...] += 1
        return x * count[...]

    assert fbp.grad(fun)(1.0) == 4
    assert count[...] == 2


def test_a_mutable_array_of_its_own_and_a_side_effect_is_refused():
    count = jax.new_ref(jnp.zeros(()))

    def fun(x, acts):
        ref = jax.new_ref(x)
        ref[...] = ref[...] * x
        if acts:
            count[...] += 1
        return x * ref[...] if ref[...] > 0 else x

    x = jnp.asarray(2.0, jnp.float32)
    assert_same(fbp.grad(fun)(x, False), jax.grad(fun)(x, False))
    with pytest.raises(NotImplementedError, match=r"swap has a side effect, at .*test_eager"):
        fbp.grad(fun)(x, True)
    assert count[...] == 0


def test_an_unused_output_of_a_jit_has_no_share_in_the_gradient():
    def fun(x):
        y, log = jax.jit(lambda v: (2 * v, jnp.log(v - v)))(x)
        z, logs = lax.scan(lambda c, _: (c * x, jnp.log(c - c)), y, None, length=3)
        return z if z > log + jnp.sum(logs) else y

    assert_same(fbp.grad(fun)(3.0), jax.grad(fun)(3.0))


def test_a_scan_is_one_equation():
    def fun(x):
        y, _ = lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=100)
        return y if y > 0 else -y

    _, pullback = fbp.vjp(fun, 1.0)
    assert [r.origin for r in pullback.residuals] == ["stored by a rule"]
    assert str(jax.make_jaxpr(lambda: pullback(jnp.ones(())))()).count("scan[") == 1


def test_nothing_is_kept_after_the_call():
    def fun(x):
        y = wave(x[0]) * x
        return jnp.sum(wave(y[0]) * x) if y[0] > 0 else x[0]

    fbp.grad(fun)(jnp.ones(3))
    gc.collect()
    before = len(jax.live_arrays())
    gc.disable()
    try:
        for _ in range(5):
            fbp.grad(fun)(jnp.ones(3))
        assert len(jax.live_arrays()) == before
    finally:
        gc.enable()
    with jax.checking_leaks():
        fbp.grad(fun)(jnp.ones(3))


def test_a_tracer_that_escapes_is_an_error():
    kept = []

    def fun(x):
        kept.append(2 * x)
        return x if x > 0 else -x

    fbp.grad(fun)(1.0)
    with pytest.raises(jax.errors.UnexpectedTracerError):
        _ = kept[0] + 1


# The pullback


def test_recorded_pullback_is_a_pytree():
    def fun(x):
        return jnp.cumsum(x * jnp.sin(x)) if jnp.sum(x) > 0 else x

    y, pullback = fbp.vjp(fun, X)
    want = pullback(y)
    assert_same(jax.jit(lambda pull, ct: pull(ct))(pullback, y), want)
    assert_same(jax.tree.map(lambda x: x, pullback)(y), want)
    assert_same(jax.vmap(pullback)(jnp.eye(3)), jax.vmap(jax.vjp(fun, X)[1])(jnp.eye(3)))
    origins = {r.origin: r.source for r in pullback.residuals}
    assert origins.keys() <= {"input [0]", "sin", "cos"}
    assert all("test_recorded_pullback" in source for o, source in origins.items() if o[:2] != "in")
    assert "fun: " in repr(pullback)


def test_recorded_pullback_checks_its_cotangent():
    _, pullback = fbp.vjp(lambda x: x if x > 0 else -x, 1.0)
    with pytest.raises(ValueError, match="unexpected JAX type"):
        pullback(X)
    with pytest.raises(TypeError, match="called with 2 arguments"):
        pullback(1.0, 2.0)


# Where there are no values


@pytest.mark.parametrize(
    "around",
    [lambda f: lambda x: jax.jit(f)(x[0]), jax.vmap, lambda f: lambda x: lax.map(f, x)],
    ids=["jit", "vmap", "map"],
)
def test_values_are_hidden_as_jax_hides_them(around):
    errors = []
    for grad in (fbp.grad, jax.grad):
        with pytest.raises(jax.errors.TracerBoolConversionError) as error:
            around(grad(SCALAR["if"]))(X)
        errors.append(type(error.value))
    assert errors[0] is errors[1]


def test_numpy_would_lose_the_derivative_and_says_so():
    with pytest.raises(jax.errors.TracerArrayConversionError) as error:
        fbp.grad(lambda x: np.sin(x))(1.0)
    assert any("NumPy's functions have no derivatives" in note for note in error.value.__notes__)


def test_an_error_after_a_branch_keeps_its_traceback():
    def fun(x):
        if x > 0:
            raise KeyError("mine")
        return x

    with pytest.raises(KeyError, match="mine") as error:
        fbp.grad(fun)(1.0)
    assert error.traceback[-1].name == "fun"


def test_missing_rule_is_raised_where_it_is_needed():
    rules = fbp.Rules(*(rule for p, rule in fbp.RULES.items() if p is not lax.sin_p))

    def fun(x):
        y = jnp.sin(x)
        return x * x if y > 0 else y

    assert fbp.grad(fun, rules=rules)(1.0) == 2
    with pytest.raises(fbp.MissingRule, match=r"'sin', used at .*test_eager"):
        fbp.grad(fun, rules=rules)(-1.0)


# Functions with a rule are traced once


@pytest.mark.parametrize("kind", ["jvp", "vjp"])
def test_a_function_with_a_rule_is_traced_by_its_rule_alone(kind):
    traced = []

    def body(x):
        traced.append("function")
        return jnp.sin(x)

    def rule(x):
        traced.append("rule")
        return jnp.sin(x), jnp.cos(x)

    if kind == "jvp":
        fun = jax.custom_jvp(body)
        fun.defjvp(lambda p, t: (rule(*p)[0], t[0] * rule(*p)[1]))
    else:
        fun = jax.custom_vjp(body)
        fun.defvjp(rule, lambda slope, ct: (ct * slope,))
    program = jax.jit(fbp.grad(lambda x: fun(x) * x)).trace(1.0)
    assert traced == ["rule"] * (2 if kind == "jvp" else 1)
    assert_same(program.lower().compile()(1.0), jax.grad(lambda x: fun(x) * x)(1.0))
    traced.clear()
    jax.jit(fbp.grad(lambda x: fun(2.0) * x)).trace(1.0)
    assert traced == ["function"]


def test_value_of_an_unused_function_with_a_rule_is_the_rules():
    fun = jax.custom_jvp(jnp.sin)
    fun.defjvp(lambda p, t: (jnp.cos(p[0]), t[0]))

    def loss(x):
        return x * x, fun(x)

    def both(grad):
        return jax.jit(grad(loss, has_aux=True))(1.0)

    assert_same(both(fbp.grad), both(jax.grad))


def test_symbolic_zeros_reach_a_rule_that_is_traced_once():
    seen = []
    fun = jax.custom_jvp(lambda x, y: x * y)

    def rule(primals, tangents):
        (x, y), (s, t) = primals, tangents
        seen.append([isinstance(z, jax.custom_derivatives.SymbolicZero) for z in (s, t)])
        return x * y, s * y

    fun.defjvp(rule, symbolic_zeros=True)
    assert fbp.grad(fun)(2.0, 3.0) == 3
    assert seen == [[False, True]]


def closing_over(kind):
    def fun(x):
        c = (jnp.arange(3) + x.astype(int)).astype(x.dtype)
        if kind == "jvp":
            scaled = jax.custom_jvp(lambda y: y * c)
            scaled.defjvp(lambda p, t: (p[0] * c, 2 * t[0] * c))
        else:
            scaled = jax.custom_vjp(lambda y: y * c)
            scaled.defvjp(lambda y: (y * c, c), lambda c, ct: (2 * jnp.sum(ct * c),))
        return jnp.sum(scaled(x))

    return fun


@pytest.mark.parametrize("kind", ["jvp", "vjp"])
def test_a_rule_may_close_over_what_the_function_computed(kind):
    fun, x = closing_over(kind), jnp.asarray(2.0, jnp.float32)
    assert_same(fbp.grad(fun)(x), jax.grad(fun)(x))
    assert_same(jax.jit(fbp.grad(fun))(x), jax.grad(fun)(x))
    assert_same(fbp.vjp(fun, x)[1](jnp.ones(())), jax.vjp(fun, x)[1](jnp.ones(())))


def test_a_rule_that_closes_over_a_differentiated_value_is_an_error():
    def fun(x):
        c = 2 * x
        scaled = jax.custom_jvp(lambda y: y * c)
        scaled.defjvp(lambda p, t: (p[0] * c, t[0] * c))
        return scaled(x)

    for grad in (fbp.grad, jax.grad):
        with pytest.raises(jax.errors.UnexpectedTracerError):
            grad(fun)(2.0)


@pytest.mark.parametrize("x", [0.5, -0.5])
def test_a_linear_function_is_its_own_rule(x):
    double = jax.custom_jvp(lambda x: 2 * x)
    double.defjvp(lambda p, t: (double(*p), double(*t)))
    assert_same(fbp.grad(lambda x: double(x) * x)(x), jax.grad(lambda x: double(x) * x)(x))


def test_edits_do_not_change_values_that_python_has_seen():
    def fun(x, see=lambda _: None):
        with jax.named_scope("inner"):
            y = jnp.sin(x)
        jax.debug.callback(see, y)
        return y * x if y > 0 else y

    clip = fbp.edit.cotangent("*inner", fbp.edit.clip(0.1))
    with pytest.raises(fbp.InputError, match=r"has a side effect, at .*test_eager"):
        fbp.grad(fun, rules=fbp.RULES | clip)(1.0)
    double = fbp.edit.value("*inner", lambda y: 2 * y)
    with pytest.raises(fbp.InputError, match="asked for them before"):
        fbp.grad(lambda x: fun(x), rules=fbp.RULES | double)(1.0)


def test_a_number_among_the_residuals_stays_one_under_jit():
    fun = jax.custom_vjp(jnp.sin)
    fun.defvjp(lambda x: (jnp.sin(x), (x, True)), lambda r, ct: (2 * ct * r[0] if r[1] else ct,))
    assert_same(jax.jit(fbp.grad(fun))(2.0), jax.jit(jax.grad(fun))(2.0))
