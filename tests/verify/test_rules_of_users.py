"""Rules as users write them: each kind of fault is found, and its right twin is not."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from fbp.verify import Kind, check, first_difference
from fbp.verify.finite_difference import few_values
from tests.support.clients import client


def ruled(function, bwd, fwd=None):
    f = jax.custom_vjp(function)
    f.defvjp(fwd or (lambda *args: (function(*args), args)), bwd)
    return f


def normal(seed, *shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


X = normal(0, 3)


def total(f):
    return lambda x: jnp.sum(f(x) ** 2)


def mean_of_sines(wrong):
    f = ruled(
        lambda x: jnp.mean(jnp.sin(x)),
        lambda kept, g: (jnp.cos(kept[0]) / kept[0].size * (1.0 if wrong else g),),
    )
    return lambda x: 3 * f(x)


def altered(alter):
    return ruled(jnp.sin, lambda kept, g: (alter(g) * jnp.cos(kept[0]),))


def clipped(wrong):
    f = altered(lambda g: jnp.clip(g, -10, 10) if wrong else g)
    return lambda x: 100.3 * jnp.sum(f(x) ** 2)


def in_eighths(wrong):
    return total(altered(lambda g: jnp.round(8 * g) / 8 if wrong else g))


def another_value(wrong):
    def cube(x):
        return x**3

    shift = 0.1 if wrong else 0.0
    return total(ruled(cube, lambda x, g: (3 * x * x * g,), lambda x: (x**3 + shift, x)))


def kernel(body, *xs):
    shape = jax.ShapeDtypeStruct(xs[0].shape, xs[0].dtype)
    return pl.pallas_call(body, out_shape=shape, interpret=True)(*xs)


def sine_kernel(x, o):
    o[...] = jnp.sin(x[...])


def slope_kernel(x, g, o):
    o[...] = g[...] * jnp.cos(x[...])


def kernel_forward(wrong):
    factor = 1.1 if wrong else 1.0
    f = ruled(lambda x: kernel(sine_kernel, x), lambda kept, g: (factor * g * jnp.cos(kept[0]),))
    return total(f)


def kernel_backward(wrong):
    def bwd(kept, g):
        return (kernel(slope_kernel, kept[0], 2 * g if wrong else g),)

    return total(ruled(jnp.sin, bwd))


def on_the_host(wrong):
    def tanh(x):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(np.tanh, shape, x, vmap_method="sequential")

    factor = 1.1 if wrong else 1.0
    return total(ruled(tanh, lambda kept, g: (factor * g * (1 - tanh(kept[0]) ** 2),)))


def sharded(wrong):
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))
    f = altered(lambda g: 1.5 * g if wrong else g)
    return total(jax.shard_map(f, mesh=mesh, in_specs=P("d"), out_specs=P("d")))


def without_a_second_derivative(wrong):
    def bwd(kept, g):
        x = jax.lax.stop_gradient(kept[0]) if wrong else kept[0]
        return (3 * x**2 * g,)

    return total(ruled(lambda x: x**3, bwd))


def summed_in_bfloat16(wrong):
    dtype = jnp.bfloat16 if wrong else jnp.float32

    def bwd(kept, g):
        x, n = kept
        terms = jnp.broadcast_to(g / 2048, (2048,)).astype(dtype)
        summed = jnp.sum(terms)
        if wrong:
            summed, _ = jax.lax.scan(lambda a, v: (a + v, None), jnp.zeros((), dtype), terms)
        return summed.astype(x.dtype) * x * 2 / 2, jnp.zeros_like(n)

    f = ruled(lambda x, _: x * x / 2, bwd)
    return lambda x: f(x.sum(), jnp.zeros(()))


def of_another_dtype(wrong):
    def bwd(kept, g):
        return (g if wrong else g.astype(kept[0].dtype),)

    f = ruled(lambda x: x.astype(jnp.float32), bwd)
    return lambda x: jnp.sum(f(x.astype(jnp.bfloat16)))


def with_a_whole_number(wrong):
    def bwd(n, g):
        return (g.reshape(n, 2).sum(1) * (2 if wrong else 1),)

    return total(ruled(lambda x: jnp.repeat(x, 2), bwd, lambda x: (jnp.repeat(x, 2), x.size)))


def by_equinox(wrong):
    eqx = client("equinox")

    @eqx.filter_custom_vjp
    def scaled(x, scale):
        return scale * jnp.sin(x)

    @scaled.def_fwd
    def _(perturbed, x, scale):
        return scaled(x, scale), None

    @scaled.def_bwd
    def _(residuals, g, perturbed, x, scale):
        return (1.0 if wrong else scale) * g * jnp.cos(x)

    return lambda x: jnp.sum(scaled(x, 2.5) ** 2)


def beside_a_kink(wrong, sharded=False):
    def bwd(kept, g):
        x = kept[0] - X[0]
        return (jnp.sign(x) * g * jnp.where(abs(x) > 0, 0.9 if wrong else 1.0, 1.0),)

    f = ruled(lambda x: abs(x - X[0]) + jax.lax.psum(0.0, "d") if sharded else abs(x - X[0]), bwd)
    if not sharded:
        return lambda x: jnp.sum(3 * f(x))
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Auto,))
    return lambda x: jnp.sum(3 * jax.shard_map(f, mesh=mesh, in_specs=P(), out_specs=P())(x))


def beside_a_kink_with_a_collective(wrong):
    return beside_a_kink(wrong, sharded=True)


def small_beside_large(wrong):
    sizes = jnp.array([1e-3, 1.0, 1e4])

    def bwd(kept, g):
        return (0.3 * sizes * g * jnp.cos(kept[0]) * jnp.where(sizes < 0.1, 1.5, 1.0),)

    def right(kept, g):
        return (0.3 * sizes * g * jnp.cos(kept[0]),)

    f = ruled(lambda x: 0.3 * sizes * jnp.sin(x), bwd if wrong else right)
    return lambda x: jnp.sum(f(x))


def under_a_loss_scale(wrong):
    f = ruled(jnp.sin, lambda kept, g: (g * jnp.cos(kept[0]) * (1.2 if wrong else 1.0),))
    return lambda x: 16384 * jnp.sum(f(x.astype(jnp.float16))).astype(jnp.float32)


def root_by_jax(wrong):
    def root(a):
        def solve(f, x):
            return jax.lax.fori_loop(0, 50, lambda _, x: x - f(x) / (2 * x), x)

        factor = 3.0 if wrong else 1.0
        tangent = lambda g, y: factor * y / g(jnp.ones_like(y))
        return jax.lax.custom_root(lambda x: x * x - a, jnp.ones_like(a), solve, tangent)

    return lambda x: jnp.sum(root(2 + x * x))


def untransposed_solve(wrong):
    a = jnp.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.5, 0.0, 2.0]])

    def solved(b):
        return jax.lax.custom_linear_solve(
            lambda x: a @ x,
            b,
            lambda _, b: jnp.linalg.solve(a, b),
            lambda _, b: jnp.linalg.solve(a if wrong else a.T, b),
        )

    return total(solved)


def transpose_of_a_linear_call(wrong):
    def scaled(x):
        factor = 2.0 if wrong else 1.0
        return jax.custom_derivatives.linear_call(
            lambda r, x: r * x, lambda r, ct: factor * r * ct, 3 * jnp.ones(3), x
        )

    return total(scaled)


def through_eight_bits(wrong):
    def product(x):
        return x.astype(jnp.float8_e4m3fn).astype(jnp.float32) * 3

    return total(ruled(product, lambda kept, g: (g * (3.3 if wrong else 3.0),)))


FAULTS = [
    *(mean_of_sines, clipped, in_eighths, another_value, kernel_forward, kernel_backward),
    *(on_the_host, sharded, without_a_second_derivative, summed_in_bfloat16, of_another_dtype),
    *(with_a_whole_number, by_equinox, beside_a_kink, beside_a_kink_with_a_collective),
    *(small_beside_large, under_a_loss_scale, root_by_jax, untransposed_solve),
    *(transpose_of_a_linear_call, through_eight_bits),
]


BESIDE_ANOTHER = {kernel_backward, sharded, beside_a_kink}
"""Another test of the everyday run finds such a fault too."""


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(f, marks=pytest.mark.slow if f in BESIDE_ANOTHER else [], id=f.__name__)
        for f in FAULTS
    ],
)
def test_a_fault_is_found_and_its_right_twin_is_not(fault):
    right = check(fault(False), X)
    assert right.ok, right
    assert right.rules
    assert not right.unresolved
    wrong = check(fault(True), X)
    assert any(f.kind == Kind.WRONG_CUSTOM_RULE for f in wrong.failures), wrong


def test_the_rule_of_a_jump_is_not_passed_over():
    f = ruled(jnp.sign, lambda kept, g: (7 * g,))
    report = check(lambda x: jnp.sum(f(x)), jnp.zeros(3))
    assert [x.kind for x in report.failures] == [Kind.JUMP]


def rounded_and_scaled():
    def quantize(x, scale):
        return scale * jnp.round(x)

    return ruled(quantize, lambda kept, g: (g * kept[1], jnp.sum(g * jnp.round(kept[0]))))


def test_a_declared_rule_may_deviate_in_its_operand_alone():
    f = rounded_and_scaled()
    args = X, jnp.float32(0.5)

    def loss(x, s):
        return jnp.sum(f(x, s) ** 2)

    assert not check(loss, *args, argnums=(0, 1)).ok
    assert check(loss, *args, argnums=(0, 1), declared=[(f, 0)]).ok
    assert not check(loss, *args, argnums=(0, 1), declared=[(f, 1)]).ok
    assert check(loss, *args, argnums=(0, 1), declared={"quantize": lambda x, s: s * x}).failures


def test_a_declared_surrogate_is_what_the_rule_must_be_the_derivative_of():
    f = ruled(lambda x: jnp.round(x), lambda _, g: (g,))
    wrong = check(total(f), X, declared={f: lambda x: 2 * x})
    assert "declared in its place" in wrong.failures[0].message
    right = check(total(f), X, declared={f: lambda x: x})
    assert right.ok
    assert [x.kind for x in right.findings] == [Kind.DECLARED]


def solver(error):
    def root(a):
        return jax.lax.fori_loop(0, 30, lambda _, z: z - (z**3 + z - a) / (3 * z**2 + 1), a)

    return ruled(root, lambda kept, g: (g * (1 + error) / (3 * root(kept[0]) ** 2 + 1),))


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_surrogate_gets_the_arguments_of_its_function(factor):
    def rounded(params, bits):
        return {key: jnp.round(x * 2**bits) / 2**bits for key, x in params.items()}

    f = jax.custom_vjp(rounded, nondiff_argnums=(1,))
    f.defvjp(
        lambda params, bits: (rounded(params, bits), None),
        lambda _, __, g: ({"a": g["a"], "b": factor * g["b"]},),
    )
    params = {"a": normal(0, 3), "b": normal(1, 3)}
    report = check(
        lambda params: jnp.sum(f(params, 3)["a"] * f(params, 3)["b"]),
        params,
        declared={f: lambda params, _: params},
    )
    assert report.ok is (factor == 1), report
    assert {x.operand for x in report.failures} == ({1} if factor != 1 else set())


def test_a_rule_that_is_right_to_a_solvers_tolerance_is_declared_with_it():
    f = solver(3e-5)
    report = check(total(f), X)
    assert report.ok
    assert any("tolerance" in x.message for x in report.findings if x.kind == Kind.UNRESOLVED)
    assert "could not be judged" in str(report).splitlines()[0]
    assert not check(total(f), X, declared={f: 1e-3}).unresolved
    assert not check(total(solver(0.1)), X).ok


def test_a_branch_that_did_not_run_is_said():
    f = altered(lambda g: g)
    report = check(lambda x: jnp.sum(jax.lax.cond(x[0] > 99, f, jnp.cos, x)), X)
    (summary,) = report.rules
    assert (summary.compared, summary.not_run) == (0, 1)
    assert "did not run" in str(report)


def test_a_leaf_that_lost_its_digits_to_a_rule_is_not_said_to_be_right():
    def product(x, w):
        return x * w

    def bwd(kept, g):
        x, w = kept
        terms = (g * x).astype(jnp.bfloat16)
        add = lambda a, v: ((a + v).astype(jnp.bfloat16), None)
        return g * w, jax.lax.scan(add, jnp.bfloat16(0), terms)[0].astype(jnp.float32)

    f = ruled(product, bwd)
    report = check(lambda w: jnp.mean(f(jnp.ones(1024), w)), jnp.float32(2.0))
    assert [x.kind for x in report.failures] == [Kind.WRONG_CUSTOM_RULE]
    assert str(report.leaves[0]).startswith("?"), report.leaves[0]


def test_data_that_a_loss_makes_itself_is_not_rounded_before_the_comparison_in_float64():
    points = np.array([0.3, -1.1, 0.7], np.float32)
    bell = ruled(
        lambda d, c: jnp.exp(-c * d**2),
        lambda r, ct: (
            -2 * ct * r[1] * r[0],
            -jnp.sum(ct * jnp.exp(-r[1] * r[0] ** 2) * r[0] ** 2),
        ),
    )
    report = check(lambda c: jnp.sum(bell(jnp.asarray(points), c) ** 2), jnp.float32(0.8))
    assert report.ok, report


@pytest.mark.parametrize("steps", [40, pytest.param(80, marks=pytest.mark.slow)])
def test_chaos_is_unresolved(steps):
    def logistic(x):
        return jax.lax.scan(lambda c, _: (3.9 * c * (1 - c), None), x, length=steps)[0]

    report = check(logistic, jnp.float32(0.3))
    assert report.ok
    assert [f.kind for f in report.findings] == [Kind.UNRESOLVED]
    assert "unresolved" in str(report).splitlines()[0]


def test_a_callback_is_called_at_most_a_hundred_times():
    calls = 0

    def host(x):
        nonlocal calls
        calls += 1
        return np.asarray(np.sum(np.sin(x) ** 2), np.float32)

    def fun(x):
        return jax.pure_callback(host, jax.ShapeDtypeStruct((), jnp.float32), x)

    report = check(fun, normal(1, 6), gradient=lambda x: np.sin(2 * np.asarray(x)))
    assert report.ok, report
    assert calls <= 100
    assert not check(fun, normal(1, 6), gradient=lambda x: 1.01 * np.sin(2 * np.asarray(x))).ok


def test_a_gradient_that_differs_from_call_to_call_is_named_as_that():
    rng = np.random.default_rng(0)
    report = check(
        lambda x: jnp.sum(jnp.sin(x)),
        X,
        gradient=lambda x: np.cos(np.asarray(x)) * np.float32(1 + 1e-3 * rng.normal()),
    )
    assert {f.kind for f in report.failures} == {Kind.NOT_REPEATABLE}


@pytest.mark.parametrize(
    ("gradient", "words"),
    [
        (lambda p: {"w": np.cos(p["w"])[None]}, "is float32[1, 3]"),
        (lambda p: {"w": None}, "is None"),
        (lambda p: {}, "is missing"),
        (lambda p: {"w": "text"}, "is of type str"),
        (lambda p: {"w": np.ones(3, int)}, "is int64[3]"),
    ],
)
def test_a_gradient_of_another_structure_is_a_finding_with_a_name(gradient, words):
    report = check(lambda p: jnp.sum(jnp.sin(p["w"])), {"w": X}, gradient=gradient)
    (failure,) = report.failures
    assert failure.kind == Kind.STRUCTURE
    assert words in failure.message


def test_value_and_grad_and_aux_are_taken_apart():
    def loss(x):
        return jnp.sum(jnp.sin(x))

    assert check(loss, X, gradient=jax.value_and_grad(loss)).ok

    def with_aux(x):
        return loss(x), {"aux": jnp.cos(x)}

    assert check(with_aux, X, gradient=jax.grad(with_aux, has_aux=True)).ok


class Module(NamedTuple):
    """As a module of Equinox: what is no array is a leaf too."""

    weight: jax.Array
    name: str
    deep: bool
    activation: object
    depth: int = 2

    def __call__(self, x):
        for _ in range(self.depth):
            x = self.activation(x * self.weight)
        return jnp.sum(x)


def test_a_module_keeps_what_is_no_array():
    module = Module(X, "name", True, jnp.tanh)
    report = check(lambda m, mode, x: m(x) if mode == "train" else 0.0 * m(x), module, "train", X)
    assert report.ok, report
    assert [leaf.leaf for leaf in report.leaves] == ["args[0].weight"]


def test_the_values_of_a_reference_are_the_truth():
    report = check(lambda x: jnp.sum(x**2) + 1, X, reference=lambda x: jnp.sum(x * x))
    assert [f.kind for f in report.failures] == [Kind.WRONG_VALUE]
    report = check(lambda x: jnp.sum(x**2), X, reference=lambda x: jnp.sum(x * x))
    assert report.ok, report
    report = check(lambda x: jnp.sum(x**2), X, reference=lambda x: jnp.sum(x**2 + x) - jnp.sum(x))
    assert report.ok, report


def test_many_shapes_make_one_report():
    def fun(x, y):
        return jnp.sum(jnp.sin(x) * y)

    shapes = [("float32[2]", "float32[2]"), ("float32[3,1]", jnp.ones((3, 1)))]
    report = check(fun, shapes=shapes, gradient=lambda x, y: jnp.cos(x) * y * float(x.ndim == 1))
    assert [leaf.ok for leaf in report.leaves] == [True, False]
    assert check(fun, shapes=shapes).ok


def test_few_values_tell_a_slope():
    s = few_values(lambda t: np.exp(0.5 + t), 1.0)
    assert s.contains(np.exp(0.5))
    assert s.error < 1e-6


def test_a_notebook_shows_the_report():
    assert "<h2>the gradient of" in check(jnp.tanh, 0.5)._repr_html_()


def test_a_rewrite_of_a_module_is_compared_too():
    found = first_difference(lambda x: jnp.sum(jnp.exp(x)), lambda x: jnp.sum(1.01 * jnp.exp(x)), X)
    assert found.what == "value"


def test_a_rule_that_jax_refuses_is_a_finding_that_names_it():
    def product(x, y):
        return x * y

    f = ruled(product, lambda kept, g: (g * kept[1],))
    (finding,) = check(lambda x: jnp.sum(f(x, x)), X).failures
    assert finding.kind is Kind.WRONG_CUSTOM_RULE
    assert "product" in finding.message
    assert "cannot be used" in finding.message


@pytest.mark.parametrize("typed", [True, False])
def test_rules_on_several_devices_are_compared_device_by_device(typed):
    if jax.device_count() < 2:
        pytest.skip("needs two devices")
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))

    def loss(factor):
        def summed(x):
            return jax.lax.psum(jnp.sum(jnp.tanh(x)), "d")

        def bwd(kept, g):
            g = g if typed else jax.lax.psum(g, "d")  # untyped, each device has a part of it
            return (factor * g * (1 - jnp.tanh(kept[0]) ** 2),)

        f = jax.shard_map(
            ruled(summed, bwd), mesh=mesh, in_specs=P("d"), out_specs=P(), check_vma=typed
        )
        return lambda x: 2 * f(x)

    x = normal(0, 4)
    right, wrong = (check(loss(factor), x) for factor in (1.0, 1.1))
    assert right.ok, right
    assert not right.unresolved
    assert any(f.kind is Kind.WRONG_CUSTOM_RULE for f in wrong.failures)


def test_equal_entries_of_a_maximum_share_one_cotangent():
    def largest(share):
        def bwd(kept, g):
            equal = (kept[0] == kept[0].max(-1, keepdims=True)).astype(g.dtype)
            return (share(equal) * g[:, None],)

        return ruled(lambda x: x.max(-1), bwd)

    w, x = normal(1, 3), jnp.array([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0], [0.5, -1.0, 0.0]])
    first = largest(lambda equal: jnp.where(jnp.cumsum(equal, -1) == 1, equal, 0.0))
    report = check(lambda x: jnp.sum(w * first(x)), x)
    assert report.ok, report
    each = largest(lambda equal: equal)
    (finding,) = check(lambda x: jnp.sum(w * each(x)), x).failures
    assert finding.kind is Kind.WRONG_CUSTOM_RULE
    assert "share one cotangent" in finding.message


@pytest.mark.parametrize("by_jvp", [False, True])
def test_operands_are_counted_as_the_rules_author_does(by_jvp):
    def scaled(x, y):
        return x * jnp.array([1.0, 3.0, 2.0]) + y

    if by_jvp:
        f = jax.custom_jvp(scaled)
        f.defjvp(lambda xs, ts: (f(*xs), ts[0] * jnp.array([1.0, 3.0, 2.0]) + 2 * ts[1]))
    else:
        f = ruled(scaled, lambda _, g: (g * jnp.array([1.0, 3.0, 2.0]), 2 * g))
    report = check(lambda x, y: jnp.sum(f(x, y) ** 2), X, normal(1, 3), argnums=(0, 1))
    assert [finding.operand for finding in report.failures] == [1]
