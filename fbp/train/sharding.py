"""Many devices: divide the batch over the axis `data` of a mesh, the parameters by a layout."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fbp.data.dataset import Split
from fbp.errors import InputError
from fbp.train.batches import check_batch
from fbp.train.layout import Layout, describe_mesh, partition_specs
from fbp.train.scan_steps import Examples
from fbp.train.state import TrainState

DATA_AXIS = "data"


def data_mesh(batch_size: int) -> Mesh:
    """Make a mesh of all devices along `data`, or of as many as divide the batch.

    >>> dict(data_mesh(1).shape)
    {'data': 1}
    """
    devices = jax.devices()
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    return Mesh(np.array(devices[:count]), (DATA_AXIS,))


def state_shardings(tree: Any, params: Any, mesh: Mesh, layout: Layout) -> Any:
    """Return each leaf's sharding: that of the parameter it belongs to, or replicated.

    A leaf belongs to the parameter in whose path its own ends, if they have one shape: so do the
    moments of an optimizer's state, and gradients. Raises InputError as `partition_specs`.

    >>> import optax
    >>> params = {"kernel": np.ones((4, 2), np.float32)}
    >>> mesh = jax.make_mesh((1, 1), ("data", "model"))
    >>> state = optax.adam(0.1).init(params)
    >>> where = state_shardings(state, params, mesh, [("kernel", P(None, "model"))])
    >>> where[0].nu["kernel"].spec == P(None, "model"), where[0].count.spec == P()
    (True, True)
    """
    mesh = auto_mesh(mesh)
    specs = jax.tree.leaves(
        partition_specs(params, mesh, layout), is_leaf=lambda node: isinstance(node, P)
    )
    leaves = jax.tree_util.tree_leaves_with_path(params)
    spec_by_leaf = {
        (path, np.shape(leaf)): spec for (path, leaf), spec in zip(leaves, specs, strict=True)
    }

    def of(path: tuple, leaf: Any) -> NamedSharding:
        ends = ((path[i:], np.shape(leaf)) for i in range(len(path) + 1))
        return NamedSharding(
            mesh, next((spec_by_leaf[end] for end in ends if end in spec_by_leaf), P())
        )

    return jax.tree_util.tree_map_with_path(of, tree)


def sharded_init(
    make: Callable[..., TrainState], mesh: Mesh, layout: Layout = ()
) -> Callable[..., TrainState]:
    """Compile `make` so that each device makes only its own part of the state.

    No device holds the full state, as a model that is larger than one device needs.

    Args:
      make: returns a state.
      mesh: the devices.
      layout: how parameters are divided over them, see `partition_specs`.

    Returns:
      A function of `make`'s arguments, which returns the state as sharded arrays.

    Raises:
      InputError: by that function, as `partition_specs`.

    >>> import optax
    >>> from fbp.nn import mlp
    >>> from fbp.train import initial_state
    >>> def begin(key):
    ...     params, _ = mlp([32, 10]).init(key, (-1, 64))
    ...     return initial_state(params, optax.sgd(0.1), key)
    >>> mesh, layout = jax.make_mesh((1, 1), ("data", "model")), [("1_dense/bias", P("model"))]
    >>> state = sharded_init(begin, mesh, layout)(jax.random.key(0))
    >>> state.params["1_dense"]["bias"].sharding.spec == P("model")
    True
    """

    def init(*args: Any) -> TrainState:
        state = jax.eval_shape(make, *args)
        where = state_shardings(state, state.params, mesh, layout)
        return jax.jit(make, out_shardings=where)(*args)

    return init


def shard_batch(batch: Any, mesh: Mesh, microbatches: int = 1) -> Any:
    """Divide the batch over `data`: each device has an equal share of each microbatch.

    Raises InputError where the mesh has no such axis, the leaves differ in their number of
    examples, or it is no multiple of the devices times the microbatches.

    >>> shard_batch(np.ones((2, 3)), jax.make_mesh((1,), ("data",))).shape
    (2, 3)
    """
    check_batch(batch)
    devices = _along_data(mesh)
    parts = devices * microbatches
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        if np.shape(leaf)[0] % parts:
            raise InputError(
                f"batch{jax.tree_util.keystr(path)} has shape {list(np.shape(leaf))}: "
                f"{np.shape(leaf)[0]} examples do not divide into {microbatches} microbatches on "
                f"{devices} devices along {DATA_AXIS!r} of {describe_mesh(mesh)}; give a multiple "
                f"of {parts}, or fewer devices"
            )
    return jax.lax.with_sharding_constraint(batch, NamedSharding(auto_mesh(mesh), P(DATA_AXIS)))


def sharded_update(
    update: Callable[[TrainState, Any], tuple[TrainState, Any]],
    mesh: Mesh,
    layout: Layout = (),
    microbatches: int = 1,
) -> Callable[[TrainState, Any], tuple[TrainState, Any]]:
    """Return the same update, of a batch divided over `data` and a state as of `sharded_init`.

    The compiler inserts the devices' sums and exchanges. Raises InputError as `shard_batch` and
    `partition_specs`.

    >>> import optax
    >>> from fbp.train import initial_state
    >>> from fbp.train.step import make_update, loss_and_grads_fn
    >>> tx = optax.sgd(0.1)
    >>> update = make_update(loss_and_grads_fn(lambda params, x, key: (params * x).mean()), tx)
    >>> state = initial_state(np.float32(2.0), tx, jax.random.key(0))
    >>> on_devices = sharded_update(update, jax.make_mesh((1,), ("data",)))
    >>> state, loss = on_devices(state, np.array([3.0, 5.0], np.float32))
    >>> print(loss, state.params)
    8.0 1.6
    """

    def run(state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        state, loss = update(state, shard_batch(batch, mesh, microbatches))
        where = state_shardings(state, state.params, mesh, layout)
        return jax.lax.with_sharding_constraint(state, where), loss

    return run


def shard_examples(examples: Split, mesh: Mesh) -> Examples:
    """Divide the examples over `data`: each process reads only the rows of its own devices.

    Where their number does not divide, the last example is repeated at the end. What is read is
    sliced from the arrays, so that those of `numpy.load(file, mmap_mode="r")` stay on disk.

    >>> mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    >>> x, y = shard_examples(Split(np.ones((3, 5), np.float32), np.arange(3)), mesh)
    >>> x.addressable_data(0).shape, y.tolist()
    ((2, 5), [0, 1, 2, 2])
    """
    devices = _along_data(mesh)
    where = NamedSharding(auto_mesh(mesh), P(DATA_AXIS))

    def share(values: np.ndarray) -> jax.Array:
        count = len(values)
        rows = -(-count // devices) * devices

        def read(index: Any) -> np.ndarray:
            start, stop, _ = index[0].indices(rows)
            part = values[min(start, count - 1) : stop]
            missing = stop - start - len(part)
            return np.pad(part, [(0, missing), *[(0, 0)] * (part.ndim - 1)], mode="edge")

        return jax.make_array_from_callback((rows, *values.shape[1:]), where, read)

    return share(examples.x), share(examples.y)


def sharded_forward(forward: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Return the same `(params, x) -> outputs`, of examples that are divided over `data`.

    Examples whose number does not divide are replicated.
    """

    def run(params: Any, x: Any) -> Any:
        divides = len(x) % _along_data(mesh) == 0
        return forward(params, shard_batch(x, mesh) if divides else x)

    return run


def auto_mesh(mesh: Mesh) -> Mesh:
    """Return the same devices, with axes along which the compiler divides what no spec names.

    `jax.make_mesh` makes axes that every operation must name (`AxisType.Explicit`).

    >>> auto_mesh(jax.make_mesh((1,), ("data",))).axis_types
    (Auto,)
    """
    return Mesh(mesh.devices, mesh.axis_names)


def _along_data(mesh: Mesh) -> int:
    if DATA_AXIS not in mesh.axis_names:
        raise InputError(
            f"{describe_mesh(mesh)} has no axis {DATA_AXIS!r}, over which the batch is divided: "
            "name one so"
        )
    return mesh.shape[DATA_AXIS]
