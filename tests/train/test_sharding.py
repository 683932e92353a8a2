"""A run on many devices is the run on one, to rounding; each device holds its share of it."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import fbp
from fbp import InputError, nn
from fbp.data import load
from fbp.data.dataset import Split
from fbp.plan.communication import collectives
from fbp.train import initial_state, make_step, megatron, sharded_init, train
from fbp.train.scan_steps import scan_steps
from fbp.train.sharding import (
    data_mesh,
    shard_batch,
    shard_examples,
    sharded_update,
    state_shardings,
)
from fbp.train.step import make_update
from tests.support.agreement import assert_same
from tests.support.networks import draw

KEY = jax.random.key(0)
EXAMPLES = 16
NETWORKS = {
    "mlp": (nn.mlp([32, 16]), (64,)),
    "cnn": (nn.cnn([4], [32, 16]), (8, 8, 1)),
    "transformer": (nn.transformer(16, width=32, depth=1, heads=4, length=8), (8, 16)),
}
OPTIMIZERS = {"sgd": optax.sgd(0.1, momentum=0.9), "adam": optax.adam(1e-3)}
ULPS = 8  # at most 5 were measured


def mesh_of(data, model=1):
    return Mesh(np.array(jax.devices()[: data * model]).reshape(data, model), ("data", "model"))


MESHES = [mesh_of(1, 1), mesh_of(8, 1), mesh_of(4, 2), mesh_of(2, 4)]
by_mesh = pytest.mark.parametrize(
    "mesh", MESHES, ids=lambda mesh: "x".join(map(str, mesh.shape.values()))
)


def batch_of(name, examples=EXAMPLES):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(examples, *NETWORKS[name][1])).astype(np.float32)
    return x, rng.integers(0, 16, examples)


def loss_of(name):
    network, _ = NETWORKS[name]

    def loss_fn(params, batch, key):
        logits = network.apply(params, batch[0], key=key)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]))

    return loss_fn


def begin_of(name, tx):
    params, _ = draw(NETWORKS[name][0], (1, *NETWORKS[name][1]))
    return lambda key: initial_state(params, tx, key)


def run(name, optimizer, mesh, steps=2):
    """The loss of the last step, and what the optimizer and the parameters have become."""
    tx, layout = OPTIMIZERS[optimizer], () if mesh is None else megatron
    begin = begin_of(name, tx)
    state = (jax.jit(begin) if mesh is None else sharded_init(begin, mesh, layout))(KEY)
    step = make_step(loss_of(name), tx, mesh=mesh, layout=layout)
    for _ in range(steps):
        state, loss = step(state, batch_of(name))
    return jax.device_get((loss, state.opt_state, state.params))


on_one_device = functools.cache(lambda name, optimizer: run(name, optimizer, None))


def network_on_mesh():
    """One network on each mesh, and each network on one mesh; all of both are slow."""
    for name, mesh in itertools.product(NETWORKS, MESHES):
        shape = "x".join(map(str, mesh.shape.values()))
        marks = [] if name == "mlp" or shape == "4x2" else pytest.mark.slow
        yield pytest.param(name, mesh, id=f"{name}-{shape}", marks=marks)


@pytest.mark.parametrize(("name", "mesh"), [*network_on_mesh()])
def test_steps_on_a_mesh_are_those_of_one_device(name, mesh):
    assert_same(run(name, "sgd", mesh), on_one_device(name, "sgd"), tolerance=ULPS)


@pytest.mark.optimized
@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize(
    "name", ["mlp", "cnn", pytest.param("transformer", marks=pytest.mark.slow)]
)
def test_steps_of_adam_on_a_mesh_are_those_of_one_device(name):
    """Adam divides a gradient by its size, and rounding with it. Where the gradient is rounding
    alone, as in the bias of attention's keys, which no softmax sees, its sign is chance."""
    *got, params = run(name, "adam", mesh_of(4, 2))
    *want, expected = on_one_device(name, "adam")
    assert_same(got, want, tolerance=2 * ULPS)  # nu is the square of a gradient
    if name == "transformer":
        for tree in (params, expected):
            del tree["block_0"]["attention"]["attention"]["qkv_bias"]
    assert_same(params, expected, tolerance=4 * ULPS)


