import functools
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbp import InputError
from fbp.config import MLP, Config, Data, Optimizer, Sweep, Train
from fbp.sweep.grid import grid_of, trials_of
from fbp.sweep.parallelism import Parallelism
from fbp.sweep.problem import load_problem
from fbp.sweep.program import make_program
from fbp.sweep.study import Study
from fbp.train import train
from fbp.train.sharding import data_mesh

CONFIG = Config(
    name="demo",
    data=Data("digits"),
    network=MLP((8,)),
    optimizer=Optimizer("sgd", {"momentum": 0.5}),
    train=Train(steps=20, batch_size=16, evaluate_every=10),
    sweep=Sweep((0.01, 0.1, 1e4), 2),
)
PROBLEM = load_problem(CONFIG)
STUDY = Study(CONFIG, PROBLEM, trials_of(CONFIG.sweep))


def run(config, parallelism=None):
    """Trials, their last states, and per trial the curve of validation losses."""
    trials = trials_of(config.sweep)
    program, grid = make_program(Study(config, PROBLEM, trials), parallelism), grid_of(trials)
    data = PROBLEM.data
    training, validation = (data.train.x, data.train.y), (data.validation.x, data.validation.y)
    states, measures = program.start(grid, validation)
    curves, every = [measures["loss"]], config.train.evaluate_every
    for start in range(0, config.train.steps, every):
        start = jnp.int32(start)
        states, _, measures, _ = program.advance(states, grid, start, training, validation, every)
        curves.append(measures["loss"])
    return trials, states, np.stack(curves, axis=1)


def alone(trial, tx, config=CONFIG):
    settings = {"steps": config.train.steps, "evaluate_every": config.train.evaluate_every}
    key = jax.random.key(trial.seed)
    outcome = train(
        PROBLEM.init,
        PROBLEM.data,
        tx,
        key=key,
        batch_size=16,
        progress=False,
        mesh=data_mesh(1),
        **settings,
    )
    return outcome.state.params, np.float32([m.loss for m in outcome.history])


@functools.cache
def alone_by_sgd(number):
    trial = trials_of(CONFIG.sweep)[number]
    return alone(trial, optax.sgd(trial.hyperparameters["learning_rate"], 0.5))


@pytest.fixture(scope="module")
def by_map():
    return run(replace(CONFIG, sweep=replace(CONFIG.sweep, trials="map")))


@pytest.fixture(scope="module")
def by_vmap():
    return run(CONFIG)


@pytest.fixture(scope="module")
def by_loop():
    return run(CONFIG, Parallelism("loop", devices=4))


@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("way", ["map", "loop"])
def test_mapped_or_looped_trial_is_the_same_trial_alone_bit_for_bit(by_map, by_loop, number, way):
    _, states, curves = by_map if way == "map" else by_loop
    params, curve = alone_by_sgd(number)
    np.testing.assert_array_equal(curves[number], curve)
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.tree.map(lambda leaf: leaf[number], states.train.params),
        params,
    )


def test_vmapped_trials_are_mapped_trials_to_rounding(by_map, by_vmap):
    alive = np.asarray(by_map[1].diverged_at) < 0
    np.testing.assert_allclose(by_vmap[2][alive], by_map[2][alive], rtol=2e-6)


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_trials_that_do_not_divide_over_the_devices_are_the_same_to_rounding(by_map, devices):
    _, states, curves = run(CONFIG, Parallelism("vmap", devices=devices))
    alive = np.asarray(by_map[1].diverged_at) < 0
    assert len(states.diverged_at) % devices == 0
    assert len(states.diverged_at.sharding.device_set) == devices
    np.testing.assert_allclose(curves[alive], by_map[2][alive], rtol=2e-6)


def test_parallelism_over_more_devices_than_are_present_is_refused():
    with pytest.raises(InputError, match="ran on 99 devices and here are 8"):
        make_program(STUDY, Parallelism("vmap", devices=99))


def test_compiled_loop_is_the_loop(by_loop):
    trials, parallelism = trials_of(CONFIG.sweep), Parallelism("loop", devices=4)
    program, grid, data = (
        make_program(STUDY, parallelism),
        grid_of(trials),
        PROBLEM.data,
    )
    training, validation = (data.train.x, data.train.y), (data.validation.x, data.validation.y)
    states, _ = program.start(grid, validation)
    arguments = (states, grid, program.draw(0, 10), training, validation)
    _, _, measures, _ = program.compile(*arguments)(*arguments)
    np.testing.assert_array_equal(measures["loss"], by_loop[2][:, 1])


def test_trials_mapped_in_groups_are_the_same_to_rounding(by_map):
    sweep = replace(CONFIG.sweep, trials="map", batch_size=3)
    _, _, curves = run(replace(CONFIG, sweep=sweep))
    alive = np.asarray(by_map[1].diverged_at) < 0
    np.testing.assert_allclose(curves[alive], by_map[2][alive], rtol=2e-6)


@pytest.mark.parametrize(
    ("at_a_time", "rtol", "devices"),
    [
        (1, 0.0, 1),
        (2, 2e-6, 2),
        pytest.param(1, 0.0, 2, marks=pytest.mark.slow),
        pytest.param(2, 2e-6, 1, marks=pytest.mark.slow),
    ],
)
def test_trials_of_a_seed_that_share_their_batches_are_the_same_trials(
    by_map, devices, at_a_time, rtol
):
    """Bit for bit one after another, to rounding side by side."""
    _, states, curves = run(CONFIG, Parallelism("seed", at_a_time, devices, CONFIG.sweep.seeds))
    alive = np.asarray(by_map[1].diverged_at) < 0
    assert len(states.diverged_at) == (8 if devices == 2 else 6)  # whole settings for each device
    np.testing.assert_allclose(curves[alive], by_map[2][alive], rtol)


