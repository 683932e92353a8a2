"""Pallas kernels that are differentiated, and run in any precision, as programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

import fbp
from fbp.autodiff import graph as g
from fbp.autodiff import interpret
from fbp.verify import Kind, check
from fbp.verify.kernels import is_kernel, without_kernels
from fbp.verify.observe import sites

X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)), jnp.float32)
ROWS = pl.BlockSpec((2, 6), lambda i: (i, 0))


def soft_kernel(x, o):
    e = jnp.exp(x[...] - jnp.max(x[...], -1, keepdims=True))
    o[...] = e / jnp.sum(e, -1, keepdims=True)


def softmax(x):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return pl.pallas_call(
        soft_kernel, shape, grid=(2,), in_specs=[ROWS], out_specs=ROWS, interpret=True
    )(x)


def in_jit(x):
    return jax.jit(softmax)(jnp.sin(x))


@pytest.mark.parametrize("fun", [softmax, in_jit])
def test_a_kernel_as_a_program_has_its_values_and_the_derivative_of_the_plain_function(fun):
    graph, _ = g.stage(fun, X)
    program = without_kernels(graph)
    assert not any(is_kernel(site.eqn) for site in sites(program))
    (y,) = interpret.eval_graph(program, [X])
    np.testing.assert_allclose(y, fun(X), rtol=1e-6)

    def plain(x):
        return jnp.sum(jnp.cos(jax.nn.softmax(x if fun is softmax else jnp.sin(x))))

    slope = fbp.grad(lambda x: jnp.sum(jnp.cos(interpret.eval_graph(program, [x])[0])))(X)
    np.testing.assert_allclose(slope, jax.grad(plain)(X), rtol=1e-4, atol=1e-6)


def test_a_program_without_kernels_stays_as_it_is():
    graph, _ = g.stage(jnp.sin, X)
    assert without_kernels(graph) is graph


@pytest.mark.parametrize("entry", [(0, 0), (3, 5)])
def test_one_wrong_entry_of_a_kernels_rule_is_found(entry):
    @jax.custom_vjp
    def weights(x):
        return softmax(x)

    def bwd(y, g):
        ct = y * (g - jnp.sum(g * y, -1, keepdims=True))
        return (ct.at[entry].multiply(1.01),)

    weights.defvjp(lambda x: (softmax(x), softmax(x)), bwd)
    (finding,) = check(lambda x: jnp.sum(jnp.cos(weights(x))), X).failures
    assert finding.kind is Kind.WRONG_CUSTOM_RULE
    assert finding.index == entry
    assert "weights" in finding.message


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*jax.experimental.pallas.ops.gpu.*:DeprecationWarning")
def test_the_attention_of_jax_is_right():
    """A large kernel; the other tests have small ones every day."""
    # JAX says that its own example of a kernel moves elsewhere; its rule is what is checked here
    module = "jax.experimental.pallas.ops.gpu.attention"
    attention = pytest.importorskip(module, reason="this JAX has no example of attention")
    q, k, v = jnp.asarray(np.random.default_rng(1).normal(size=(3, 1, 16, 1, 16)), jnp.float32)

    def loss(q, k, v):
        sizes = attention.BlockSizes(
            block_q=16, block_k=16, block_q_dkv=16, block_kv_dkv=16, block_q_dq=16, block_kv_dq=16
        )
        out = attention.mha(q, k, v, None, sm_scale=0.25, block_sizes=sizes, interpret=True)
        return jnp.sum(jnp.sin(out))

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        report = check(loss, q, k, v, argnums=(0, 1, 2))
    assert report.ok, report
    assert not report.unresolved, report
    assert any("mha" in rule.name and rule.compared for rule in report.rules)
