"""The data, the network and the metric, which all trials of a study share."""

from dataclasses import dataclass
from pathlib import Path

import jax

from fbp.config import CNN, Config
from fbp.data import Dataset, load
from fbp.errors import InputError
from fbp.nn import Layer
from fbp.sweep.networks import build_network
from fbp.train.batches import batch_indices
from fbp.train.objective import Objective, check_fits, mean_loss, objective_of
from fbp.verify import Agreement, compare_with_jax


@dataclass(frozen=True)
class SweepProblem:
    """The data and the network of a config, which fit each other.

    Attributes:
      dataset: the data, in three parts.
      network: the layers.
      objective: how outputs are compared with targets.
      in_shape: shape of a batch.
      metric: what trials are compared by on the validation set.
    """

    dataset: Dataset
    network: Layer
    objective: Objective
    in_shape: tuple[int, ...]
    metric: str


def load_problem(config: Config, dataset: Dataset | None = None) -> SweepProblem:
    """Load the data of a config and build its network; of axes, take the first values.

    Args:
      config: the config.
      dataset: its data, if they are loaded already.

    Returns:
      The problem.

    Raises:
      InputError: the data are missing or damaged, or data, network, batch size and metric do not
        fit each other.

    >>> from fbp.config_file import load_config
    >>> load_problem(load_config(Path("configs/digits_mlp.toml"))).metric
    'accuracy'
    """
    dataset = dataset or _load(config)
    objective = objective_of(dataset)
    metric = config.train.metric or objective.score
    if metric not in (objective.score, "loss"):
        raise InputError(
            f"train.metric is {metric}, but {dataset.name} is a {dataset.task}: "
            f"give {objective.score} or loss"
        )
    batch_size = config.train.batch_size
    if batch_size > len(dataset.train):
        raise InputError(
            f"train.batch_size is {batch_size}, but {dataset.name} has only "
            f"{len(dataset.train)} training examples"
        )
    if isinstance(config.network, CNN) and len(dataset.feature_shape) != 3:
        raise InputError(
            f"network.kind is cnn, but an example of {dataset.name} has shape "
            f"{list(dataset.feature_shape)}: set data.image = true if it is an image"
        )
    network = build_network(config.network, dataset.feature_shape, objective.outputs)
    in_shape = (batch_size, *dataset.feature_shape)
    check_fits(_out_shape(network, in_shape), objective)
    return SweepProblem(dataset, network, objective, in_shape, metric)


def check_gradient(problem: SweepProblem) -> Agreement:
    """Compare fbp's gradient with `jax.grad`'s, at the first batch and the parameters of seed 0.

    Returns:
      The agreement, in ULPs.

    Raises:
      InputError: they disagree: nothing should then be trained.

    >>> from fbp.config_file import load_config
    >>> check_gradient(load_problem(load_config(Path("configs/digits_mlp.toml")))).agrees
    True
    """
    init_key, order_key, step_key = jax.random.split(jax.random.key(0), 3)
    params, _ = problem.network.init(init_key, problem.in_shape)
    train = problem.dataset.train
    (index,) = batch_indices(order_key, 0, 1, len(train), problem.in_shape[0])
    batch = (train.x[index], train.y[index])
    loss_fn = mean_loss(problem.network.apply, problem.objective)
    agreement = compare_with_jax(loss_fn, params, batch, jax.random.fold_in(step_key, 0))
    if not agreement.agrees:
        raise InputError(f"the gradient is wrong, nothing was trained: {agreement}")
    return agreement


def _load(config: Config) -> Dataset:
    data = config.data
    directory = None if data.directory is None else Path(data.directory)
    return load(
        data.name,
        directory=directory,
        target=data.target,
        seed=data.seed,
        image=data.image,
        task=data.task,
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
