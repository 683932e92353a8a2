"""What the trials of a config need: sizes, and the compiled update and sweep."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding

from fbp.plan.compiled import Cost, TooLarge, cost
from fbp.plan.devices import DeviceTarget
from fbp.plan.shapes import Size, by_layer, residual_sizes, total
from fbp.sweep.grid import grid_of
from fbp.sweep.parallelism import TRIALS_AXIS, Parallelism, configured
from fbp.sweep.problem import first_batch
from fbp.sweep.program import make_program
from fbp.sweep.study import Study
from fbp.train.engine import plain_loss
from fbp.train.state import TrainState


@dataclass(frozen=True)
class ResourcePlan:
    """What is known before anything runs.

    Attributes:
      target: the devices.
      trials: their number.
      parallelism: how they run.
      steps: of each trial in one call of the sweep's program.
      parameters: of one trial, by layer.
      optimizer: its state.
      residuals: what a gradient stores of its forward pass, by source line, the largest first.
      update: one update of one trial, on one device.
      sweep: the sweep's program, on each device.

    >>> from pathlib import Path
    >>> from fbp.config_file import load_config
    >>> from fbp.plan import local_target, plan
    >>> from fbp.sweep import studies_of
    >>> (study,) = studies_of(load_config(Path("configs/digits_mlp.toml")))
    >>> [size.name for size in plan(study, local_target()).parameters]
    ['1_dense', '3_dense']
    """

    target: DeviceTarget
    trials: int
    parallelism: Parallelism
    steps: int
    parameters: Sequence[Size]
    optimizer: Size
    residuals: Sequence[Size]
    update: Cost | TooLarge
    sweep: Cost | TooLarge


def plan(study: Study, target: DeviceTarget) -> ResourcePlan:
    """Plan what the trials of a study need on a target: compile for it, run nothing.

    Nothing is allocated but the data set, whose shapes count. With `trials = "auto"` the
    parallelism is `vmap`: which is fastest takes a measurement.

    Args:
      study: the trials.
      target: the devices.

    Returns:
      The plan, in bytes and floating-point operations.

    >>> from pathlib import Path
    >>> from fbp.config_file import load_config
    >>> from fbp.plan import local_target
    >>> from fbp.sweep import studies_of
    >>> (study,) = studies_of(load_config(Path("configs/digits_mlp.toml")))
    >>> plan(study, local_target()).optimizer.name
    'sgd'
    """
    problem, config = study.problem, study.config
    state, batch = shapes_of(study)
    loss_fn = plain_loss(problem, state.carried)
    parallelism = configured(config.sweep, len(study.trials))
    parallelism = replace(
        parallelism, devices=min(len(target.devices), len(study.trials) // parallelism.seeds)
    )
    steps = min(config.train.evaluate_every, config.train.steps)
    return ResourcePlan(
        target=target,
        trials=len(study.trials),
        parallelism=parallelism,
        steps=steps,
        parameters=by_layer(state.params),
        optimizer=total(state.opt_state, getattr(config.optimizer, "name", "optimizer")),
        residuals=residual_sizes(loss_fn, state.params, batch, state.key),
        update=cost(lowered_update(study, target)),
        sweep=cost(lowered_sweep(study, target, parallelism, steps)),
    )


def lowered_update(study: Study, target: DeviceTarget) -> jax.stages.Lowered:
    """Lower the update step of one trial, for one device."""
    state, batch = shapes_of(study)
    step = jax.jit(study.engine.update(study.trials[0].hyperparameters), donate_argnums=0)
    sharding = SingleDeviceSharding(target.devices[0])
    put = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    return step.lower(*jax.tree.map(put, (state, batch)))


def lowered_sweep(
    study: Study, target: DeviceTarget, parallelism: Parallelism, steps: int
) -> jax.stages.Lowered:
    """Lower the sweep's program, for as many devices as it is divided over."""
    mesh = Mesh(np.array(target.devices[: parallelism.devices]), (TRIALS_AXIS,))
    program, grid = make_program(study, parallelism, mesh), grid_of(study.trials)
    parts = study.problem.parts
    training, validation = (_as_shapes(parts[name]) for name in ("train", "validation"))
    states, _ = jax.eval_shape(program.start, grid, validation)
    orders = jax.eval_shape(lambda start: program.draw(start, steps), 0)
    return program.lower(*_as_shapes((states, grid, orders, training, validation)))


def shapes_of(study: Study) -> tuple[TrainState, Any]:
    """Return the shapes of a trial's state and of a batch."""
    state = study.engine.state_shapes(study.trials[0].hyperparameters)
    return state, _as_shapes(first_batch(study.problem, study.config.train.batch_size))


def _as_shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
