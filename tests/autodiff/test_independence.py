"""fbp is a second implementation: nothing of JAX's reverse mode runs when it differentiates."""

import ast
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import jaxpr_as_fun

import fbp
from fbp import nn
from tests.support.agreement import assert_same, total
from tests.support.guard import JaxDifferentiated, without_jax_reverse_mode
from tests.support.networks import draw
from tests.support.programs import PROGRAMS, X

RULE_TESTS = sorted(Path(__file__).parent.glob("rules/test_*.py"))
SOURCES = sorted(Path(fbp.__file__).parent.rglob("*.py"))
ORACLES = {"verify", "testing"}


def load(path):
    """A test module, for its tables."""
    spec = importlib.util.spec_from_file_location(f"tables_of_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anew(fun):
    """The same function, of which no trace is cached."""
    return lambda *args: fun(*args)


# The guard guards


@pytest.mark.parametrize(
    "differentiate",
    [
        lambda f: jax.grad(f)(X),
        lambda f: jax.vjp(f, X),
        lambda f: jax.linearize(f, X),
        lambda f: jax.linear_transpose(f, X),
        lambda f: jax.jacrev(f)(X),
        lambda f: jax.jvp(f, (X,), (X,)),
        lambda f: jax.make_jaxpr(jax.grad(f))(X),
    ],
    ids=["grad", "vjp", "linearize", "linear_transpose", "jacrev", "jvp", "staged"],
)
def test_the_guard_sees_jax_differentiate(differentiate):
    with without_jax_reverse_mode(), pytest.raises(JaxDifferentiated):
        differentiate(lambda x: jnp.sum(jnp.sin(x)))


def test_the_guard_sees_tracers_of_names_bound_before():
    before = jax.grad
    with without_jax_reverse_mode(), pytest.raises(JaxDifferentiated):
        before(lambda x: jnp.sum(jnp.sin(x)))(X)


def test_the_guard_ends():
    with without_jax_reverse_mode():
        pass
    assert_same(jax.grad(jnp.sin)(0.0), jax.jit(jax.grad(jnp.sin))(0.0))


# Nothing of JAX's reverse mode runs


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_without_jax(name):
    fun = anew(PROGRAMS[name])
    with without_jax_reverse_mode():
        got = fbp.grad(fun)(X)
        value, pullback = fbp.vjp(fun, X)
        (again,) = pullback(jnp.ones_like(value))
        jax.make_jaxpr(fbp.grad(lambda x: total(fbp.grad(fun)(x))))(X)
        jax.make_jaxpr(jax.vmap(fbp.grad(fun)))(jnp.stack([X, X]))
    want = jax.jit(jax.grad(fun))(X)
    assert_same(got, want, tolerance=16)
    assert_same(again, want, tolerance=16)


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_rules_without_jax(path):
    module = load(path)
    cases = [(case.fun, case.arguments(case.dtypes[0])) for case in getattr(module, "CASES", [])]
    cases += [(fun, (jnp.float32(0.3), module.W)) for fun in getattr(module, "CONDS", {}).values()]
    cases += [
        (fun, (module.W, module.H, module.XS)) for fun in getattr(module, "SCANS", {}).values()
    ]
    for fun, args in cases:
        program, floats = _staged(fun, args)

        def pulled(*floats, program=program):
            out, pullback = fbp.vjp(program, *floats)
            return pullback(jax.tree.map(_ones, out))

        with without_jax_reverse_mode():
            jax.eval_shape(pulled, *floats)


def _staged(fun, args):
    """A function of its floating arguments, traced already, and these."""
    inexact = [jnp.issubdtype(a.dtype, np.inexact) for a in args]
    floats = [a for f, a in zip(inexact, args, strict=True) if f]

    def of_floats(*floats):
        given = iter(floats)
        return fun(*(next(given) if f else a for f, a in zip(inexact, args, strict=True)))

    return jaxpr_as_fun(jax.make_jaxpr(of_floats)(*floats)), floats


def _ones(x):
    if jnp.issubdtype(x.dtype, np.inexact):
        return jnp.ones_like(x)
    return np.zeros(x.shape, jax.dtypes.float0)


NETWORKS = {
    "mlp": (nn.mlp([16, 8, 3]), (5, 7)),
    "cnn": (nn.cnn([4, 6], [8, 3]), (2, 8, 8, 2)),
    "transformer": (nn.transformer(3, width=8, depth=1, heads=2, length=6), (2, 6, 5)),
    "lstm": (nn.rnn([6], 3), (2, 7, 4)),
    "gru": (nn.rnn([6], 3, cell=nn.gru), (2, 7, 4)),
}


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_without_jax_have_jaxs_gradients(name, dtype):
    layer, in_shape = NETWORKS[name]

    def loss(params, x):
        logits = layer.apply(params, x)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    with jax.enable_x64(dtype == "float64"):
        labels = jnp.arange(in_shape[0]) % 3
        params, x = jax.tree.map(jnp.asarray, draw(layer, in_shape, dtype))
        with without_jax_reverse_mode():
            got = jax.jit(fbp.value_and_grad(anew(loss)))(params, x)
        assert_same(got, jax.jit(jax.value_and_grad(loss))(params, x), tolerance=16)


# Nothing of JAX's reverse mode is named


SEAM = {
    *("empty_ref_p", "get_axis_env", "ref_p", "addupdate_p", "run_state_p", "discharge_state"),
    *("call_hi_primitive_p", "NullAccum", "ValAccum", "from_edtype_p", "to_edtype_p"),
    "Scope",
    *("NotNeeded", "NotSaveable"),
    "backward_pass3",  # which override_jax watches, and fbp never runs
    *("DynamicJaxprTrace", "DynamicJaxprTracer", "TracingEqn", "TracebackScope", "trace_ctx"),
    *("EvalTrace", "Tracer", "eval_trace", "set_current_trace", "ensure_no_leaks"),
    *("_check_returned_jaxtypes", "_check_no_returned_refs", "check_jaxpr", "enable_checks"),
    *("_interleave_fun", "_jvp_jaxpr_zeros", "_memoize", "convert_constvars_jaxpr", "dce_jaxpr"),
    *("canonicalize_value", "register_canonicalize_value_handler", "pytype_aval_mappings"),
    *("_convert_element_type", "to_concrete_value", "positional_effects", "JaxprInputEffect"),
    *("InternalMutableArrayEffect", "ReadEffect", "pallas_call_hlo_interpret"),
}
"""What has no public name in every version of JAX that fbp supports."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: "/".join(path.parts[-2:]))
def test_sources_name_nothing_of_jaxs_reverse_mode(path):
    if ORACLES & set(path.parts):
        return
    forbidden = {"grad", "value_and_grad", "vjp", "linearize", "linear_transpose", "jacrev",
                 "jacobian", "hessian", "jvp"}  # fmt: skip
    if path.name == "forward_over_reverse.py":  # of fbp's own gradient
        forbidden -= {"jvp"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert not (node.value.id == "jax" and node.attr in forbidden), node.lineno
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            assert not (node.module == "jax" and names & forbidden), node.lineno
            private = str(node.module).startswith("jax._src")
            assert not private or (path.name == "compat.py" and names <= SEAM), node.lineno
