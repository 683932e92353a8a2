"""Flax's FP8 layers: their statistics travel as gradients of an extended dtype."""

import jax
import jax.numpy as jnp
import pytest

import fbp
from tests.support.agreement import assert_same
from tests.support.clients import client

nn = client("flax.linen")

OPERATIONS = ["Fp8DotGeneralOp", "Fp8DirectDotGeneralOp", "NANOOFp8DotGeneralOp"]
X = jax.random.normal(jax.random.key(1), (4, 8))


@pytest.fixture(autouse=True)
def _as_flax_runs():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class Net(nn.Module):
    """One dense layer of eight, used twice."""

    operation: str

    @nn.compact
    def __call__(self, x):
        dense = nn.Dense(8, dot_general_cls=getattr(nn, self.operation))
        return dense(dense(x))


class Repeated(nn.Module):
    """The same, by a scan over two steps."""

    operation: str

    @nn.compact
    def __call__(self, x):
        body = nn.Dense(8, dot_general_cls=getattr(nn, self.operation))
        step = nn.scan(
            lambda layer, x, _: (layer(x), None),
            variable_broadcast=("params", "_overwrite_with_gradient"),
            split_rngs={"params": False},
            length=2,
        )
        return step(body, x, None)[0]


@pytest.mark.filterwarnings("ignore:The .*Fp8DotGeneralOp is deprecated:DeprecationWarning")
@pytest.mark.parametrize("net", [Net, Repeated])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_gradients_and_statistics_of_fp8_layers(net, operation):
    net = net(operation)
    variables = net.init(jax.random.key(0), X)

    def loss(variables):
        return jnp.sum(net.apply(variables, X).astype(jnp.float32) ** 2)

    got, want = (jax.jit(library.grad(loss))(variables) for library in (fbp, jax))
    assert_same(got, want, 16)
    statistics = jax.tree.leaves(got["_overwrite_with_gradient"])
    assert len(statistics) == 6
    assert sum(bool(jnp.any(s != 0)) for s in statistics) == 6


def test_a_value_of_an_extended_dtype_passes_between_compiled_programs():
    net = Net("Fp8DirectDotGeneralOp")
    variables = net.init(jax.random.key(0), X)
    got, want = (
        library.grad(lambda v: jnp.sum(net.apply(v, X)))(variables) for library in (fbp, jax)
    )
    assert_same(got, want, 64)
