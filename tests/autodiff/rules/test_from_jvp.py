"""A primitive of one's own, whose rules are written as JAX wants them."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

import fbp
from fbp.autodiff.rules.from_jvp import rule_from_jvp
from tests.support.agreement import assert_same, total

X = jnp.linspace(-0.9, 1.2, 4)
Y = jnp.cos(X)


def of_primitive(primitive, **params):
    """The primitive as a function."""
    return functools.partial(primitive.bind, **params)


def make(name, run, pushforward, transpose=None, multiple_results=False):
    """A primitive with all that JAX wants of it, and its rule for fbp."""
    primitive = Primitive(name)
    primitive.multiple_results = multiple_results
    primitive.def_impl(run)
    primitive.def_abstract_eval(
        lambda *avals, **params: jax.tree.map(
            lambda out: jax.core.ShapedArray(out.shape, out.dtype),
            jax.eval_shape(functools.partial(run, **params), *avals),
        )
    )
    mlir.register_lowering(primitive, mlir.lower_fun(run, multiple_results))
    batching.primitive_batchers[primitive] = lambda args, dims, **params: (
        primitive.bind(*_stacked(args, dims), **params),
        (0, 0) if multiple_results else 0,
    )
    ad.primitive_jvps[primitive] = pushforward
    if transpose:
        ad.primitive_transposes[primitive] = transpose
    return primitive, fbp.RULES | rule_from_jvp(primitive, pushforward, transpose)


def _stacked(args, dims):
    """All operands with their batch in front."""
    size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    return [
        jnp.broadcast_to(a, (size, *a.shape)) if d is None else jnp.moveaxis(a, d, 0)
        for a, d in zip(args, dims, strict=True)
    ]


def _product(primals, tangents):
    """x y and x + k, an integer: an operand may have no tangent, an output too."""
    (x, y), (tx, ty) = primals, tangents
    terms = [t * other for t, other in ((tx, y), (ty, x)) if not isinstance(t, ad.Zero)]
    count = jnp.zeros(x.shape, jnp.int32)
    return PRODUCT.bind(x, y), [sum(terms), ad.Zero(jax.typeof(count).to_tangent_aval())]


PRODUCT, PRODUCT_RULES = make(
    "own_product",
    lambda x, y: [x * y, jnp.zeros(x.shape, jnp.int32)],
    _product,
    multiple_results=True,
)


def _scaled(primals, tangents, *, by):
    return SCALE.bind(*primals, by=by), SCALE.bind(*tangents, by=by)


SCALE, SCALE_RULES = make(
    "own_scale", lambda x, *, by: x * by, _scaled, lambda ct, x, *, by: [SCALE.bind(ct, by=by)]
)


def check(fun, rules, *args):
    """Gradient, second order, and both under vmap and jit, are JAX's."""
    argnums = tuple(range(len(args)))

    def all_of(grad):
        first = grad(fun, argnums)
        second = grad(lambda *args: total(first(*args)), argnums)
        rows = [jnp.stack([a, a + 1]) for a in args]
        return first(*args), second(*args), jax.vmap(first)(*rows)

    got = jax.jit(lambda: all_of(functools.partial(fbp.grad, rules=rules)))()
    assert_same(got, jax.jit(lambda: all_of(jax.grad))(), tolerance=16)


def test_operands_and_outputs_without_tangents():
    check(lambda x, y: total(PRODUCT.bind(x, y)[0]), PRODUCT_RULES, X, Y)
    check(lambda x: total(PRODUCT.bind(x, Y)[0] * PRODUCT.bind(X, x)[0]), PRODUCT_RULES, X)


def test_a_linear_primitive_is_transposed_by_its_own_rule():
    check(lambda x: total(jnp.tanh(of_primitive(SCALE, by=3.0)(x))), SCALE_RULES, X)


def test_in_a_loop():
    def loss(x):
        step = lambda c, y: (jnp.sin(SCALE.bind(c, by=0.7)) + y, PRODUCT.bind(c, y)[0])
        return total(jax.lax.scan(step, x, jnp.stack([x, x * x])))

    check(loss, SCALE_RULES | PRODUCT_RULES, X)


def test_a_linear_primitive_without_transpose_raises():
    rules = fbp.RULES | rule_from_jvp(SCALE, _scaled)
    with pytest.raises(TypeError, match=r"own_scale, used at .*state its transpose"):
        fbp.grad(lambda x: total(SCALE.bind(x, by=2.0)), rules=rules)(X)
