"""JAX's reverse-mode transforms by fbp: what `override_jax` reaches, and that it leaves no trace.

Whether fbp or JAX differentiates is told apart by a rule that is wrong on purpose.
"""

import functools
import inspect
import threading
import types

import jax
import jax.numpy as jnp
import jax.scipy.optimize
import numpy as np
import pytest
from jax import grad as grad_by_name
from jax import lax
from jax import vjp as vjp_by_name
from jax._src.interpreters import ad
from jax.test_util import check_grads

import fbp
from fbp import verify
from fbp.autodiff.override import by_jax, override_jax_in_all_threads
from tests.autodiff.test_authors import CUBE
from tests.support.agreement import assert_same
from tests.support.guard import INTERNAL, JaxDifferentiated, without_jax_reverse_mode

X = jnp.array([0.5, -1.0, 2.0])
ONES = jnp.ones(3)
WRONG = fbp.RULES | fbp.rule.derivative(lax.sin_p, lambda x, y: jnp.full_like(x, 7.0))
BY_FBP = jnp.full(3, 7.0, jnp.float32)
BY_JAX = jnp.cos(X)


def total(x):
    return jnp.sum(jnp.sin(x))


def backward_of_two_halves(ct):
    forward, backward = jax.fwd_and_bwd(jnp.sin, argnums=0)
    return backward(forward(X)[1], ct)


CALLS = {
    "grad": lambda: jax.grad(total)(X),
    "value_and_grad": lambda: jax.value_and_grad(total)(X)[1],
    "vjp": lambda: jax.vjp(jnp.sin, X)[1](ONES)[0],
    "jacrev": lambda: jnp.diag(jax.jacrev(jnp.sin)(X)),
    "jacobian": lambda: jnp.diag(jax.jacobian(jnp.sin)(X)),
    "fwd_and_bwd": lambda: backward_of_two_halves(ONES),
    "custom_vjp": lambda: jax.grad(lambda x: jnp.sum(sine_of_its_own(x)))(X),
    "vmap": lambda: jax.vmap(jax.grad(jnp.sin))(X),
    "scan": lambda: lax.scan(lambda _, x: ((), jax.grad(jnp.sin)(x)), (), X)[1],
}


@jax.custom_vjp
def sine_of_its_own(x):
    return jnp.sin(x)


sine_of_its_own.defvjp(lambda x: jax.vjp(jnp.sin, x), lambda pullback, ct: pullback(ct))

gradient_made_before = jax.grad(total)
jitted_before = jax.jit(jax.grad(total))
in_partial = functools.partial(jax.value_and_grad, has_aux=False)
in_closure = (lambda transform: lambda f: transform(f))(jax.grad)
in_table = {"jacrev": jax.jacrev}


def as_default(f, transform=jax.grad):
    return transform(f)


HOLDERS = {
    "imported by name": lambda: grad_by_name(total)(X),
    "vjp imported by name": lambda: vjp_by_name(jnp.sin, X)[1](ONES)[0],
    "a gradient made before": lambda: gradient_made_before(X),
    "a jitted gradient made before": lambda: jitted_before(X),
    "a partial application": lambda: in_partial(total)(X)[1],
    "a default argument": lambda: as_default(total)(X),
    "a closure": lambda: in_closure(total)(X),
    "a dictionary": lambda: jnp.diag(in_table["jacrev"](jnp.sin)(X)),
    "what JAX wraps": lambda: jax.grad.__wrapped__(total)(X),
}


@pytest.mark.parametrize("name", CALLS | HOLDERS)
def test_whoever_calls_a_transform_gets_fbps_within_and_jaxs_without(name):
    call = (CALLS | HOLDERS)[name]
    assert_same(call(), BY_JAX)
    with fbp.override_jax(WRONG) as report:
        assert_same(call(), BY_FBP)
    assert report.gradients.total() >= 1
    assert_same(call(), BY_JAX)


def test_hessian_and_linear_transpose_are_fbps():
    square = lambda x: jnp.sum(jnp.sin(x) ** 2)
    double = fbp.RULES | fbp.rule.transpose(lax.neg_p, lambda ct, x: 2 * ct)
    with fbp.override_jax(WRONG):
        assert_same(jax.hessian(square)(X), jnp.diag(jnp.full(3, 98.0, jnp.float32)))
    with fbp.override_jax(double):
        assert_same(jax.linear_transpose(jnp.negative, X)(ONES), (2 * ONES,))


