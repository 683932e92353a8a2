"""What the trials of a config need: sizes, and the compiled update and sweep."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding

from fbp.plan.compiled import Cost, TooLarge, cost
from fbp.plan.shapes import Size, by_layer, residuals, total
from fbp.plan.target import Target
from fbp.sweep.cohort import Cohort
from fbp.sweep.grid import grid_of
from fbp.sweep.mapping import AXIS, Mapping, given
from fbp.sweep.program import make_program
from fbp.train.objective import mean_loss
from fbp.train.optimizer import make_optimizer
from fbp.train.state import TrainState, initial_state
from fbp.train.step import make_step


@dataclass(frozen=True)
class Plan:
    """What is known before anything runs.

    Attributes:
      target: the devices.
      trials: their number.
      how: the way from one trial to all.
      steps: of each trial in one call of the sweep's program.
      parameters: of one trial, by layer.
      optimizer: its state.
      residuals: what a gradient keeps of its forward pass, by source line, the largest first.
      update: one update of one trial, on one device.
      sweep: the sweep's program, on each device.
    """

    target: Target
    trials: int
    how: Mapping
    steps: int
    parameters: Sequence[Size]
    optimizer: Size
    residuals: Sequence[Size]
    update: Cost | TooLarge
    sweep: Cost | TooLarge


def plan(cohort: Cohort, target: Target) -> Plan:
    """What the trials of a cohort need on a target: compiled for it, but not run.

    Nothing is allocated but the data set, whose shapes count. With `trials = "auto"` the way is
    `vmap`: which is fastest takes a measurement.
    """
    problem, config = cohort.problem, cohort.config
    state, batch = _shapes(cohort)
    loss_fn = mean_loss(problem.network.apply, problem.objective)
    how = given(config.sweep, len(cohort.trials))
    how = replace(how, devices=min(len(target.devices), len(cohort.trials) // how.seeds))
    steps = min(config.train.evaluate_every, config.train.steps)
    return Plan(
        target=target,
        trials=len(cohort.trials),
        how=how,
        steps=steps,
        parameters=by_layer(state.params),
        optimizer=total(state.opt_state, config.optimizer.name),
        residuals=residuals(loss_fn, state.params, batch, state.key),
        update=cost(lowered_update(cohort, target)),
        sweep=cost(lowered_sweep(cohort, target, how, steps)),
    )


def lowered_update(cohort: Cohort, target: Target) -> jax.stages.Lowered:
    """The update step of one trial, for one device."""
    problem = cohort.problem
    step = make_step(mean_loss(problem.network.apply, problem.objective), _optimizer(cohort))
    place = SingleDeviceSharding(target.devices[0])
    put = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
    return step.lower(*jax.tree.map(put, _shapes(cohort)))


def lowered_sweep(cohort: Cohort, target: Target, how: Mapping, steps: int) -> jax.stages.Lowered:
    """The sweep's program, for as many devices as it is divided over."""
    mesh = Mesh(np.array(target.devices[: how.devices]), (AXIS,))
    program, grid = make_program(cohort.config, cohort.problem, how, mesh), grid_of(cohort.trials)
    dataset = cohort.problem.dataset
    training, validation = (_as_shapes((s.x, s.y)) for s in (dataset.train, dataset.validation))
    states, _ = jax.eval_shape(program.start, grid, validation)
    orders = jax.eval_shape(lambda: program.draw(0, steps))
    return program.lower(*_as_shapes((states, grid, orders, training, validation)))


def _optimizer(cohort: Cohort) -> Any:
    config, (first, *_) = cohort.config, cohort.trials
    return make_optimizer(config.optimizer, config.train, first.hyperparameters)


def _shapes(cohort: Cohort) -> tuple[TrainState, Any]:
    """Of a trial's state and of a batch."""
    problem, tx = cohort.problem, _optimizer(cohort)
    size, train = problem.in_shape[0], problem.dataset.train

    def start(key: Any) -> TrainState:
        params, _ = problem.network.init(key, problem.in_shape)
        return initial_state(params, tx, key)

    state = jax.eval_shape(start, jax.random.key(0))
    return state, _as_shapes((train.x[:size], train.y[:size]))


def _as_shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
