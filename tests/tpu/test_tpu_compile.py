"""fbp's programs as a TPU's compiler makes them: nothing runs, no TPU is needed.

The compiler is libtpu, of the extra `fbp-jax[tpu]`; `make test-tpu` installs it in an environment
of its own. What the compiler says of fbp's programs is held against the same programs with
`jax.value_and_grad` in the place of fbp's.
"""

import jax
import jax.numpy as jnp
import pytest

import fbp
from fbp import InputError
from fbp.autodiff.memory.trade_off import trade_off
from fbp.cli import main
from fbp.config import CNN, MLP, RNN, Config, Data, Optimizer, Sweep, Train, Transformer
from fbp.plan import tpu_slice
from fbp.plan.compiled import TooLarge, cost
from fbp.plan.requirements import lowered_sweep, lowered_update
from fbp.sweep import studies_of
from fbp.sweep.parallelism import Parallelism

pytest.importorskip("libtpu", reason="the TPU's compiler is not installed: make test-tpu")
pytestmark = pytest.mark.usefixtures("standard_promotion")

NETWORKS = {
    "mlp": MLP((256,)),
    "cnn": CNN((8, 16), (32,)),
    "transformer": Transformer(width=32, depth=2, heads=4),
}
SLOW_TRANSFORMER = pytest.param("transformer", marks=pytest.mark.slow)
WAYS = {"mlp": "vmap", "cnn": "vmap", "transformer": "map"}