def test_a_loop_of_unknown_length_has_the_gradient_that_jax_lacks():
    halve = lambda x: lax.while_loop(lambda x: x > 1, lambda x: x / 2, x)
    with pytest.raises(ValueError, match="Reverse-mode"):
        jax.grad(halve)(8.0)
    with fbp.override_jax():
        assert float(jax.grad(halve)(8.0)) == 0.125


def test_a_module_imported_within_is_reached_and_keeps_jaxs():
    module = types.ModuleType("late")
    with fbp.override_jax(WRONG):
        exec("from jax import grad; import jax\n@jax.grad\ndef slope(x): return jax.numpy.sin(x)",
             module.__dict__)  # fmt: skip
        assert float(module.slope(0.0)) == 7.0
    assert float(module.slope(0.0)) == 1.0
    assert module.grad is jax.grad


def test_forward_mode_stays_jaxs():
    with fbp.override_jax(WRONG):
        assert_same(jax.jvp(jnp.sin, (X,), (ONES,))[1], BY_JAX)
        assert_same(jax.linearize(jnp.sin, X)[1](ONES), BY_JAX)
        assert_same(jnp.diag(jax.jacfwd(jnp.sin)(X)), BY_JAX)
        assert_same(jax.grad(lambda x: total(jax.checkpoint(jnp.sin)(x)))(X), 7 * BY_FBP)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "custom_vjp"])
def test_nothing_of_jaxs_reverse_mode_runs(name):
    """JAX's public transforms do, which are what is overridden."""
    call = CALLS[name]
    with fbp.override_jax(), pytest.MonkeyPatch.context() as patch:
        for function in INTERNAL:
            if hasattr(ad, function):
                patch.setattr(ad, function, _raises)
        call()
    with without_jax_reverse_mode(), fbp.override_jax(), pytest.raises(JaxDifferentiated):
        jax.grad(total)(X)


def _raises(*_, **__):
    raise JaxDifferentiated


# It leaves no trace


def _state():
    functions = [jax.grad, jax.value_and_grad, jax.vjp, jax.jacrev, jax.jacobian, jax.hessian,
                 jax.linear_transpose, jax.fwd_and_bwd, ad.backward_pass]  # fmt: skip
    inner = [inspect.unwrap(f) for f in functions]
    return [
        (f, f.__code__, f.__defaults__, f.__kwdefaults__, dict(f.__dict__)) for f in functions
    ] + [(f, f.__code__, f.__defaults__, f.__kwdefaults__, dict(f.__dict__)) for f in inner]


def test_everything_is_as_before():
    before, signature = _state(), inspect.signature(jax.vjp)
    with fbp.override_jax(), fbp.override_jax(WRONG):
        assert _state() != before
        assert inspect.signature(jax.vjp) == signature
    assert _state() == before


