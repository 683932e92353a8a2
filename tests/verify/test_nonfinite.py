"""The origin of each trap is named: its line, what happened, the iteration; and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbp import nn
from fbp.verify import trace_nonfinite, trace_program
from fbp.verify.mends import Situation
from tests.support.clients import client
from tests.support.networks import draw
from tests.support.traps import TRAPS


def plain(fun, good, bad):
    return fun, bad, ()


def jitted(fun, good, bad):
    return jax.jit(fun), bad, ()


def in_a_scan(fun, good, bad):
    def total(xs):
        return jax.lax.scan(lambda c, x: (c + fun(x), None), jnp.float32(0), xs)[0]

    return total, np.stack([good, good, bad, good]), (2,)


def under_vmap(fun, good, bad):
    return lambda xs: jnp.sum(jax.vmap(fun)(xs)), np.stack([good, bad, good]), ()


def vmap_of_scan(fun, good, bad):
    total, xs, iteration = in_a_scan(fun, good, bad)
    calm = np.stack([good] * 4)
    return lambda xs: jnp.sum(jax.vmap(jax.jit(total))(xs)), np.stack([calm, xs]), iteration


WAYS = [plain, jitted, in_a_scan, under_vmap, vmap_of_scan]
EVERY_DAY = {"where_sqrt", "float16_direction"}
CASES = [
    pytest.param(
        trap,
        way,
        id=f"{trap.name}-{way.__name__}",
        marks=[] if way is plain or trap.name in EVERY_DAY else pytest.mark.slow,
    )
    for trap in TRAPS
    for way in WAYS
]


@pytest.mark.parametrize(("trap", "way"), CASES)
def test_the_origin_is_named(trap, way):
    fun, x, around = way(trap.fun, trap.good, trap.bad)
    report = trace_nonfinite(fun, x)
    assert not report.ok
    origin = report.findings[0]
    assert origin.source.startswith(f"{trap.line}:")
    assert origin.message.startswith(f"{trap.situation}: ")
    assert ("is left out at" in origin.message) == trap.masked
    assert origin.iteration == (*around, *trap.iteration)


@pytest.mark.slow
@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_nothing_is_said_where_a_function_does_not_trap(trap):
    assert trace_nonfinite(trap.fun, trap.good).ok


@pytest.mark.parametrize("trap", [t for t in TRAPS if t.mended], ids=lambda trap: trap.name)
def test_nothing_is_said_of_a_mended_function(trap):
    report = trace_nonfinite(trap.mended, trap.bad)
    assert report.ok, report


def attention(x):
    causal = jnp.tril(jnp.ones((4, 4), bool))
    scores = jnp.where(causal, x @ x.T, -jnp.inf)
    return jnp.sum(jax.nn.softmax(scores) @ x)


def attention_by_log_of_mask(x):
    scores = x @ x.T + jnp.log(jnp.tril(jnp.ones((4, 4))))
    return jnp.sum(jax.nn.softmax(scores) @ x)


def clipped_exponential(x):
    return jnp.sum(jnp.minimum(jnp.exp(jnp.float32(200) + jax.lax.stop_gradient(x)), 10.0) * x)


@pytest.mark.parametrize("fun", [attention, attention_by_log_of_mask, clipped_exponential])
def test_an_infinity_that_does_no_harm_is_not_reported(fun):
    report = trace_nonfinite(fun, np.ones((4, 3), np.float32))
    assert report.ok, report


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.mlp([16, 16, 3]), (4, 6)),
        (nn.serial(nn.dense(8), nn.layer_norm(), nn.relu(), nn.dense(3)), (4, 6)),
    ],
    ids=["mlp", "layer norm"],
)
def test_a_good_network_gives_no_finding(network, shape):
    params, x = draw(network, shape)
    report = trace_nonfinite(lambda p: jnp.mean(network.apply(p, x) ** 2), params)
    assert report.ok, report


def test_a_leaf_that_is_bad_already_is_named():
    params = {"b": jnp.zeros(2), "w": jnp.array([[1.0, jnp.nan], [1.0, 1.0]])}
    report = trace_nonfinite(
        lambda p, x: jnp.sum(jnp.tanh(x @ p["w"] + p["b"])), params, jnp.ones(2)
    )
    origin = report.findings[0]
    assert origin.message.startswith(f"{Situation.INPUT}: args[0]['w'] has NaN already, in 1 of 4")
    assert (origin.leaf, origin.index) == ("args[0]['w']", (0, 1))


def test_a_mask_of_minus_infinities_among_the_arguments_is_not_the_origin():
    mask = jnp.array([[0.0, -jnp.inf], [-jnp.inf, -jnp.inf]])
    report = trace_nonfinite(
        lambda x, mask: jnp.sum(jax.nn.softmax(x + mask) * x), jnp.ones((2, 2)), mask
    )
    assert report.findings[0].message.startswith(f"{Situation.INF_MINUS_INF}: ")


def test_a_constant_of_the_program_that_is_nan_is_named():
    report = trace_nonfinite(lambda x: jnp.sum(x * jnp.nan), jnp.ones(2))
    assert report.findings[0].message.startswith(f"{Situation.CONSTANT}: ")


def test_the_gradient_of_any_argument_is_looked_at():
    fun = lambda a, b: jnp.sum(a) + jnp.sum(jnp.sqrt(b["x"]))
    assert trace_nonfinite(fun, jnp.ones(2), {"x": jnp.zeros(2)}).ok
    for argnums in (1, (0, 1)):
        report = trace_nonfinite(fun, jnp.ones(2), {"x": jnp.zeros(2)}, argnums=argnums)
        assert (report.findings[0].leaf, report.findings[0].index) == ("args[1]['x']", (0,))


def test_two_origins_are_two_findings_in_the_order_of_time():
    def fun(x):
        first = jnp.log(x)
        return jnp.sum(first) + jnp.sum(1 / x)

    report = trace_nonfinite(fun, jnp.zeros(2))
    assert [f.primitive for f in report.findings] == ["log", "div"]


def test_the_operands_values_and_the_mend_are_told():
    report = trace_nonfinite(lambda x: jnp.log(jnp.sum(jnp.exp(x))), jnp.array([1.0, 1000.0]))
    message = report.findings[0].message
    assert "exp(1000) = inf at entry [1]" in message
    assert "jax.nn.logsumexp" in message


def test_a_training_step_as_it_stands():
    def step(params, x):
        value, grads = jax.value_and_grad(lambda p: jnp.mean(jnp.sqrt(p["w"] * x)))(params)
        return jax.tree.map(lambda p, g: p - g, params, grads), value

    report = trace_program(jax.jit(step, donate_argnums=0), {"w": jnp.zeros(3)}, jnp.ones(3))
    origin = report.findings[0]
    assert origin.message.startswith(f"{Situation.POLE}: ")
    assert "It reaches result[0]['w']" in origin.message
    assert "test_nonfinite.py" in origin.source


def test_arrays_that_are_divided_over_devices_are_looked_at_where_they_are():
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
    x = np.ones((8, 3), np.float32)
    x[5, 1] = 0
    divided = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    report = trace_program(lambda x: jnp.sum(jnp.log(x)), divided)
    assert "log(0) = -inf at entry [5, 1]" in str(report)


@jax.custom_vjp
def root(x):
    return jnp.sqrt(x)


def root_forward(x):
    return jnp.sqrt(x), x


def root_backward(x, g):
    return (g / jnp.sqrt(x) * jnp.where(x > 0, 0.5, 0.0),)


root.defvjp(root_forward, root_backward)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: jnp.sum(root(x)),
        lambda x: jax.lax.scan(lambda c, _: (c + jnp.sum(root(x)), None), 0.0, length=2)[0],
        lambda x: jnp.sum(jax.vmap(jax.checkpoint(root))(x)),
    ],
)
def test_what_a_users_backward_rule_bears_is_called_that(fun):
    (finding,) = trace_nonfinite(fun, jnp.array([0.0, 1.0])).findings
    assert "in root_backward, the backward rule of a custom_vjp function" in finding.message
    assert "root_backward" in finding.source


def test_a_module_is_traced_with_what_is_no_array_in_it():
    eqx = client("equinox")

    class Layer(eqx.Module):
        weight: jax.Array
        activation: object
        name: str = "layer"
        biased: bool = False

        def __call__(self, x):
            return self.activation(self.weight * x) if not self.biased else x

    layer = Layer(jnp.array([0.0, 1.0]), jnp.sqrt)

    def loss(layer, x, reduction):
        assert reduction == "sum"
        return jnp.sum(layer(x))

    (finding,) = trace_nonfinite(loss, layer, jnp.ones(2), "sum").findings
    assert finding.leaf == "args[0].weight"
    assert "sqrt" in finding.message

    def step(layer, x):
        return eqx.tree_at(lambda m: m.weight, layer, jnp.log(layer.weight * x))

    (finding,) = trace_program(step, layer, jnp.ones(2)).findings
    assert "It reaches result.weight" in finding.message