def test_some_trials_of_a_seed_way_are_measured_as_all_are(by_map):
    """The test set is measured for those that did not diverge, be they fewer than the seeds."""
    states = jax.tree.map(lambda leaf: leaf[:1], by_map[1].train)
    split = PROBLEM.data.test.x, PROBLEM.data.test.y
    measured = [
        make_program(STUDY, way.of(1)).measure(states, split)
        for way in (Parallelism("map"), Parallelism("seed", 2, seeds=2))
    ]
    np.testing.assert_allclose(*(m["loss"] for m in measured), rtol=2e-6)
    assert measured[1]["loss"].shape == (1,)


def test_trials_of_a_seed_share_the_reading_of_their_batch():
    """One gather a step for a seed's trials; side by side each trial has its own."""
    grid, data = grid_of(trials_of(CONFIG.sweep)), PROBLEM.data
    training, validation = (data.train.x, data.train.y), (data.validation.x, data.validation.y)

    def read(parallelism):
        program = make_program(STUDY, parallelism)
        states = jax.eval_shape(program.start, grid, validation)[0]
        orders = jax.eval_shape(lambda start: program.draw(start, 10), 0)
        text = program.lower(states, grid, orders, training, validation).as_text()
        return {shape for shape in ("3x16x64xf32", "6x16x64xf32") if shape in text}

    assert read(Parallelism("vmap")) == {"6x16x64xf32"}
    assert read(Parallelism("seed", 3, 1, 2)) == set()


@pytest.mark.usefixtures("standard_promotion")
def test_swept_adam_trains_as_a_plain_adam_bit_for_bit():
    sweep = Sweep((0.001, 0.01), 1, trials="map")
    config = replace(CONFIG, optimizer=Optimizer("adam"), sweep=sweep)
    trials, states, curves = run(config)
    params, curve = alone(trials[1], optax.adam(0.01))
    np.testing.assert_array_equal(curves[1], curve)
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.tree.map(lambda leaf: leaf[1], states.train.params),
        params,
    )


@pytest.mark.parametrize("trials", ["vmap", "map"])
def test_diverged_trial_is_marked_at_its_step_and_hurts_no_other(by_vmap, by_map, trials):
    _, states, curves = by_vmap if trials == "vmap" else by_map
    diverged_at = np.asarray(states.diverged_at)
    assert (diverged_at[:4] == -1).all()
    assert ((diverged_at[4:] >= 1) & (diverged_at[4:] < 10)).all()
    assert np.isfinite(curves[:4]).all()


def test_seeds_differ_and_rates_of_one_seed_start_equal(by_map):
    _, _, curves = by_map
    start = curves[:, 0].reshape(3, 2)
    assert (start == start[0]).all()
    assert start[0, 0] != start[0, 1]


def test_parameters_are_drawn_once_for_a_seed():
    """The six trials of two seeds take two draws; one trial of many seeds takes one."""
    trials, validation = trials_of(CONFIG.sweep), PROBLEM.data.validation

    def draws(trials):
        start = make_program(STUDY, Parallelism("vmap")).start
        program = jax.jit(start).lower(grid_of(trials), (validation.x, validation.y)).as_text()
        lines = [line for line in program.splitlines() if "erf_inv" in line]
        return {re.search(r"tensor<(\d+)x", line).group(1) for line in lines}

    assert draws(trials) == {"2"}
    assert draws(trials[-1:]) == {"1"}


def test_memory_holds_the_states_of_mapped_trials_once():
    """They are replaced in their buffers, which are given up; a batch's values are far smaller."""
    grid, data = grid_of(trials_of(Sweep(tuple(range(1, 33)), 2))), PROBLEM.data
    program = make_program(STUDY, Parallelism("map"))
    training, validation = (data.train.x, data.train.y), (data.validation.x, data.validation.y)
    states = jax.eval_shape(program.start, grid, validation)[0]
    orders = jax.eval_shape(lambda start: program.draw(start, 10), 0)
    memory = program.lower(states, grid, orders, training, validation).compile().memory_analysis()
    assert memory.alias_size_in_bytes > 64 * 8 * 64 * 4  # the first layer's weights of 64 trials
    assert memory.temp_size_in_bytes < memory.alias_size_in_bytes


def test_other_hyperparameters_are_swept_too():
    sweep = Sweep((0.1,), 1, {"momentum": (0.0, 0.9)}, trials="map")
    config = replace(CONFIG, optimizer=Optimizer("sgd"), sweep=sweep)
    trials, _, curves = run(config)
    _, curve = alone(trials[1], optax.sgd(0.1, 0.9))
    np.testing.assert_allclose(curves[1], curve, rtol=1e-6)
    assert not np.allclose(curves[0, 1:], curves[1, 1:])


def test_sweep_is_traced_once_per_chunk_length():
    traces = []

    def counted(params, x, *, key=None):
        traces.append(x.shape)
        return PROBLEM.init.apply(params, x, key=key)

    network = type(PROBLEM.init)(PROBLEM.init.init, counted)
    program = make_program(replace(STUDY, problem=replace(PROBLEM, init=network)))
    grid, data = grid_of(trials_of(CONFIG.sweep)), PROBLEM.data
    training, validation = (data.train.x, data.train.y), (data.validation.x, data.validation.y)
    states, _ = program.start(grid, validation)
    for start in (0, 10):
        states, *_ = program.advance(states, grid, jnp.int32(start), training, validation, 10)
        if start == 0:
            count = len(traces)
    assert len(traces) == count
