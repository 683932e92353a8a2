"""A sweep of what the caller trains, and not of what a config says."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fbp.sweep
from fbp import InputError
from fbp.config import MLP, Config, Data, Optimizer, Sweep, Train
from fbp.nn import Layer, mlp
from fbp.records import create_run, read_environment, read_records
from fbp.sweep import Batches, Problem, check_gradient, load_problem, run
from fbp.sweep.autotuning import operations
from fbp.sweep.study import studies_of
from fbp.train.objective import objective_of
from fbp.train.problem import Problem as TrainProblem

X = np.random.default_rng(0).normal(size=(96, 3)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5], np.float32)).astype(np.float32)
DATA = {
    "train": {"x": X[:64], "y": Y[:64]},
    "validation": {"x": X[64:80], "y": Y[64:80]},
    "test": {"x": X[80:], "y": Y[80:]},
}
TRAIN = {"steps": 6, "batch_size": 16, "evaluate_every": 3}
SWEEP = {"learning_rate": [0.01, 0.1], "seeds": 2, "trials": "map"}


def init(key):
    return {"w": jax.random.normal(key, (3,))}


def loss(params, batch, key):
    return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2)


def error(params, batch):
    return {"mean_error": jnp.mean(jnp.abs(batch["x"] @ params["w"] - batch["y"]))}


PROBLEM = Problem(DATA, init, loss, optimizer=optax.sgd)
gradient = jax.jit(jax.grad(loss))


def rows(directory, kind):
    return [row for row in read_records(directory) if row["kind"] == kind]


def losses(directory):
    return {(r["trial"], r["step"]): r["loss"] for r in rows(directory, "eval")}


def by_hand(rate, seed, steps=6):
    """The parameters after some steps, by jax.grad and plain arithmetic."""
    init_key, order_key, _ = jax.random.split(jax.random.key(seed), 3)
    params = init(init_key)
    epochs = [
        jax.random.permutation(jax.random.fold_in(order_key, epoch), 64).reshape(4, 16)
        for epoch in range(2)
    ]
    for index in np.concatenate(epochs)[:steps]:
        batch = {name: leaf[index] for name, leaf in DATA["train"].items()}
        grads = gradient(params, batch, None)
        params = jax.tree.map(lambda p, g: p - np.float32(rate) * g, params, grads)
    return params


def test_trials_are_those_of_the_callers_functions(tmp_path):
    summary = run(PROBLEM, out=tmp_path / "run", train=TRAIN, sweep=SWEEP)
    actual = losses(tmp_path / "run")
    for trial, (rate, seed) in enumerate([(0.01, 0), (0.01, 1), (0.1, 0), (0.1, 1)]):
        expected = loss(by_hand(rate, seed), DATA["validation"], None)
        np.testing.assert_allclose(actual[trial, 6], expected, rtol=1e-5)
    assert summary["best"]["learning_rate"] == 0.1
    assert "test_loss" in summary["best"]
    assert summary["task"] == "other"


@pytest.mark.parametrize("trials", ["vmap", "map"])
def test_a_budget_of_memory_holds_for_each_gradient_of_a_sweep(tmp_path, trials):
    sweep = SWEEP | {"trials": trials}
    run(PROBLEM, out=tmp_path / "plain", train=TRAIN, sweep=sweep)
    run(PROBLEM, out=tmp_path / "within", train=TRAIN | {"memory": "1 GiB"}, sweep=sweep)
    assert losses(tmp_path / "within") == losses(tmp_path / "plain")
    with pytest.raises(InputError, match="memory is 1 bytes, and the least"):
        run(PROBLEM, out=tmp_path / "refused", train=TRAIN | {"memory": "1 B"}, sweep=sweep)


def test_problem_of_a_network_and_an_objective_is_trained_in_place_of_the_configs(tmp_path):
    """The config says widths = [8]; the network is linear, the loss seven times as large."""
    from fbp.data import Dataset
    from fbp.data.dataset import Split

    parts = [Split(X[a:b], Y[a:b]) for a, b in ((0, 64), (64, 80), (80, 96))]
    options = {"task": "regression", "classes": 0, "feature_shape": (3,)}
    dataset = Dataset("mine", *parts, **options)
    calls = []
    linear = mlp([1])
    network = Layer(
        linear.init, lambda p, x, *, key=None: (calls.append(1), linear.apply(p, x, key=key))[1]
    )
    squared = objective_of(dataset)
    objective = replace(squared, losses=lambda out, y: 7 * squared.losses(out, y))
    config = Config(
        "own", Data("mine"), MLP((8,)), Optimizer("sgd"), Train(6, 16, 3), Sweep((0.01,), 1)
    )
    problem = Problem(dataset, network, objective, (16, 3), "r2")
    check = check_gradient(problem)
    traced = len(calls)
    create_run(tmp_path / "run", 'name = "own"\n')
    summary = fbp.sweep.sweep(config, problem, tmp_path / "run", check)
    assert len(calls) > traced
    start = next(r for r in rows(tmp_path / "run", "eval") if r["step"] == 0)
    params, _ = linear.init(jax.random.split(jax.random.key(0), 3)[0], (16, 3))
    outputs = linear.apply(params, X[64:80])
    np.testing.assert_allclose(
        start["loss"], 7 * np.mean((outputs[:, 0] - Y[64:80]) ** 2), rtol=1e-5
    )
    assert summary["metric"] == "r2"


def test_axis_of_what_a_problem_has_itself_is_refused():
    config = Config("own", None, None, None, Train(6, 16, 3), Sweep((0.1,), 1))
    axes = {"network.widths": ([4], [8])}
    with_axes = replace(config, network=MLP((4,)), sweep=replace(config.sweep, axes=axes))
    with pytest.raises(InputError, match=r"sweep\.axes\.network\.widths"):
        studies_of(with_axes, PROBLEM)


def test_problem_that_is_changed_is_no_longer_the_configs():
    config = Config(
        "d", Data("digits"), MLP((4,)), Optimizer("sgd"), Train(4, 16, 2), Sweep((0.1,), 1)
    )
    problem = load_problem(config)
    assert problem.config is config
    assert replace(problem, init=mlp([10])).config is None


def test_metric_of_any_name_chooses_by_its_direction(tmp_path):
    """Of the two rates the larger one has the smaller error; the direction is the caller's."""
    for higher, expected in ((False, 0.1), (True, 0.01)):
        options = {"metric": "mean_error", "higher_is_better": higher, "metrics": error}
        problem = replace(PROBLEM, **options)
        directory = tmp_path / str(higher)
        summary = run(problem, out=directory, train=TRAIN, sweep=SWEEP)
        assert summary["best"]["learning_rate"] == expected
        assert summary["best"]["validation_mean_error"]["mean"] > 0
        assert {"mean_error", "loss"} <= rows(directory, "eval")[0].keys()
        assert [name for name in summary["rates"][0] if "mean_error" in name]


