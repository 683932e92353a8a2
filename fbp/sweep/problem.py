"""From a config to the problem that all trials of a study share, and its gradient checked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from fbp.compile_options import jit_to_run_once
from fbp.config import CNN, Config, Imported, Optimizer
from fbp.data import Dataset, load
from fbp.errors import InputError
from fbp.nn import Layer
from fbp.optimizers import SCHEDULE_FREE
from fbp.sweep.batches import BatchReader
from fbp.sweep.imported import as_layer, call_imported, partial_imported, positional
from fbp.sweep.networks import build_network
from fbp.train.batches import batch_indices
from fbp.train.checks import check_sizes
from fbp.train.engine import init_of, keys_of, plain_loss
from fbp.train.objective import Objective, check_fits, objective_for, objective_of
from fbp.train.optimizer import averaged_params
from fbp.train.problem import Batches, Problem
from fbp.verify import Agreement, compare_with_jax

CHECKED = 32  # examples that a gradient is compared on, where no batch size is known
Data = Any  # a Dataset, or the parts that Problem takes


def load_problem(config: Config, data: Data = None) -> Problem:
    """Load the data of a config and build its network; of axes, take the first values.

    Args:
      config: the config.
      data: its data, if they are loaded already.

    Returns:
      The problem.

    Raises:
      InputError: the data are missing or damaged, or data, network, batch size and metric do not
        fit each other; what is imported is missing, or fails.

    >>> from fbp.config_file import load_config
    >>> load_problem(load_config(Path("configs/digits_mlp.toml"))).metric_name
    'accuracy'
    """
    if config.problem is not None:
        problem = call_imported(config.problem, "problem")
        if not isinstance(problem, Problem):
            raise InputError(
                f"problem.import: {config.problem.path} returns a {type(problem).__name__}: "
                "return a Problem"
            )
    else:
        problem = _assembled(config, load_data(config) if data is None else data)
    problem = with_settings(config, problem)
    check_sizes(problem, config.train.batch_size, name_of(problem))
    object.__setattr__(problem, "config", config)
    return problem


def with_settings(config: Config, problem: Problem) -> Problem:
    """Return the problem with the metric and the optimizer of a config, where it names them."""
    train, changes = config.train, {}
    if train.metric is not None:
        changes |= {"metric": train.metric}
    if train.higher_is_better is not None:
        changes |= {"higher_is_better": train.higher_is_better}
    if isinstance(config.optimizer, Imported) and problem.optimizer is None:
        changes |= {"optimizer": partial_imported(config.optimizer, "optimizer")}
    if isinstance(config.optimizer, Optimizer) and config.optimizer.name in SCHEDULE_FREE:
        changes |= {"eval_params": averaged_params}
    changed = replace(problem, **changes) if changes else problem
    if config.optimizer is None and changed.optimizer is None:
        raise InputError("optimizer: this is missing: give one to the Problem, such as optax.adam")
    if isinstance(changed.loss, Objective) and changed.metrics is None:
        _check_metric(changed)
    return changed


def load_data(config: Config) -> Data:
    """Load or import the data of a config."""
    if isinstance(config.data, Imported):
        return call_imported(config.data, "data")
    assert config.data is not None
    data = config.data
    return load(
        data.name,
        directory=None if data.directory is None else Path(data.directory),
        target=data.target,
        seed=data.seed,
        image=data.image,
        task=data.task,
    )


def name_of(problem: Problem) -> str:
    """Return the name of a problem's data, for messages."""
    return problem.data.name if isinstance(problem.data, Dataset) else "data"


def first_batch(problem: Problem, batch_size: int, key: Any = None) -> Any:
    """Return the first batch of a problem, of seed 0 where no key of the order is given."""
    train = problem.parts["train"]
    if isinstance(train, Batches):
        batches = BatchReader(train).read(0, 1)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), batches)
    order_key = keys_of(0)[1] if key is None else key
    count = len(jax.tree.leaves(train)[0])
    draw = jax.jit(batch_indices, static_argnums=(1, 2, 3, 4))  # op by op it takes ten times longer
    (index,) = draw(order_key, 0, 1, count, min(batch_size, count))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], train)


