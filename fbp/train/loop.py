"""Training, as an introductory article tells it: read the body of `train`."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Key
from tqdm import tqdm

from fbp.data import Dataset
from fbp.hosts import is_first, put_global
from fbp.nn import Layer
from fbp.recording import Recording, recording_of
from fbp.train.batches import batch_indices
from fbp.train.checks import check_sizes
from fbp.train.engine import init_of, loss_of, measure_of
from fbp.train.fingerprint import arrays_fingerprint, program_fingerprint
from fbp.train.layout import Layout
from fbp.train.microbatches import mean_over_microbatches
from fbp.train.objective import check_fits, objective_of
from fbp.train.problem import Problem
from fbp.train.recorder import Recorder, numbers_of, recorded_update
from fbp.train.resume import Measurement, RunCheckpoints
from fbp.train.scan_steps import Examples, scan_steps
from fbp.train.sharding import (
    auto_mesh,
    data_mesh,
    shard_examples,
    sharded_forward,
    sharded_init,
    sharded_update,
)
from fbp.train.state import TrainState, initial_state
from fbp.train.step import Update, check_one_device, loss_and_grads_fn, make_update
from fbp.verify import Report, trace_program

Stop = Literal["steps", "target", "patience", "diverged"]


@dataclass(frozen=True)
class TrainResult:
    """The outcome of `train`.

    Attributes:
      state: the last state; with `patience`, the state of the lowest validation loss.
      history: the measurements, from before the first step on.
      stopped: why it ended.
      origin: where what is not finite came from, of a run of one process that diverged: its last
        steps, run again on one device. A finding's iteration counts the steps from the measurement
        before the last.
      last_steps: of a run that is recorded and diverged, its last steps one by one, run again.

    >>> import optax
    >>> from fbp.data import load
    >>> from fbp.nn import mlp
    >>> result = train(
    ...     mlp([10]), load("digits"), optax.sgd(0.5), key=jax.random.key(0), steps=2,
    ...     batch_size=32, evaluate_every=1,
    ... )
    >>> [measurement.step for measurement in result.history], result.stopped
    ([0, 1, 2], 'steps')
    """

    state: TrainState
    history: tuple[Measurement, ...]
    stopped: Stop
    origin: Report | None = None
    last_steps: Recording | None = None

    @property
    def recording(self) -> Recording:
        """What was recorded at the measurements; empty where nothing was."""
        rows = [m for m in self.history if m.layers is not None]
        return recording_of([m.step for m in rows], [m.layers or {} for m in rows])

    def __repr__(self) -> str:
        last = f", the last {self.history[-1]}" if self.history else ""
        return f"<TrainResult: {self.stopped}, {len(self.history)} measurements{last}>"

    def _repr_html_(self) -> str:
        from fbp.notebook import curves, folded, table

        numbers = [(m.step, m.training_loss, m.loss, m.score) for m in self.history]
        losses = {"training": [n[1] for n in numbers], "validation": [n[2] for n in numbers]}
        rows = [[step, *(f"{x:.4g}" for x in more)] for step, *more in numbers]
        titles = ["step", "training loss", "validation loss", "validation score"]
        count = f"{self.stopped}, {len(rows)} measurements"
        return curves([n[0] for n in numbers], losses) + folded(count, table(titles, rows))


def train(
    network: Layer,
    dataset: Dataset,
    tx: optax.GradientTransformation,
    *,
    key: Key[Array, ""],
    steps: int,
    batch_size: int,
    evaluate_every: int,
    target: float | None = None,
    patience: int | None = None,
    progress: bool = True,
    microbatches: int = 1,
    mesh: Mesh | None = None,
    layout: Layout = (),
    checkpoints: Path | None = None,
    memory: float | None = None,
    record: Recorder | None = None,
) -> TrainResult:
    """Train a network on a data set until its output is as desired, or the steps are done.

    Args:
      network: the layers, connected.
      dataset: gradients are of `dataset.train`, measurements of `dataset.validation`.
      tx: any optax transformation.
      key: what parameters, batches and dropout are drawn from.
      steps: number of steps at most.
      batch_size: examples for each step.
      evaluate_every: steps in one compiled call, after which the validation set is measured.
      target: stop when the validation score (accuracy or r2) is this high.
      patience: stop after this many measurements without a lower validation loss.
      progress: show a bar on a terminal.
      microbatches: parts of a batch that follow each other within a step, see
        `mean_over_microbatches`.
      mesh: devices, over whose axis `data` batches are divided; by default all of them, or as many
        as divide a part of a batch. On other numbers of devices the last digits differ.
      layout: how parameters are divided over the mesh, see `partition_specs`; by default they
        are replicated.
      checkpoints: a directory in which the run is saved as it goes. An interrupted run that is
        started again, by the same call, continues, bit for bit as if it had not been interrupted.
      memory: bytes of temporary memory that a gradient may need at most, as for
        `fbp.value_and_grad`; on a mesh of one device.
      record: look at each layer's gradient and update in the last step before each measurement;
        the other steps are compiled as without it.

    Returns:
      The last state, or the best one with `patience`, the measurements, and why training ended.

    Raises:
      InputError: network, data, batch size, mesh and layout do not fit each other, or the
        checkpoints are of another run; or no program meets the budget of memory, or it is
        given beside a mesh of several devices.

    >>> from fbp.data import load
    >>> from fbp.nn import mlp
    >>> outcome = train(
    ...     mlp([32, 10]), load("digits"), optax.sgd(0.5),
    ...     key=jax.random.key(0), steps=200, batch_size=32, evaluate_every=50, target=0.9,
    ... )
    >>> outcome.stopped
    'target'
    """
    # Build the network: its layers are connected, the data set the shape of its input.
    problem = Problem(dataset, network, objective := objective_of(dataset))
    check_sizes(problem, batch_size, dataset.name)
    init_key, order_key, step_key = jax.random.split(key, 3)
    mesh = _mesh(mesh, batch_size // microbatches, memory)

    # Draw weights and biases at random.
    draw = init_of(problem)
    init = sharded_init(lambda: initial_state(draw(init_key)[0], tx, step_key), mesh, layout)
    state = init()

    # Feed the input forward.
    outputs = jax.eval_shape(network.apply, state.params, dataset.train.x[:1])

    # Compare output and target.
    check_fits(outputs.shape, objective)
    loss_fn = loss_of(problem)

    # Carry the error back.
    loss_and_grads = mean_over_microbatches(loss_and_grads_fn(loss_fn, memory=memory), microbatches)

    # Adjust the parameters.
    update = make_update(loss_and_grads, tx)

    # Repeat until the output is as desired.
    sizes = {"examples": len(dataset.train), "batch_size": batch_size}
    batches = functools.partial(batch_indices, order_key, **sizes)
    on_mesh = lambda update: sharded_update(update, mesh, layout, microbatches)
    advance = _compiled_steps(on_mesh(update), batches, donate=patience is None)
    looked_at = record and on_mesh(recorded_update(loss_fn, tx, record, microbatches, memory))
    advance, recorded = _recorded_steps(advance, looked_at, batches)
    measure = _compiled_measure(problem, mesh)
    examples = shard_examples(dataset.train, mesh)
    stop = functools.partial(_stop, steps=steps, target=target, patience=patience)
    marks = checkpoints and _fingerprints(problem, update, state, batch_size, evaluate_every)
    saved = RunCheckpoints(checkpoints, patience is not None, key, **(marks or {}))
    run = functools.partial(_repeat, advance, measure, state, examples, stop)
    last, best, history, stopped = run(saved, steps, evaluate_every, progress and is_first())
    again = functools.partial(_last_steps, advance, recorded, init, examples, history, record)
    origin, final = again(update, batches) if stopped == "diverged" else (None, None)
    return TrainResult(last if patience is None else best, tuple(history), stopped, origin, final)


def _mesh(mesh: Mesh | None, examples: int, memory: float | None) -> Mesh:
    """Return the devices of a run: those given, or as many as divide so many examples."""
    mesh = data_mesh(examples) if mesh is None else mesh
    check_one_device(memory, mesh)
    return mesh


def _repeat(
    advance: Callable[..., Any],
    measure: Callable[..., Measurement],
    state: TrainState,
    examples: Examples,
    stop: Callable[[Sequence[Measurement]], Stop | None],
    saved: RunCheckpoints,
    steps: int,
    evaluate_every: int,
    show: bool,
) -> tuple[TrainState, TrainState, list[Measurement], Stop]:
    """Advance, measure and save until `stop`; return last and best state, history, and why."""
    history = [measure(state, 0, math.nan)]
    with saved, tqdm(total=steps, unit="step", disable=None if show else True) as bar:
        state, best, history = saved.resume(state, history)
        bar.update(history[-1].step)
        while (stopped := stop(history)) is None:
            count = min(evaluate_every, steps - history[-1].step)
            state, training = advance(state, examples, count)
            history.append(measure(state, history[-1].step + count, training))
            best = state if history[-1] is _lowest(history) else best
            bar.update(count)
            saved.maybe_save(state, best, history)
        saved.maybe_save(state, best, history, last=True)
    return state, best, history, stopped


def _fingerprints(
    problem: Problem, update: Update, state: TrainState, batch_size: int, evaluate_every: int
) -> dict[str, Any]:
    """Return what a run that resumes must have in common with the one that began."""
    one = jax.tree.map(lambda leaf: leaf[:1], problem.parts["train"])
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    programs = {"the network, the loss or the optimizer": program_fingerprint(update, shapes, one)}
    data = {
        f"data.{name}": arrays_fingerprint(problem.parts[name]) for name in ("train", "validation")
    }
    return {**data, **programs, "batch_size": batch_size, "evaluate_every": evaluate_every}


def _before_last(
    advance: Callable[..., Any],
    init: Callable[[], TrainState],
    examples: Examples,
    history: Sequence[Measurement],
) -> TrainState:
    """Run again to the measurement before the last."""
    state = init()
    for before, after in itertools.pairwise(history[:-1]):
        state, _ = advance(state, examples, after.step - before.step)
    return state


def _last_steps(
    advance: Callable[..., Any],
    recorded: Callable[..., Any] | None,
    init: Callable[[], TrainState],
    examples: Examples,
    history: Sequence[Measurement],
    record: Recorder | None,
    update: Update,
    batches: Callable[..., Any],
) -> tuple[Report | None, Recording | None]:
    """Run the last steps of a run that diverged again: trace them, and record each of them."""
    if len(history) == 1 or jax.process_count() > 1:
        return None, None
    tracing = _compiled_steps(update, batches, donate=False)
    state = _before_last(advance, init, examples, history)
    origin = _origin(tracing, state, examples, history)
    if recorded is None or record is None:
        return origin, None
    return origin, _final_steps(recorded, state, examples, history, record)


def _origin(
    tracing: Callable[..., Any],
    state: TrainState,
    examples: Examples,
    history: Sequence[Measurement],
) -> Report:
    """Trace the steps since the measurement before the last on one device."""
    count = history[-1].step - history[-2].step

    def last_steps(state: TrainState, examples: Examples) -> Any:
        return tracing(state, examples, count)

    return trace_program(last_steps, *jax.device_put((state, examples), jax.devices()[0]))


def _final_steps(
    recorded: Callable[..., Any],
    state: TrainState,
    examples: Examples,
    history: Sequence[Measurement],
    record: Recorder,
) -> Recording:
    """Record the last steps one by one."""
    first, last = history[-2].step, history[-1].step
    if not record.last:
        return recording_of([], [])
    _, (_, measures) = recorded(state, examples, last - first)
    steps = range(first + 1, last + 1)[-record.last :]
    shown = jax.tree.map(lambda x: np.asarray(x, np.float64)[-record.last :], measures)
    return Recording(tuple(steps), shown)


def _recorded_steps(
    advance: Callable[..., Any], update: Update | None, batches: Callable[..., Any]
) -> tuple[Any, Any]:
    """Return `advance` with its last step recorded, and what records each of many steps.

    The first returns `(state, (mean loss, measures))`, the second `(state, (losses, measures))`.
    Without an update that is looked at, there is nothing to record.
    """
    if update is None:
        return advance, None

    @functools.partial(jax.jit, static_argnums=2)
    def recorded(state: TrainState, training: Examples, count: int):
        return scan_steps(update, state, training, batches(state.step, count))

    def run(state: TrainState, training: Examples, count: int) -> tuple[TrainState, Any]:
        total = 0.0
        if count > 1:
            state, loss = advance(state, training, count - 1)
            total = (count - 1) * loss
        state, (losses, measures) = recorded(state, training, 1)
        mean = (total + losses[0]) / count
        return state, (mean, jax.tree.map(lambda x: x[0], measures))

    return run, recorded


def _compiled_steps(update: Update, batches: Callable[..., Any], donate: bool) -> Any:
    """Compile `(state, training data, count) -> (the state after count steps, their mean loss)`."""

    @functools.partial(jax.jit, static_argnums=2, donate_argnums=0 if donate else ())
    def advance(state: TrainState, training: Examples, count: int):
        state, losses = scan_steps(update, state, training, batches(state.step, count))
        return state, jnp.mean(losses)

    return advance


def _compiled_measure(problem: Problem, mesh: Mesh) -> Callable[..., Measurement]:
    """Compile the measurement of a state on the validation set, which is replicated."""
    network: Any = problem.init
    divided = Layer(network.init, sharded_forward(network.apply, mesh))
    metrics = jax.jit(measure_of(replace(problem, init=divided)))
    validation = put_global(problem.parts["validation"], NamedSharding(auto_mesh(mesh), P()))

    def measure(state: TrainState, step: int, training: Any) -> Measurement:
        values = metrics(state, validation)
        loss, score = float(values["loss"]), float(values[problem.metric_name])
        training_loss, layers = training if isinstance(training, tuple) else (training, None)
        layers = None if layers is None else numbers_of(layers)
        return Measurement(step, float(training_loss), loss, score, layers)

    return measure


def _lowest(history: Sequence[Measurement]) -> Measurement:
    return min(history, key=lambda measurement: measurement.loss)


def _stop(
    history: Sequence[Measurement], *, steps: int, target: float | None, patience: int | None
) -> Stop | None:
    """Return why training ends after these measurements; None where it continues."""
    last = history[-1]
    if not math.isfinite(last.loss):
        return "diverged"
    if target is not None and last.score >= target:
        return "target"
    since_lowest = len(history) - 1 - history.index(_lowest(history))
    if patience is not None and since_lowest >= patience:
        return "patience"
    return "steps" if last.step >= steps else None