def test_everything_is_as_before_after_an_exception():
    before = _state()
    with pytest.raises(ZeroDivisionError), fbp.override_jax():
        jax.grad(lambda x: x / (1 // 0))(1.0)
    assert _state() == before
    assert_same(CALLS["grad"](), BY_JAX)


def test_a_table_that_is_none_is_refused_and_changes_nothing():
    before = _state()
    rule = fbp.rule.derivative(lax.sin_p, lambda x, y: x)
    with pytest.raises(TypeError, match=r"fbp.RULES \| rule"), fbp.override_jax(rule):
        pass
    assert _state() == before


def test_it_nests():
    with fbp.override_jax(WRONG) as outer:
        with fbp.override_jax() as inner:
            assert_same(CALLS["grad"](), BY_JAX)
        assert_same(CALLS["grad"](), BY_FBP)
        with by_jax():
            assert_same(CALLS["grad"](), BY_JAX)
    assert (outer.gradients.total(), inner.gradients.total()) == (2, 1)


def test_it_decorates():
    assert_same(fbp.override_jax(WRONG)(CALLS["grad"])(), BY_FBP)


# jit


def test_jit_traces_once_for_each_table_and_keeps_what_it_compiled():
    traces = []

    @jax.jit
    def slope(x):
        traces.append(x)
        return jax.grad(total)(x)

    for _ in range(2):
        assert_same(slope(X), BY_JAX)
        with fbp.override_jax(WRONG) as report:
            assert_same(slope(X), BY_FBP)
            assert_same(slope(X), BY_FBP)
    assert len(traces) == 2
    assert report.gradients.total() == 0, "compiled by the first"


def test_a_jit_within_a_jit_and_a_scan_are_traced_anew():
    inner = jax.jit(jax.grad(jnp.sin))
    outer = jax.jit(lambda xs: lax.scan(lambda _, x: ((), inner(x)), (), xs)[1])
    assert_same(outer(X), BY_JAX)
    with fbp.override_jax(WRONG):
        assert_same(outer(X), BY_FBP)
    assert_same(outer(X), BY_JAX)


# Threads


def in_a_thread(call):
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


def test_another_thread_is_left_alone():
    with fbp.override_jax(WRONG) as report:
        assert_same(in_a_thread(CALLS["grad"]), BY_JAX)
        assert_same(in_a_thread(lambda: jax.jit(jax.grad(total))(X)), BY_JAX)
        assert report.gradients.total() == 0


def test_all_threads_can_be_reached():
    with override_jax_in_all_threads(WRONG) as report:
        assert_same(in_a_thread(CALLS["grad"]), BY_FBP)
        assert_same(CALLS["grad"](), BY_FBP)
        with by_jax():
            assert_same(CALLS["grad"](), BY_JAX)
        assert report.gradients.total() == 2
    assert_same(in_a_thread(CALLS["grad"]), BY_JAX)
    assert_same(CALLS["grad"](), BY_JAX)


def test_threads_enter_and_leave_as_they_like():
    before, barrier, failures = _state(), threading.Barrier(4), []

    def work(number):
        rules, want = ((WRONG, 7.0), (fbp.RULES, 1.0), (None, 1.0))[number % 3]
        barrier.wait()
        for _ in range(20):
            if rules is None:
                got = jax.grad(jnp.sin)(0.0)
            else:
                with fbp.override_jax(rules) as report:
                    got = jax.grad(jnp.sin)(0.0)
                    if report.gradients != {"grad": 1}:
                        failures.append(report)
            if float(got) != want:
                failures.append((number, got))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert failures == []
    assert _state() == before


# What it says


def test_the_report_counts():
    with fbp.override_jax() as report:
        assert str(report) == "fbp made 0 gradients."
        jax.grad(jnp.sin)(0.0)
        for _ in range(3):
            jitted_before(X + 1)
        jax.vjp(jnp.sin, X)
    assert report.gradients["grad"] == 1
    assert set(report.gradients) <= {"grad", "vjp"}
    assert "fbp made " in str(report)


def test_a_backward_pass_that_jax_runs_itself_is_named():
    """A library that calls what lies beneath jax.vjp is not reached, and that is said."""
    program = jax.make_jaxpr(lambda x: 2 * x)(1.0)

    def beneath():
        jaxpr = getattr(program, "jaxpr", program)
        x = ad.UndefinedPrimal(jaxpr.invars[0].aval)
        return ad.backward_pass(jaxpr, True, [], [x], [jnp.float32(1.0)])

    said = pytest.warns(UserWarning, match=r"JAX itself differentiated at .*test_override.py:\d+")
    with said, fbp.override_jax() as report:
        beneath()
    (line,) = report.by_jax
    assert line.split(":")[0].endswith("test_override.py")
    beneath()
    assert report.by_jax.total() == 1


def test_the_oracle_of_verify_stays_jaxs():
    params = {"w": X}
    loss = lambda params: total(params["w"])
    with fbp.override_jax(WRONG) as report:
        assert verify.compare_with_jax(loss, params).agrees
        assert verify.check(total, X).ok
        assert report.gradients.total() == 0
        assert not verify.check(total, X, gradient=jax.grad(total)).ok, "checked is fbp's, WRONG"
        assert report.gradients.total() > 0
    assert verify.check(total, X, gradient=jax.grad(total)).ok


# Rules


def test_rules_of_authors_go_along():
    with fbp.override_jax():
        assert float(jax.grad(CUBE.bind)(2.0)) == 12.0
    stated = fbp.rule.vjp(CUBE, lambda ct, y, x: ct * 5)
    with fbp.override_jax(fbp.RULES | stated):
        assert float(jax.grad(CUBE.bind)(2.0)) == 5.0, "those that are passed come first"


def test_a_rule_that_a_library_states_within_goes_along():
    from tests.autodiff.test_authors import primitive

    with fbp.override_jax():
        late = primitive("stated_within", lambda x: x * x)
        ad.defjvp(late, lambda dx, x: 2 * x * dx)
        assert float(jax.grad(late.bind)(3.0)) == 6.0


# Arguments are those of JAX


def parity(x, y, scale=1.0):
    return jnp.sum(x * y) * scale, {"aux": x}


of_two = lambda x, y: jnp.sum(x * y)
INTS = jnp.arange(3)
Z = jnp.array([0.3 + 1j, 2.0])
ARGUMENTS = {
    "argnums": lambda: jax.grad(of_two, argnums=1)(X, X + 1),
    "argnums of a tuple": lambda: jax.grad(of_two, argnums=(1, 0))(X, X + 1),
    "argnums of a list": lambda: jax.grad(of_two, argnums=[0])(X, X + 1),
    "argnums of an array": lambda: jax.grad(of_two, argnums=np.array([0, 1]))(X, X + 1),
    "argnums from the end": lambda: jax.grad(of_two, argnums=-1)(X, X + 1),
    "has_aux and a keyword": lambda: jax.value_and_grad(parity, has_aux=True)(X, X, scale=2.0),
    "in the order of the signature": lambda: jax.grad(parity, 0, True, False, False, ())(X, X),
    "allow_int": lambda: jax.grad(lambda n, x: jnp.sum(x) * 2, (0, 1), allow_int=True)(INTS, X),
    "holomorphic": lambda: jax.grad(lambda z: jnp.sum(z**2), holomorphic=True)(Z),
    "jacrev": lambda: jax.jacrev(parity, (0, 1), has_aux=True)(X, X),
    "hessian": lambda: jax.hessian(of_two, argnums=(0, 1))(X, X + 1),
    "vjp": lambda: jax.vjp(parity, X, X, has_aux=True)[::2],
    "no reduce_axes": lambda: jax.vjp(of_two, X, X, reduce_axes=())[1](1.0),
    "linear_transpose": lambda: jax.linear_transpose(lambda x: {"y": 2 * x}, X)({"y": X}),
}
REFUSED = {
    "reduce_axes": lambda: jax.grad(total, reduce_axes=("i",))(X),
    "reduce_axes of vjp": lambda: jax.vjp(total, X, reduce_axes=("i",)),
    "no such argument": lambda: jax.grad(total, argnames="x")(X),
    "no function": lambda: jax.grad(3)(X),
    "no scalar": lambda: jax.grad(jnp.sin)(X),
    "integers": lambda: jax.grad(lambda n: jnp.sum(n * 1.0))(INTS),
    "argnums beyond": lambda: jax.grad(total, argnums=1)(X),
    "no argnums": lambda: jax.grad(total, argnums="x")(X),
    "no pair": lambda: jax.grad(total, has_aux=True)(X),
    "complex": lambda: jax.grad(lambda z: jnp.sum(z**2))(Z),
    "not linear": lambda: jax.linear_transpose(lambda n: n.astype(jnp.float32), INTS),
    "no array": lambda: jax.vjp(lambda x: x, "x"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_are_taken_as_jax_takes_them(name):
    want = ARGUMENTS[name]()
    with fbp.override_jax():
        assert_same(ARGUMENTS[name](), want)


@pytest.mark.parametrize("name", REFUSED)
def test_what_jax_refuses_is_refused(name):
    kinds = (TypeError, ValueError, NotImplementedError)
    with pytest.raises(kinds) as of_jax:
        REFUSED[name]()
    (kind,) = (k for k in kinds if issubclass(of_jax.type, k))
    with fbp.override_jax(), pytest.raises(kind):
        REFUSED[name]()


# JAX's own clients


def test_check_grads_checks_fbps_gradient():
    check_grads(total, (X,), order=2, modes=["rev"])
    with fbp.override_jax(WRONG), pytest.raises(AssertionError):
        check_grads(total, (X,), order=1, modes=["rev"])


def test_bfgs():
    rosenbrock = lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    minimize = lambda: jax.scipy.optimize.minimize(rosenbrock, jnp.zeros(2), method="BFGS").x
    want = minimize()
    with fbp.override_jax() as report:
        np.testing.assert_allclose(minimize(), want, rtol=1e-4)
    assert report.gradients.total() > 0
    assert not report.by_jax


def test_a_solver_that_transposes_itself():
    a = jnp.array([[3.0, 1.0], [0.5, 2.0]])

    def loss(b):
        solve = lambda matvec, b: jnp.linalg.solve(a, b)
        transpose = lambda vecmat, b: jnp.linalg.solve(a.T, b)
        return jnp.sum(lax.custom_linear_solve(lambda x: a @ x, b, solve, transpose) ** 2)

    want = jax.grad(loss)(X[:2])
    with fbp.override_jax() as report:
        assert_same(jax.grad(loss)(X[:2]), want, tolerance=16)
    assert not report.by_jax
