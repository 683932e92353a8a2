"""`fbp plan`: sizes by hand, costs of programs that are known, and the command."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import fbp
from fbp.cli import main
from fbp.config import MLP, Config, Data, Optimizer, Sweep, Train
from fbp.plan import local_target, plan, report
from fbp.plan.communication import Collective, collectives
from fbp.plan.compiled import Cost, TooLarge, cost
from fbp.plan.shapes import Size, by_layer, residual_sizes, total
from fbp.sweep import studies_of
from tests.support.demo_config import TEXT

CONFIG = Config(
    name="demo",
    data=Data("digits"),
    network=MLP((8,)),
    optimizer=Optimizer("sgd", {"momentum": 0.9}),
    train=Train(steps=10, batch_size=16, evaluate_every=5),
    sweep=Sweep((0.1, 1.0), 5),
)


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


@pytest.fixture(scope="module")
def planned():
    (study,) = studies_of(CONFIG)
    return plan(study, local_target())


# From shapes alone


def test_parameters_are_counted_by_layer(planned):
    assert planned.parameters == [
        Size("1_dense", 64 * 8 + 8, 4 * (64 * 8 + 8)),
        Size("3_dense", 8 * 10 + 10, 4 * (8 * 10 + 10)),
    ]


def test_momentum_is_as_large_as_the_parameters(planned):
    parameters = sum(size.numbers for size in planned.parameters)
    assert parameters < planned.optimizer.numbers <= parameters + 3  # the rate, and counts


def test_state_without_an_array_has_no_bytes():
    assert total((), "sgd") == Size("sgd", 0, 0)


def test_arrays_of_half_precision_have_half_the_bytes():
    half = by_layer({"dense": {"kernel": shape(2, 3, dtype=jnp.bfloat16)}})
    assert half == [Size("dense", 6, 12)]


def product(params, batch, key):
    hidden = jnp.tanh(batch @ params["w"])
    return jnp.sum(hidden @ params["v"])


def test_residuals_are_those_of_vjp_by_line_and_parameters_and_batch():
    params = {"w": shape(3, 5), "v": shape(5, 1)}
    actual = residual_sizes(product, params, shape(2, 3), jax.random.key(0))
    line, batch, parameters = actual
    assert line.name.startswith(f"{__file__}:")
    assert line.numbers == 2 * (2 * 5)  # the tanh, and its derivative
    assert (batch, parameters) == (Size("the batch", 6, 24), Size("parameters", 5, 20))


def test_residuals_have_the_bytes_of_the_real_pullback():
    params, batch = {"w": jnp.ones((3, 5)), "v": jnp.ones((5, 1))}, jnp.ones((2, 3))
    _, pullback = fbp.vjp(lambda params: product(params, batch, None), params)
    actual = residual_sizes(product, params, batch, None)
    assert sum(s.bytes for s in actual) == sum(x.nbytes for x in jax.tree.leaves(pullback))


def test_a_model_larger_than_any_memory_is_measured():
    size = 1_000_000
    params = {"w": shape(size, size), "v": shape(size, 1)}
    actual = residual_sizes(product, params, shape(2, size), jax.random.key(0))
    assert by_layer({"layer": params})[0].bytes > 2**41
    assert sum(s.numbers for s in actual) == 2 * (2 * size) + 2 * size + size


# Of compiled programs


def test_cost_of_a_product_of_matrices_is_known():
    actual = cost(jax.jit(jnp.dot).lower(shape(16, 32), shape(32, 8)))
    assert actual.flops == 2 * 16 * 32 * 8
    assert (actual.arguments, actual.outputs) == (4 * (16 * 32 + 32 * 8), 4 * 16 * 8)
    assert actual.aliased == 0
    assert actual.collectives == ()
    assert actual.memory == actual.arguments + actual.outputs + actual.temporary


def test_a_donated_argument_is_counted_once():
    actual = cost(jax.jit(lambda x: 2 * x, donate_argnums=0).lower(shape(100)))
    assert actual.memory == actual.aliased == actual.outputs == 400


def exchanged(fun, in_spec, out_spec, *sizes):
    mesh = Mesh(np.array(jax.devices()), ("d",))
    mapped = jax.shard_map(fun, mesh=mesh, in_specs=in_spec, out_specs=out_spec, check_vma=False)
    return cost(jax.jit(mapped).lower(shape(*sizes))).collectives


@pytest.mark.parametrize(
    ("kind", "fun", "out_spec", "size"),
    [
        ("all-reduce", lambda x: jax.lax.psum(x, "d"), P(), 4 * 2 * 16),
        ("all-gather", lambda x: jax.lax.all_gather(x, "d", tiled=True), P(), 4 * 16 * 16),
        ("reduce-scatter", lambda x: _scatter(x), P("d", None), 4 * 2 * 2),
        ("collective-permute", lambda x: _rotate(x), P("d"), 4 * 2 * 16),
    ],
)
def test_collectives_are_listed_with_the_bytes_they_leave(kind, fun, out_spec, size):
    assert exchanged(fun, P("d"), out_spec, 16, 16) == (Collective(kind, 1, size),)


def _scatter(x):
    return jax.lax.psum_scatter(x, "d", scatter_dimension=1, tiled=True)


def _rotate(x):
    return jax.lax.ppermute(x, "d", [(i, (i + 1) % 8) for i in range(8)])


def test_asynchronous_collectives_count_their_result_alone():
    text = """
      %g = (bf16[2,8]{1,0:T(8,128)}, bf16[8,8]{1,0}) all-gather-start(%x), dimensions={0}
      %d = bf16[8,8]{1,0} all-gather-done(%g)
      %r = (f32[4]{0}, pred[3]{0}) all-reduce-start(%y, %z), to_apply=%sum
    """
    assert collectives(text) == (
        Collective("all-gather", 1, 2 * 8 * 8),
        Collective("all-reduce", 1, 4 * 4 + 3),
    )


def test_trials_exchange_nothing(planned):
    assert planned.parallelism.devices == 8
    assert planned.sweep.collectives == ()


def test_sweep_takes_the_states_of_its_trials_and_the_data_to_each_device(planned):
    state = sum(s.bytes for s in planned.parameters) + planned.optimizer.bytes
    dataset = studies_of(CONFIG)[0].problem.data
    data = sum(
        np.asarray(a).nbytes for s in (dataset.train, dataset.validation) for a in (s.x, s.y)
    )
    trials = 2  # 10 on 8 devices
    assert planned.sweep.arguments == pytest.approx(data + trials * state, rel=0.02)


def test_states_reuse_the_arguments_buffers(planned):
    state = sum(s.bytes for s in planned.parameters) + planned.optimizer.bytes
    assert planned.update.aliased >= state
    assert planned.sweep.aliased >= 2 * state


# The report


def test_what_does_not_fit_is_said_plainly(planned):
    small = replace(planned.target, memory=1000)
    assert "the sweep DOES NOT FIT" in report(replace(planned, target=small))
    large = report(replace(planned, target=replace(small, memory=2**40)))
    assert "one update fits" in large
    assert "DOES NOT" not in large
    refused = report(replace(planned, update=TooLarge("Ran out of memory on HBM.")))
    assert "one update DOES NOT FIT: Ran out of memory on HBM." in refused


def test_report_counts_what_the_devices_exchange(planned):
    some = replace(planned.update, collectives=(Collective("all-reduce", 3, 2048),))
    assert isinstance(some, Cost)
    row = next(r for r in report(replace(planned, sweep=some)).splitlines() if "all-red" in r)
    assert row.split() == ["all-reduce", "none", "3:", "2", "KiB"]


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "demo.toml"
    path.write_text(TEXT)
    return str(path)


def test_command_prints_a_plan_for_each_combination_of_the_axes(config, capsys):
    axes = ["--set", "sweep.axes.train.schedule=['constant', 'linear']"]
    with jax.numpy_dtype_promotion("standard"):  # optax's schedules need it
        assert main(["plan", config, *axes]) == 0
    out = capsys.readouterr().out
    assert "demo, train.schedule = constant on this machine: 8 x cpu\n" in out
    assert "demo, train.schedule = linear on this machine: 8 x cpu\n" in out
    assert out.count("4 trials by vmap, divided over 4 devices") == 2
    assert out.count(f"{64 * 8 + 8 + 8 * 10 + 10:,}") == 2


def test_command_prints_a_plan_as_json(config, capsys):
    assert main(["plan", config, "--json"]) == 0
    (planned,) = json.loads(capsys.readouterr().out)
    assert planned["trials"] == 4
    assert planned["target"]["devices"] == 8
    assert sum(layer["numbers"] for layer in planned["parameters"]) == 64 * 8 + 8 + 8 * 10 + 10
    assert planned["sweep"]["flops"] > planned["update"]["flops"] > 0
    assert main(["plan", config, "--budgets", "--json"]) == 0
    (drawn,) = json.loads(capsys.readouterr().out)
    assert drawn["budgets"][0]["scheme"] == "nothing is computed again"


def test_command_draws_work_against_memory(config, capsys):
    assert main(["plan", config, "--budgets"]) == 0
    head, blank, title, first, *_ = capsys.readouterr().out.splitlines()
    assert (head, blank) == ("demo on this machine", "")
    assert title.split() == ["a", "gradient's", "memory", "work"]
    assert first.startswith("\N{FULL BLOCK}" * 24)
    assert first.endswith("1.00  nothing is computed again")


def test_slice_without_the_compiler_names_the_extra(config, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["plan", config, "--target", "v5e:2x2"]) == 2
    assert "pip install 'fbp-jax[tpu]'" in capsys.readouterr().err