@pytest.mark.usefixtures("standard_promotion")
def test_each_device_holds_its_share_of_parameters_and_of_what_the_optimizer_keeps():
    mesh = mesh_of(2, 4)
    state = sharded_init(begin_of("mlp", OPTIMIZERS["adam"]), mesh, megatron)(KEY)
    for tree in (state.params, state.opt_state[0].mu, state.opt_state[0].nu):
        sizes = {
            jax.tree_util.keystr(path, simple=True, separator="/"): leaf.addressable_data(0).shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        assert sizes == {
            "1_dense/kernel": (64, 32 // 4),
            "1_dense/bias": (32 // 4,),
            "3_dense/kernel": (32 // 4, 16),
            "3_dense/bias": (16,),
        }


@by_mesh
def test_parameters_drawn_in_shards_are_those_drawn_on_one_device(mesh):
    make = lambda key: initial_state(nn.mlp([32, 16]).init(key, (-1, 64))[0], optax.sgd(0.1), key)
    got, want = sharded_init(make, mesh, megatron)(KEY), jax.jit(make)(KEY)
    assert_same(jax.device_get(got.params), jax.device_get(want.params), tolerance=0)


def test_no_device_has_all_of_what_is_drawn_in_shards():
    mesh, tx = mesh_of(1, 8), optax.sgd(0.1)
    network = nn.mlp([512, 16])
    make = lambda key: initial_state(network.init(key, (-1, 512))[0], tx, key)
    where = state_shardings(
        jax.eval_shape(make, KEY), jax.eval_shape(make, KEY).params, mesh, megatron
    )
    memory = jax.jit(make, out_shardings=where).lower(KEY).compile().memory_analysis()
    complete = 512 * 512 * 4
    assert memory.output_size_in_bytes < complete / 7
    assert memory.temp_size_in_bytes < complete


def test_a_state_that_is_returned_is_divided_as_the_one_passed():
    mesh, tx = mesh_of(2, 4), OPTIMIZERS["sgd"]
    state = sharded_init(begin_of("mlp", tx), mesh, megatron)(KEY)
    where = [leaf.sharding for leaf in jax.tree.leaves(state)]
    step = make_step(loss_of("mlp"), tx, mesh=mesh, layout=megatron)
    after, _ = step(state, batch_of("mlp"))
    for leaf, before in zip(jax.tree.leaves(after), where, strict=True):
        assert leaf.sharding.is_equivalent_to(before, leaf.ndim)


@pytest.fixture(scope="module")
def compiled():
    """The transformer's step on 4 x 2 devices, with the gradients of fbp and of jax."""
    mesh, tx, loss_fn = mesh_of(4, 2), OPTIMIZERS["sgd"], loss_of("transformer")
    state = sharded_init(begin_of("transformer", tx), mesh, megatron)(KEY)

    def compile(value_and_grad):
        update = sharded_update(make_update(value_and_grad(loss_fn), tx), mesh, megatron)
        step = jax.jit(update, donate_argnums=0)
        return step.lower(state, batch_of("transformer", 64)).compile()

    return compile(fbp.value_and_grad), compile(jax.value_and_grad)


def test_devices_exchange_what_they_do_for_the_gradient_of_jax(compiled):
    def exchanged(step):
        names = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
        return sorted(re.findall(rf" ({names})\(", step.as_text()))

    ours, theirs = map(exchanged, compiled)
    assert ours == theirs != []


def test_a_step_needs_the_memory_of_the_one_that_jax_makes(compiled):
    ours, theirs = (step.memory_analysis() for step in compiled)
    assert ours.argument_size_in_bytes == theirs.argument_size_in_bytes
    assert ours.output_size_in_bytes == theirs.output_size_in_bytes
    assert ours.temp_size_in_bytes <= 1.05 * theirs.temp_size_in_bytes


def test_cotangents_are_divided_as_their_parameters_without_being_told():
    mesh = mesh_of(2, 4)
    params = sharded_init(begin_of("mlp", optax.sgd(0.1)), mesh, megatron)(KEY).params
    loss = lambda params, batch: loss_of("mlp")(params, shard_batch(batch, mesh), KEY)
    grads = jax.jit(fbp.grad(loss))(params, batch_of("mlp"))
    for grad, leaf in zip(jax.tree.leaves(grads), jax.tree.leaves(params), strict=True):
        assert grad.sharding.is_equivalent_to(leaf.sharding, leaf.ndim)


def test_microbatches_on_a_mesh_are_the_full_batch_on_one_device():
    mesh, tx = mesh_of(4, 2), OPTIMIZERS["sgd"]
    step = make_step(loss_of("mlp"), tx, microbatches=2, mesh=mesh, layout=megatron)
    state = sharded_init(begin_of("mlp", tx), mesh, megatron)(KEY)
    for _ in range(2):
        state, loss = step(state, batch_of("mlp"))
    got = jax.device_get((loss, state.opt_state, state.params))
    assert_same(got, on_one_device("mlp", "sgd"), tolerance=ULPS)


def trained(**how):
    settings = {"key": KEY, "steps": 6, "batch_size": 24, "evaluate_every": 3, "progress": False}
    return train(nn.mlp([16, 10]), load("digits"), optax.sgd(0.3), **settings, **how)


@pytest.mark.parametrize("how", [{}, {"mesh": mesh_of(2, 4), "layout": megatron}])
def test_training_on_a_mesh_is_training_on_one_device(how):
    alone, spread = trained(mesh=data_mesh(1)), trained(**how)
    assert_same(spread.state.params, alone.state.params, tolerance=64)
    for a, b in zip(spread.history[1:], alone.history[1:], strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-5)
        assert a.score == b.score
    assert len(jax.tree.leaves(spread.state)[0].sharding.device_set) == 8


@pytest.mark.parametrize(("batch_size", "devices"), [(24, 8), (6, 6), (7, 7), (11, 1), (10, 5)])
def test_default_is_as_many_devices_as_divide_the_batch(batch_size, devices):
    assert dict(data_mesh(batch_size).shape) == {"data": devices}


def test_a_leaf_of_the_optimizer_that_has_another_shape_than_its_parameter_is_replicated():
    params = {"kernel": np.ones((256, 128), np.float32)}
    state = jax.eval_shape(optax.adafactor(0.1).init, params)
    where = state_shardings(state, params, mesh_of(4, 2), [("kernel", P(None, "model"))])
    leaves = zip(jax.tree.leaves(state), jax.tree.leaves(where), strict=True)
    assert {leaf.shape: sharding.spec for leaf, sharding in leaves}[256,] == P()


def test_batch_that_does_not_divide_is_told_with_path_shape_and_mesh():
    batch = {"x": np.ones((12, 3)), "y": np.ones(12)}
    message = r"batch\['x'\] has shape \[12, 3\]: 12 examples .* 8 devices along 'data' of the mesh"
    with pytest.raises(InputError, match=message):
        shard_batch(batch, mesh_of(8))
    with pytest.raises(InputError, match=r"into 2 microbatches .* give a multiple of 8"):
        shard_batch(batch, mesh_of(4, 2), microbatches=2)


def test_mesh_without_an_axis_for_the_batch_is_told():
    with pytest.raises(InputError, match="the mesh model 8 has no axis 'data'"):
        trained(mesh=jax.make_mesh((8,), ("model",)))


class Rows:
    """An array on a disk, that says which of its rows were read."""

    def __init__(self, values):
        self.values, self.shape, self.read = values, values.shape, []

    def __len__(self):
        return len(self.values)

    def __getitem__(self, rows):
        self.read += range(*rows.indices(len(self)))
        return self.values[rows]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 30])
def test_each_device_holds_and_reads_its_share_of_the_examples(count):
    x = Rows(np.arange(count * 3, dtype=np.float32).reshape(count, 3))
    shared, y = shard_examples(Split(x, np.arange(count)), mesh_of(8))
    filled = -(-count // 8) * 8
    want = np.minimum(np.arange(filled), count - 1)
    np.testing.assert_array_equal(shared, x.values[want])
    np.testing.assert_array_equal(y, want)
    assert all(part.data.shape == (filled // 8, 3) for part in shared.addressable_shards)
    assert set(x.read) == set(range(count))
    assert len(x.read) <= filled


@pytest.mark.parametrize("mesh", [mesh_of(8), mesh_of(4, 2)], ids=["8", "4x2"])
def test_no_device_is_sent_more_of_the_examples_than_a_batch(mesh):
    examples, features, batch = 1600, 48, 16
    where = lambda spec: NamedSharding(mesh, spec)
    x = jax.ShapeDtypeStruct((examples, features), jnp.float32, sharding=where(P("data")))
    index = jax.ShapeDtypeStruct((2, batch), jnp.int32, sharding=where(P()))
    total = lambda state, x: (state, jnp.sum(shard_batch(x, mesh)))
    program = jax.jit(lambda x, index: scan_steps(total, 0, x, index)[1]).lower(x, index).compile()
    sent = {each.kind: each.bytes for each in collectives(program.as_text() or "")}
    assert batch * features * 4 / 8 <= sum(sent.values()) <= 2 * batch * features * 4