def check_gradient(problem: Problem, batch_size: int | None = None) -> Agreement:
    """Compare fbp's gradient with `jax.grad`'s, at the first batch and the parameters of seed 0.

    Args:
      problem: what is trained.
      batch_size: of the batch; by default that of `in_shape`, or 32.

    Returns:
      The agreement, in ULPs.

    Raises:
      InputError: they disagree: nothing should then be trained.

    >>> from fbp.config_file import load_config
    >>> check_gradient(load_problem(load_config(Path("configs/digits_mlp.toml")))).agrees
    True
    """
    init_key, _, step_key = keys_of(0)
    init = init_of(problem)
    if isinstance(problem.init, Layer):
        init = jit_to_run_once(init)
    params, carried = init(init_key)
    batch = first_batch(problem, batch_size or max((problem.in_shape or (0,))[0], 0) or CHECKED)
    loss_fn = plain_loss(problem, carried)
    agreement = compare_with_jax(loss_fn, params, batch, jax.random.fold_in(step_key, 0))
    if not agreement.agrees:
        raise InputError(f"the gradient is wrong, nothing was trained: {agreement}")
    return agreement


def _assembled(config: Config, data: Data) -> Problem:
    """Put data, network, loss and metrics of a config together."""
    metrics = None if config.metrics is None else partial_imported(config.metrics, "metrics")
    loss = None if config.loss is None else partial_imported(config.loss, "loss")
    if loss is not None and positional(loss) > 2:
        network = _network_or_init(config)
        return Problem(data, network, loss, metrics=metrics)
    objective = _objective(data, loss)
    if isinstance(config.network, Imported):
        network = as_layer(call_imported(config.network, "network"))
    else:
        network = _named_network(config, data, objective)
    in_shape = (config.train.batch_size, *_feature_shape(data))
    check_fits(_out_shape(network, in_shape), objective)
    return Problem(data, network, objective, in_shape, metrics=metrics)


def _network_or_init(config: Config) -> Any:
    if not isinstance(config.network, Imported):
        raise InputError(
            "loss: one of params, batch and key takes a network of its own: give [network] import "
            "= ..., which returns init(key) -> params; or a loss of outputs and targets"
        )
    drawn = call_imported(config.network, "network")
    return drawn if callable(drawn) and not isinstance(drawn, Layer) else as_layer(drawn)


def _objective(data: Data, loss: Any) -> Objective:
    if isinstance(data, Dataset):
        objective = objective_of(data)
    else:
        y = data["train"][1]
        integers = jnp.issubdtype(jnp.result_type(y), jnp.integer)
        classes = int(jnp.max(y)) + 1 if integers else 0
        targets = y.shape[1] if jnp.ndim(y) == 2 else 1
        task = "classification" if integers else "regression"
        objective = objective_for(task, classes, targets)
    return objective if loss is None else replace(objective, losses=loss)


def _named_network(config: Config, data: Data, objective: Objective) -> Layer:
    shape = _feature_shape(data)
    if isinstance(config.network, CNN) and len(shape) != 3:
        name = data.name if isinstance(data, Dataset) else "data"
        raise InputError(
            f"network.kind is cnn, but an example of {name} has shape {list(shape)}: set "
            "data.image = true if it is an image"
        )
    network: Any = config.network
    return build_network(network, shape, objective.outputs)


def _feature_shape(data: Data) -> tuple[int, ...]:
    return data.feature_shape if isinstance(data, Dataset) else jnp.shape(data["train"][0])[1:]


def _check_metric(problem: Problem) -> None:
    objective: Any = problem.loss
    if problem.metric_name not in (objective.score, "loss"):
        name, task = name_of(problem), problem.task
        raise InputError(
            f"train.metric is {problem.metric_name}, but {name} is a {task}: "
            f"give {objective.score} or loss"
        )


def _out_shape(network: Layer, in_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the network's output, without drawing a parameter."""
    shapes = []

    def trace(key):
        params, out_shape = network.init(key, in_shape)
        shapes.append(out_shape)
        return params

    jax.eval_shape(trace, jax.random.key(0))
    return shapes[0]