def test_metric_without_a_known_direction_is_refused(tmp_path):
    problem = replace(PROBLEM, metric="mean_error", metrics=error)
    with pytest.raises(InputError, match="higher_is_better"):
        run(problem, out=tmp_path / "run", train=TRAIN, sweep=SWEEP)


def counted_loss(params, carried, batch, key):
    value = loss(params, batch, key)
    return value, {"steps": carried["steps"] + 1, "mean": 0.5 * (carried["mean"] + params["w"])}


def test_carried_state_is_what_the_loss_makes_of_it(tmp_path):
    """The steps are counted; the average of the parameters is the one that is measured."""

    def metrics(params, carried, batch):
        averaged = {"w": carried["mean"]}
        return {"steps": carried["steps"], "of_average": loss(averaged, batch, None)}

    problem = replace(
        PROBLEM,
        init=lambda key: (init(key), {"steps": jnp.int32(0), "mean": jnp.zeros(3)}),
        loss=counted_loss,
        has_state=True,
        metrics=metrics,
    )
    run(problem, out=tmp_path / "run", train=TRAIN, sweep=SWEEP)
    last = [row for row in rows(tmp_path / "run", "eval") if row["step"] == 6]
    assert [row["steps"] for row in last] == [6] * 4
    mean = np.zeros(3, np.float32)
    for step in range(6):
        mean = 0.5 * (mean + by_hand(0.1, 1, step)["w"])
    np.testing.assert_allclose(
        last[3]["of_average"], loss({"w": mean}, DATA["validation"], None), rtol=1e-5
    )


