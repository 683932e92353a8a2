"""Training at many rates and from many starts, and finding the rate."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int32, Int64, Num
from tqdm import tqdm

from fbp.automl.parts import Fold
from fbp.automl.plan import MOST_STEPS, Plan
from fbp.automl.program import Training, Validation, advance, start
from fbp.automl.score import finite
from fbp.data.dataset import Task

LOWEST, DECADES = 1e-5, 5  # the range test's rates: 1e-5 to 1
RANGE_STEPS = 100
LEAST_ROWS, LEAST_VALIDATION = 256, 64  # in a compiled program
BELL = 0.25  # decades over which the loss of the range test is smoothed


@dataclass(frozen=True, eq=False)
class FoldedData:
    """What the trainings of a fit share.

    Attributes:
      task: `classification` or `regression`.
      plan: the network, and how it is trained.
      x, y: the rows to learn from, encoded.
      weights: how much each row counts; their mean is 1.
      folds: which rows train and which validate.
    """

    task: Task
    plan: Plan
    x: Float32[np.ndarray, "rows ..."]
    y: Num[np.ndarray, " rows"]
    weights: Float32[np.ndarray, " rows"]
    folds: Sequence[Fold]


@dataclass(frozen=True, eq=False)
class TrainedFolds:
    """What trainings left.

    Attributes:
      members: parameters of the lowest validation loss, one training along the first axis.
      lowest: that loss for each training, infinite where none was finite.
      training: loss of each step.
      validation: loss after each `every` steps.
    """

    members: Any
    lowest: Float[np.ndarray, " trials"]
    training: Float[np.ndarray, "trials steps"]
    validation: Float[np.ndarray, "trials measurements"]


@dataclass(frozen=True)
class RateRange:
    """The loss while the rate grows at every step, and the rate where it falls fastest."""

    rates: tuple[float, ...]
    losses: tuple[float | None, ...]
    suggestion: float


def train_folds(
    learning: FoldedData,
    rates: Float[np.ndarray, "trials steps"],
    fold: Int64[np.ndarray, " trials"],
    seed: int,
    title: str,
    progress: bool,
) -> TrainedFolds:
    """Train with the rates of each row, on the fold of each, until none improves any more.

    There are as many steps as rates, a multiple of `plan.every`; but training ends when no trial
    had a lower validation loss for `plan.patience` measurements.
    """
    plan, steps = learning.plan, rates.shape[1]
    training = Training(learning.task, plan.architecture, plan.vmapped, plan.weight_decay)
    trials = {
        "key": jax.random.split(jax.random.key(seed), len(rates)),
        "fold": jnp.asarray(fold, jnp.int32),
        "rates": jnp.asarray(_padded_rates(rates), jnp.float32),
    }
    rng = np.random.default_rng(seed)
    examples = jax.device_put(_padded_rows(learning))
    validation = _validation(learning.folds)
    orders = [_batches(f.train, plan.batch_size, plan.every, rng) for f in learning.folds]
    states = start(training, trials, examples)
    history, measured = [], []
    with tqdm(total=steps, unit="step", desc=title, disable=None if progress else True) as bar:
        while not _finished(measured, steps // plan.every, plan.patience):
            batches = np.stack([next(order) for order in orders])
            states, losses, loss = advance(
                training, states, trials, examples, jnp.asarray(batches), validation
            )
            history.append(np.asarray(losses))
            measured.append(np.asarray(loss))
            bar.update(plan.every)
    return TrainedFolds(
        members=states.best,
        lowest=np.asarray(states.best_loss, np.float64),
        training=np.concatenate(history, axis=1),
        validation=np.stack(measured, axis=1),
    )


def find_rate_range(learning: FoldedData, trials: int, seed: int) -> RateRange:
    """Find a usable rate: let it grow from 1e-5 to 1 over a hundred steps, and watch the loss.

    The median over the trials' starts is smoothed; the rate suggested is the one where it falls
    fastest by the logarithm of the rate. A bell smooths where the suggestions of
    `fbp.train.range_test` average what came before: twenty steps to a decade are enough, and
    what is averaged does not lag behind. As many trials as trainings come after it share their
    compiled program.

    Source: Smith 2017, Cyclical learning rates for training neural networks (3.3).
    """
    count = math.ceil(RANGE_STEPS / learning.plan.every) * learning.plan.every
    growing = LOWEST * np.logspace(0, DECADES, count)
    fold = np.arange(trials) % len(learning.folds)
    outcome = train_folds(
        learning, np.tile(growing, (trials, 1)), fold, seed, "range test", progress=False
    )
    losses = _smoothed(np.median(outcome.training, axis=0))
    shown = tuple(finite(loss) for loss in losses)
    return RateRange(tuple(growing.tolist()), shown, _steepest(growing, losses))


def cosine(peaks: Float[np.ndarray, " trials"], steps: int) -> Float[np.ndarray, "trials steps"]:
    """Rates that rise to their peak over the first twentieth, then fall to 0 as a cosine.

    >>> cosine(np.array([1.0]), 40)[0, [0, 1, 2, 39]].round(3)
    array([0.5  , 1.   , 0.998, 0.002])
    """
    warmup = max(1, steps // 20)
    rise = np.arange(1, warmup + 1) / warmup
    after = (np.arange(steps - warmup) + 1) / (steps - warmup + 1)
    shape = np.concatenate([rise, (1 + np.cos(np.pi * after)) / 2])
    return peaks[:, None] * shape[None, :]


def _batches(
    rows: np.ndarray, batch_size: int, steps: int, rng: np.random.Generator
) -> Iterator[Int32[np.ndarray, "steps batch"]]:
    """Yield the batches of `steps` steps, again and again: each epoch is a new permutation."""
    size, rest = steps * batch_size, np.array([], np.int32)
    while True:
        while len(rest) < size:
            rest = np.concatenate([rest, rng.permutation(rows).astype(np.int32)])
        yield rest[:size].reshape(steps, batch_size)
        rest = rest[size:]


def _padded_rates(rates: np.ndarray) -> Float[np.ndarray, "trials steps"]:
    """Rates that are never reached follow: trainings of any length share a program."""
    return np.pad(rates, ((0, 0), (0, max(0, MOST_STEPS - rates.shape[1]))))


def _padded_rows(learning: FoldedData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Append rows of zeros that no batch holds: small data share a program."""
    more = _power_of_two(len(learning.x), LEAST_ROWS) - len(learning.x)
    fill = lambda a: np.concatenate([a, np.zeros((more, *a.shape[1:]), a.dtype)])
    return fill(learning.x), fill(learning.y), fill(learning.weights)


