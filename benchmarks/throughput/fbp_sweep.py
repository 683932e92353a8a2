"""fbp's sweep, as `fbp sweep` runs it: all trials in one program, run the way that is fastest here.

The way is chosen as for a long sweep (`steps` of the config); its measurement and its compilation
are part of the first call. The validation set is one example, since no contender measures; the
batches are given, as to all contenders: what drawing them takes is noted.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.throughput.work import BATCH, CLASSES, RATES, Work
from fbp.config import CNN, MLP, Config, Data, Optimizer, Sweep, Train
from fbp.data import Dataset, Split
from fbp.sweep.autotuning import autotune
from fbp.sweep.grid import grid_of
from fbp.sweep.networks import build_network
from fbp.sweep.parallelism import Parallelism
from fbp.sweep.program import make_program
from fbp.sweep.study import Study, studies_of
from fbp.train.objective import objective_of
from fbp.train.problem import Problem

LONG = 100_000  # steps of a sweep for which it pays to try every way


def sweep(work: Work) -> Callable[[], str]:
    """All trials; says how they were run."""
    (study,) = studies_of(config_of(work), problem_of(work))
    parallelism, _ = autotune(study)
    train, draw = run_of(work, study, parallelism)
    drawing = _seconds(draw)
    groups = f" {parallelism.batch_size} at a time" if parallelism.batch_size > 1 else ""
    way = f"{parallelism.kind}{groups}, {parallelism.devices} devices; drawing {drawing:.3f} s"

    def run() -> str:
        train()
        return way

    return run


def run_of(
    work: Work, study: Study, parallelism: Parallelism
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return what draws the parameters and trains all trials, and what draws the batches."""
    program, grid = make_program(study, parallelism), grid_of(study.trials)
    validation = (work.x[:1], work.y[:1])
    data = jax.device_put(((work.x, work.y), validation), parallelism.replicated)
    orders = jax.device_put(jnp.asarray(work.orders), parallelism.replicated)
    train = program.compile(program.start(grid, validation)[0], grid, orders, *data)

    def run() -> Any:
        states, _ = program.start(grid, validation)
        return jax.block_until_ready(train(states, grid, orders, *data))

    return run, lambda: program.draw(0, work.steps)


def _seconds(call: Callable[[], Any]) -> float:
    """Of the second call, without compilation."""
    jax.block_until_ready(call())
    begin = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - begin


def config_of(work: Work) -> Config:
    """Return the sweep as a config."""
    mlp = MLP((work.hidden,))
    return Config(
        name="benchmark",
        data=Data("fashion_mnist"),
        network=mlp if work.kind == "mlp" else CNN(work.channels, (work.hidden,)),
        optimizer=Optimizer("adam"),
        train=Train(LONG, BATCH, LONG),
        sweep=Sweep(RATES, work.seeds, trials="auto"),
    )


def problem_of(work: Work, measured: int = 1) -> Problem:
    """Return the data, of which so many examples are measured, and the network."""
    train, few = Split(work.x, work.y), Split(work.x[:measured], work.y[:measured])
    shape = work.x.shape[1:]
    dataset = Dataset("fashion_mnist", train, few, few, "classification", CLASSES, shape)
    described: Any = config_of(work).network
    network = build_network(described, shape, CLASSES)
    return Problem(dataset, network, objective_of(dataset), (BATCH, *shape), "accuracy")