def test_numbers_that_the_loss_returns_are_recorded_and_the_rest_is_told(tmp_path, capfd):
    def with_aux(params, batch, key):
        residuals = batch["x"] @ params["w"] - batch["y"]
        return jnp.mean(residuals**2), {"largest": jnp.max(jnp.abs(residuals)), "all": residuals}

    problem = replace(PROBLEM, loss=with_aux, has_aux=True)
    config = Config("own", None, None, None, Train(6, 16, 3), Sweep((0.1,), 1))
    (study,) = studies_of(config, problem)
    assert study.notes == ["of what the loss returns, all is no number: not recorded"]
    run(problem, out=tmp_path / "run", train=TRAIN, sweep=SWEEP)
    assert "note: of what the loss returns, all is no number" in capfd.readouterr().err
    trained = rows(tmp_path / "run", "train")
    assert all(row["largest"] > 0 and "all" not in row for row in trained)
    assert len({tuple(sorted(row)) for row in trained}) == 1


def test_weights_of_examples_are_repetitions():
    """An example of weight 2 counts as two; of weight 0, as none."""
    layer, y = mlp([1]), Y[:16]
    objective = objective_of(load_problem_of_regression())
    weights = np.array([2.0, 0.0, 1.0, 1.0] * 4, np.float32)
    repeated = np.repeat(np.arange(16), weights.astype(int))
    data = lambda *arrays: {"train": arrays, "validation": arrays}
    weighted = Problem(data(X[:16], y, weights), layer, objective)
    plain = Problem(data(X[:16][repeated], y[repeated]), layer, objective)
    key, values = jax.random.key(0), []
    params, _ = layer.init(key, (-1, 3))
    for problem in (weighted, plain):
        engine = fbp.train.engine.engine_of(problem, lambda _: optax.sgd(0.1))
        state = engine.init(key, key, {})
        metrics = engine.measure(state, problem.parts["validation"])
        out = fbp.train.engine.loss_of(problem)(params, problem.parts["train"], key)
        values.append([*metrics.values(), out])
    np.testing.assert_allclose(*values, rtol=1e-5)


def load_problem_of_regression():
    from fbp.data import load

    return load("diabetes")


def test_several_targets_are_as_many_outputs(tmp_path):
    from fbp.train.objective import objective_for

    both = np.stack([Y, -Y], 1)
    data = {"train": (X[:64], both[:64]), "validation": (X[64:], both[64:])}
    problem = Problem(data, mlp([2]), objective_for("regression", 0, 2), optimizer=optax.sgd)
    summary = run(problem, out=tmp_path / "run", train=TRAIN, sweep=SWEEP)
    assert summary["metric"] == "r2"
    with pytest.raises(InputError, match=r"the network gives \[1\] numbers .* needs \[2\]"):
        run(replace(problem, init=mlp([1])), out=tmp_path / "x", train=TRAIN, sweep=SWEEP)


def batches_of(data, count=4):
    """The same batches as seed 0 would have without shuffling."""
    for i in range(count):
        yield jax.tree.map(lambda leaf: leaf[16 * i : 16 * (i + 1)], data)