@pytest.fixture
def standard_promotion():
    """JAX's usual dtype promotion, as optax's Adam needs it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def target():
    return tpu_slice("v5e:2x2")


def study_of(network, batch_size=64, **sweep):
    config = Config(
        name="demo",
        data=Data("digits", image=True),
        network=network,
        optimizer=Optimizer("adam"),
        train=Train(steps=20, batch_size=batch_size, evaluate_every=10),
        sweep=Sweep((0.001, 0.01, 0.1), 2, **sweep),
    )
    (study,) = studies_of(config)
    return study


@pytest.fixture
def both(monkeypatch):
    """What a program costs, and what it costs with JAX's gradient in fbp's place."""

    def costs(make):
        ours, calls = cost(make()), []

        def of_jax(loss_fn, has_aux=False, memory=None, taps=None):
            assert memory is None
            assert taps is None
            calls.append(loss_fn)
            return jax.value_and_grad(loss_fn, has_aux=has_aux)

        with monkeypatch.context() as patched:
            patched.setattr("fbp.train.step.value_and_grad", of_jax)
            theirs = cost(make())
        assert calls
        return ours, theirs

    return costs


def assert_no_more(ours, theirs):
    assert ours.temporary <= theirs.temporary
    assert ours.memory <= theirs.memory
    assert ours.flops <= theirs.flops
    assert ours.accessed <= theirs.accessed


@pytest.mark.parametrize("name", NETWORKS)
def test_update_needs_no_more_than_with_jax_grad(both, target, name):
    study = study_of(NETWORKS[name])
    assert_no_more(*both(lambda: lowered_update(study, target)))


@pytest.mark.slow
def test_update_that_outgrows_the_vector_memory_needs_no_more_than_with_jax_grad(both, target):
    study = study_of(MLP((4096, 4096, 4096)), batch_size=1024)
    ours, theirs = both(lambda: lowered_update(study, target))
    assert theirs.temporary > 0
    assert_no_more(ours, theirs)


@pytest.mark.parametrize("name", ["mlp", "cnn", SLOW_TRANSFORMER])
def test_sweep_over_four_chips_needs_no_more_than_with_jax_grad(both, target, name):
    study, way = study_of(NETWORKS[name]), Parallelism(WAYS[name], devices=4)
    ours, theirs = both(lambda: lowered_sweep(study, target, way, steps=10))
    assert_no_more(ours, theirs)
    assert ours.collectives == ()


def test_loop_counts_more_flops_where_fbp_takes_work_out_of_it(both, target):
    """XLA counts the body of a loop once. fbp makes the gradient of an LSTM's kernel by one product
    for all 8 steps, after the loop; jax.grad by a product in the loop, of which one counts.
    Measured: flops 1.8, temporary memory 1.02 (the gates' cotangents of all steps), bytes accessed
    0.9; with a batch of 64: 1.01, 1.02 and 1.02."""
    study = study_of(RNN((32,)), batch_size=32)
    ours, theirs = both(lambda: lowered_update(study, target))
    assert theirs.flops < ours.flops < 2 * theirs.flops
    assert ours.temporary <= 1.06 * theirs.temporary
    assert ours.accessed <= theirs.accessed


def test_residuals_in_host_memory_are_there(target):
    def loss(w, x):
        def step(h, _):
            with jax.named_scope("layer"):
                return jnp.tanh(h @ w), None

        return jnp.sum(jax.lax.scan(step, x, None, length=16)[0] ** 2)

    where = jax.sharding.SingleDeviceSharding(target.devices[0])
    args = [jax.ShapeDtypeStruct((n, 1024), "float32", sharding=where) for n in (1024, 512)]

    def host_memory(rules):
        compiled = jax.jit(fbp.grad(loss, rules=rules)).lower(*args).compile()
        return compiled.memory_analysis().host_temp_size_in_bytes

    on_host = fbp.RULES | fbp.edit.residuals("layer", "host")
    one_stack = 16 * 512 * 1024 * 4  # what the layer reads, and the derivative of tanh
    assert host_memory(fbp.RULES) == 0
    assert host_memory(on_host) >= 2 * one_stack


@pytest.mark.slow
def test_least_memory_of_a_loop_over_layers_has_their_inputs_on_the_host(target):
    def loss(args):
        layers, x = args

        def step(h, w):
            return jnp.tanh(jax.nn.gelu(h @ w["up"]) @ w["down"]), None

        return jnp.sum(jax.lax.scan(step, x, layers)[0] ** 2)

    where = jax.sharding.SingleDeviceSharding(target.devices[0])
    array = lambda *shape: jax.ShapeDtypeStruct(shape, "float32", sharding=where)
    layers = {"up": array(32, 512, 2048), "down": array(32, 2048, 512)}
    choices = list(trade_off(loss, (layers, array(4096, 512)), where))
    on_device = [choice for choice in choices if not choice.transferred]
    least = min(choices, key=lambda choice: choice.temporary)
    inputs = 32 * 4096 * 512 * 4
    assert least.transferred == 2 * inputs
    assert min(choice.temporary for choice in on_device) >= least.temporary + 0.5 * inputs


# The command


def test_plan_of_the_slice_is_printed(capsys):
    assert main(["plan", "configs/digits_mlp.toml", "--target", "v5e:2x2"]) == 0
    out = capsys.readouterr().out
    assert "digits_mlp on v5e:2x2: 4 x TPU v5 lite of 16 GiB" in out
    assert "65 trials by vmap, divided over 4 devices" in out
    assert "the sweep fits" in out


def test_memory_of_a_chip_is_divided_over_its_devices():
    v4, v5p = tpu_slice("v4:2x2x1"), tpu_slice("v5p:2x2x1")
    assert (len(v4.devices), v4.memory) == (8, 16 * 2**30)
    assert (len(v5p.devices), v5p.memory) == (4, 95 * 2**30)


@pytest.mark.parametrize("name", ["v9:2x2", "v5e:3x3", "v5e"])
def test_unknown_slice_is_bad_input_with_examples(name):
    with pytest.raises(InputError, match="give one such as v5e:2x2"):
        tpu_slice(name)


def test_program_that_does_not_fit_is_told_with_the_compilers_words(target):
    position = jax.sharding.SingleDeviceSharding(target.devices[0])
    large = jax.ShapeDtypeStruct((70_000, 70_000), jax.numpy.float32, sharding=position)
    actual = cost(jax.jit(lambda x: jax.numpy.sum(x @ x)).lower(large))
    assert isinstance(actual, TooLarge)
    assert "memory" in actual.reason