def _validation(folds: Sequence[Fold]) -> Validation:
    size = _power_of_two(max(len(fold.validation) for fold in folds), LEAST_VALIDATION)
    rows, weights = np.zeros((len(folds), size), np.int32), np.zeros((len(folds), size), np.float32)
    for number, fold in enumerate(folds):
        rows[number, : len(fold.validation)] = fold.validation
        weights[number, : len(fold.validation)] = 1
    return Validation(jnp.asarray(rows), jnp.asarray(weights))


def _power_of_two(size: int, least: int) -> int:
    return 2 ** math.ceil(math.log2(max(size, least)))


def _finished(measured: Sequence[np.ndarray], most: int, patience: int) -> bool:
    if not measured:
        return False
    losses = np.stack(measured, axis=1)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    since_lowest = losses.shape[1] - 1 - losses.argmin(axis=1)
    return losses.shape[1] >= most or bool((since_lowest >= patience).all())


def _smoothed(losses: np.ndarray) -> Float[np.ndarray, " steps"]:
    """Return the mean around each step, weighted by a bell of a quarter of a decade of rates."""
    decades = np.linspace(0, DECADES, len(losses))
    weights = np.exp(-0.5 * ((decades[:, None] - decades[None, :]) / BELL) ** 2)
    known = np.isfinite(losses)
    weights = weights * known[None, :]
    smooth = weights @ np.where(known, losses, 0.0) / np.maximum(weights.sum(axis=1), 1e-30)
    return np.where(known, smooth, np.nan)


def _steepest(rates: np.ndarray, losses: np.ndarray) -> float:
    """Return the rate where the loss falls fastest by its logarithm; else the lowest one."""
    slope = np.gradient(losses, np.log(rates))
    return float(rates[np.argmin(np.where(np.isfinite(slope), slope, np.inf))])