def test_batches_of_an_iterator_are_those_of_the_steps_and_begin_again(tmp_path):
    source = Batches(lambda: batches_of(DATA["train"]))
    problem = replace(PROBLEM, data={**DATA, "train": source})
    train = {"steps": 6, "evaluate_every": 3}
    run(problem, out=tmp_path / "run", train=train, sweep=SWEEP)
    params = init(jax.random.split(jax.random.key(1), 3)[0])
    for i in (0, 1, 2, 3, 0, 1):
        batch = {name: leaf[16 * i : 16 * (i + 1)] for name, leaf in DATA["train"].items()}
        grads = gradient(params, batch, None)
        params = jax.tree.map(lambda p, g: p - np.float32(0.1) * g, params, grads)
    expected = loss(params, DATA["validation"], None)
    np.testing.assert_allclose(losses(tmp_path / "run")[3, 6], expected, rtol=1e-5)


class Loader:
    """As torch's DataLoader: iterated over anew for each epoch."""

    def __iter__(self):
        return batches_of(DATA["train"])


@pytest.mark.parametrize("make", [Loader, lambda: lambda: batches_of(DATA["train"])])
def test_loader_and_generator_function_are_batches(make):
    problem = replace(PROBLEM, data={**DATA, "train": make()})
    assert isinstance(problem.parts["train"], Batches)
    assert len(list(problem.parts["train"].make())) == 4


def test_optimizer_takes_what_the_sweep_lists(tmp_path):
    def optimizer(learning_rate, momentum):
        return optax.chain(optax.clip(1.0), optax.sgd(learning_rate, momentum))

    sweep = {**SWEEP, "hyperparameters": {"momentum": [0.0, 0.9]}}
    summary = run(
        replace(PROBLEM, optimizer=optimizer), out=tmp_path / "run", train=TRAIN, sweep=sweep
    )
    assert [entry["momentum"] for entry in summary["rates"]] == [0.0, 0.9, 0.0, 0.9]
    means = [entry["validation_loss"]["mean"] for entry in summary["rates"]]
    assert len(set(means)) == 4


OF_SEARCH = {
    "line search": optax.lbfgs,
    "second order": optax.contrib.sophia,
    "sharpness": lambda learning_rate: optax.contrib.sam(
        optax.sgd(learning_rate), optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    ),
    "rate of the loss": lambda learning_rate: optax.polyak_sgd(learning_rate),
    "updates of several batches": lambda learning_rate: optax.MultiSteps(
        optax.sgd(learning_rate), every_k_schedule=2
    ),
}


@pytest.mark.parametrize("optimizer", OF_SEARCH.values(), ids=OF_SEARCH)
def test_optimizer_of_the_callers_may_ask_for_the_loss_and_its_gradient(tmp_path, optimizer):
    out, problem = tmp_path / "run", replace(PROBLEM, optimizer=optimizer)
    with jax.numpy_dtype_promotion("standard"):  # optax's updates need it
        run(problem, out=out, train=TRAIN, sweep=SWEEP)
    first, last = losses(out)[3, 0], losses(out)[3, 6]
    assert last < first


def asks_for_its_rate(learning_rate):
    if learning_rate > 0.05:
        return optax.sgd(learning_rate)
    return optax.chain(optax.sgd(learning_rate), optax.scale(2.0))


@pytest.mark.parametrize("search", ["all", "halving"])
def test_optimizer_that_must_know_its_numbers_has_a_program_for_each_setting(
    tmp_path, search, capfd
):
    sweep = SWEEP | ({} if search == "all" else {"search": {"kind": "halving", "eta": 2}})
    told = replace(PROBLEM, optimizer=asks_for_its_rate)
    run(told, out=tmp_path / "told", train=TRAIN, sweep=sweep)
    assert "note: traced, optimizer fails at " in capfd.readouterr().err
    branches = lambda learning_rate: optax.sgd(
        learning_rate * jnp.where(learning_rate > 0.05, 1.0, 2.0)
    )
    run(replace(PROBLEM, optimizer=branches), out=tmp_path / "all", train=TRAIN, sweep=sweep)
    assert losses(tmp_path / "told") == pytest.approx(losses(tmp_path / "all"), rel=1e-6)


def test_optimizer_that_fails_is_told_with_its_line(tmp_path):
    fails = replace(PROBLEM, optimizer=lambda learning_rate: 1 / 0)
    with pytest.raises(InputError, match=r"optimizer fails at .*test_own_problem.py:\d+: ZeroDiv"):
        run(fails, out=tmp_path / "run", train=TRAIN, sweep=SWEEP)


def test_loss_with_a_loop_of_unknown_length_is_swept(tmp_path):
    def looped(params, batch, key):
        step = lambda carry: (jnp.tanh(carry[0]), carry[1] + 1)
        hidden = batch["x"] @ params["w"]
        hidden, _ = jax.lax.while_loop(lambda c: c[1] < jnp.max(batch["x"]), step, (hidden, 0.0))
        return jnp.mean((hidden - batch["y"]) ** 2)

    out = tmp_path / "run"
    summary = run(replace(PROBLEM, loss=looped), out=out, train=TRAIN, sweep=SWEEP)
    assert losses(out)[3, 6] < losses(out)[3, 0]
    assert summary["gradient_check"]["reference"] == "jax.jvp along a random direction"
    assert summary["gradient_check"]["max_ulps"] < 1000  # of a sum that cancels


def test_loss_that_does_nothing_is_swept(tmp_path):
    constant = replace(PROBLEM, loss=lambda params, batch, key: jnp.float32(1.0))
    summary = run(constant, out=tmp_path / "run", train=TRAIN, sweep=SWEEP | {"trials": "auto"})
    assert summary["best"]["validation_loss"]["mean"] == 1.0


def test_bias_before_a_batch_norm_is_trained(tmp_path):
    def normed(params, x):
        hidden = x @ params["w"] + params["b"][None, :]
        centered = hidden - hidden.mean(0, keepdims=True)
        return centered / jnp.sqrt((centered**2).mean(0, keepdims=True) + 1e-5) @ params["v"]

    def init(key):
        first, bias, last = jax.random.split(key, 3)
        return {
            "w": jax.random.normal(first, (3, 8)),
            "b": jax.random.normal(bias, (8,)),
            "v": jax.random.normal(last, (8,)),
        }

    def loss(params, batch, key):
        return jnp.mean((normed(params, batch["x"]) - batch["y"]) ** 2)

    problem = Problem(DATA, init, loss, optimizer=optax.sgd)
    summary = run(problem, out=tmp_path / "run", train=TRAIN, sweep=SWEEP)
    assert summary["gradient_check"]["rounding"] == ["params['b']"]
    assert summary["gradient_check"]["max_ulps"] < 64


def test_operations_of_a_problem_are_those_of_the_same_network_by_its_name():
    config = Config(
        "d", Data("digits"), MLP((8,)), Optimizer("sgd"), Train(10, 16, 10), Sweep((0.1,), 2)
    )
    (built_in,) = studies_of(config)
    network, dataset = built_in.problem.init, built_in.problem.data

    def own_loss(params, batch, key):
        out = network.apply(params, batch[0])
        return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(out, batch[1]))

    parts = {
        name: (getattr(dataset, name).x, getattr(dataset, name).y)
        for name in ("train", "validation")
    }
    problem = TrainProblem(
        parts, lambda key: network.init(key, (16, 64))[0], own_loss, optimizer=optax.sgd
    )
    (own,) = studies_of(replace(config, data=None, network=None, optimizer=None), problem)
    assert operations(own) == pytest.approx(operations(built_in), rel=0.01)


def test_way_of_a_problem_is_recorded(tmp_path):
    run(PROBLEM, out=tmp_path / "run", train=TRAIN, sweep=SWEEP)
    environment = read_environment(tmp_path / "run")
    assert environment["trials"]["0"]["kind"] == "map"
    assert environment["measures"]["columns"] == ["loss"]
