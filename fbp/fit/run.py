"""A fit, as an introductory article tells it: read the body of `fit_network`."""

import time
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Float32, Num

from fbp.data.scaling import mean_and_std
from fbp.data.target import (
    MOST_CODES,
    MOST_IMAGE_CODES,
    Labels,
    Target,
    TaskName,
    labels_of,
    target_of,
    target_values,
)
from fbp.errors import InputError
from fbp.fit.encode import Encoder, SoundEncoder, TableEncoder, encode, learn_encoder
from fbp.fit.fitted import Fitted
from fbp.fit.inputs import Inputs, Table, inputs_of
from fbp.fit.model import Model, predicted_values, probabilities
from fbp.fit.parts import folds, hold_out
from fbp.fit.plan import Plan, plan_for
from fbp.fit.program import Problem
from fbp.fit.score import Score, best_constant, constant_loss, score_of
from fbp.fit.search import FoldedData
from fbp.fit.story import Story, curve_of
from fbp.fit.train import Trained, train_networks

LEAST_ROWS = 5
LEAST_LEARNING = 4  # two folds with two rows to train on
FEW_ROWS = 100


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows to learn from, or for the test: features, targets and weights."""

    x: Float32[np.ndarray, "rows ..."]
    y: Num[np.ndarray, " rows"]
    weights: Float[np.ndarray, " rows"]

    def __len__(self) -> int:
        return len(self.y)


def fit_network(
    x: Any,
    y: Any,
    *,
    task: TaskName | None,
    test: float | tuple[Any, Any],
    seed: int,
    target_name: str,
    sample_weight: Any,
    progress: bool,
) -> Fitted:
    """See `fbp.fit`."""
    begin = time.perf_counter()

    # What is given, and what is to be predicted?
    inputs = inputs_of(x)
    labels = y if isinstance(y, Labels) else labels_of(y, target_name)
    _check_rows(inputs, labels)
    weights = _weights(sample_weight, labels.total)
    labels = _counting(labels, weights)
    codes = MOST_CODES if isinstance(inputs, Table) else MOST_IMAGE_CODES
    target = target_of(labels, task, target_name, most_codes=codes)
    inputs, weights = _labelled(inputs, labels, weights)

    # Keep some rows for the test, and make a number near 0 of everything.
    rows, test_rows = _apart(target, test, seed)
    encoder, notes, features = learn_encoder(inputs, rows)
    learning = Examples(features[rows], target.values[rows], _normalized(weights[rows]))
    if isinstance(test, tuple):
        unseen = _given_test(encoder, target, test)
    else:
        unseen = Examples(features[test_rows], target.values[test_rows], weights[test_rows])
    target = replace(target, values=learning.y)
    mean, std = _scale(target, learning.weights)

    # Choose a network that suits the data, and how to train it.
    plan = plan_for(len(learning), learning.x.shape[1:], max(1, len(target.classes)))
    folded = _folded(plan, target, learning, mean, std, seed)

    # Find the rate that trains it best; keep the networks trained with it.
    usual = constant_loss(target, learning.weights)
    trained = train_networks(plan, folded, usual, seed, progress)
    parts = (target.task, target_name, target.classes, encoder, plan.architecture)
    model = Model(*parts, trained.outcome.members, mean, std)

    # Measure it on rows that it has never seen.
    if len(unseen):
        truth, (predicted, shares) = unseen.y, _predict(model, unseen.x)
    else:
        truth, (predicted, shares) = learning.y, _out_of_fold(model, folded)
    part = "test" if len(unseen) else "validation"
    constant = best_constant(target)
    score = score_of(target.task, truth, predicted, constant, part, seed, shares)

    facts = _facts(model, plan, trained, len(learning))
    more = _notes(trained, len(learning), score)
    story = Story(
        **facts,
        seed=seed,
        constant_loss=usual,
        score=score,
        truth=tuple(truth.tolist()),
        predicted=tuple(predicted.tolist()),
        notes=(*target.notes, *notes, *more),
        seconds=time.perf_counter() - begin,
    )
    return Fitted(model, story)


def _facts(model: Model, plan: Plan, trained: Trained, rows: int) -> dict[str, Any]:
    """What a story tells of the model and its training."""
    return {
        "task": model.task,
        "target": model.target_name,
        "classes": tuple(map(str, model.classes)),
        "inputs": _described(model.encoder),
        "rows": rows,
        "plan": plan,
        "parameters": sum(leaf[0].size for leaf in jax.tree.leaves(model.members)),
        "starts": trained.starts,
        "range_test": trained.range_test,
        "rates": trained.rates,
        "rate": trained.rate,
        "curve": curve_of(trained.outcome, plan.every),
    }


def _check_rows(inputs: Inputs, labels: Labels) -> None:
    if len(inputs) != labels.total:
        raise InputError(f"x has {len(inputs)} rows, y {labels.total}: give a target for each row")


def _weights(sample_weight: Any, rows: int) -> Float[np.ndarray, " rows"]:
    if sample_weight is None:
        return np.ones(rows)
    weights = np.asarray(sample_weight, np.float64)
    if weights.ndim == 0:
        weights = np.full(rows, weights)
    if weights.shape != (rows,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise InputError(
            f"sample_weight has shape {weights.shape}: give a finite weight of 0 or more for each "
            f"of {rows} rows"
        )
    return weights


def _counting(labels: Labels, weights: np.ndarray) -> Labels:
    """The targets of rows whose weight is not 0; InputError where they are too few."""
    if not weights.any():
        raise InputError("sample_weight is zero in every row: give rows that count")
    counts = weights[labels.rows] > 0
    if 0 < counts.sum() < LEAST_ROWS:
        raise InputError(
            f"too few rows, n_samples = {counts.sum()}: give at least {LEAST_ROWS}, better hundreds"
        )
    return replace(labels, values=labels.values[counts], rows=labels.rows[counts])


def _labelled(
    inputs: Inputs, labels: Labels, weights: np.ndarray
) -> tuple[Inputs, Float[np.ndarray, " known"]]:
    """The rows that have a target, and their weights."""
    same = len(labels.rows) == len(inputs)
    return inputs if same else inputs[labels.rows], weights[labels.rows]


def _normalized(weights: np.ndarray) -> Float32[np.ndarray, " rows"]:
    return (weights / weights.mean()).astype(np.float32)


def _apart(
    target: Target, test: float | tuple[Any, Any], seed: int
) -> tuple[Num[np.ndarray, " learning"], Num[np.ndarray, " test"]]:
    """The rows to learn from, and those for the test."""
    if isinstance(test, tuple):
        return np.arange(len(target.values)), np.array([], np.int64)
    if not 0 <= test < 1:
        raise InputError(f"test is {test}: give the share of rows to keep apart, such as 0.2")
    rows, test_rows = hold_out(_strata(target), test, np.random.default_rng(seed))
    if len(rows) < LEAST_LEARNING:
        raise InputError(
            f"test is {test}, which leaves {len(rows)} rows to learn from: give at least "
            f"{LEAST_LEARNING}"
        )
    return rows, test_rows


def _given_test(encoder: Encoder, target: Target, test: tuple[Any, Any]) -> Examples:
    x, y = inputs_of(test[0]), labels_of(test[1], "the test's y")
    if len(x) != y.total:
        raise InputError(f"the test's x has {len(x)} rows, its y {y.total}: give as many")
    if len(y.rows) < y.total:
        x = x[y.rows]
    if not len(y.rows):
        raise InputError("the test's y has no value: give at least one")
    return Examples(encode(encoder, x), _test_values(target, y.values), np.ones(len(y.rows)))


def _test_values(target: Target, labels: np.ndarray) -> Num[np.ndarray, " test"]:
    if target.task == "regression":
        return target_values(labels, "the test's y")
    unknown = [label for label in np.unique(labels) if label not in target.classes]
    if unknown:
        raise InputError(f"the test's y holds {unknown[0]!s}, a class that no row of y has")
    return np.searchsorted(target.classes, labels).astype(np.int32)


def _strata(target: Target) -> Num[np.ndarray, " rows"]:
    """Classes are divided alike; the rows of a regression at random."""
    return target.values if target.task == "classification" else np.zeros(len(target.values), int)


def _scale(target: Target, weights: np.ndarray) -> tuple[float, float]:
    if target.task == "classification":
        return 0.0, 1.0
    mean, std = mean_and_std(target.values)
    if (weights == weights[0]).all():
        return mean, std
    mean = float(np.average(target.values, weights=weights))
    std = float(np.sqrt(np.average((target.values - mean) ** 2, weights=weights)))
    return mean, std if std > 0 else 1.0


def _folded(
    plan: Plan, target: Target, learning: Examples, mean: float, std: float, seed: int
) -> FoldedData:
    regression = target.task == "regression"
    return FoldedData(
        problem=Problem(
            target.task,
            plan.architecture,
            (plan.batch_size, *learning.x.shape[1:]),
            plan.vmapped,
            plan.weight_decay,
        ),
        x=learning.x,
        y=((learning.y - mean) / std).astype(np.float32) if regression else learning.y,
        weights=np.asarray(learning.weights, np.float32),
        folds=folds(_strata(target), plan.members, np.random.default_rng(seed)),
        batch_size=plan.batch_size,
        every=plan.every,
        patience=plan.patience,
    )


def _predict(model: Model, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The number of each row's class, or its value; and the probability of each class."""
    if model.task == "regression":
        return predicted_values(model, x), None
    shares = probabilities(model, x)
    return shares.argmax(axis=1), shares


def _out_of_fold(model: Model, learning: FoldedData) -> tuple[np.ndarray, np.ndarray | None]:
    """Each row predicted by the network that was not trained on it."""
    classes = model.task == "classification"
    predicted = np.zeros(len(learning.x), np.int32 if classes else np.float64)
    shares = np.zeros((len(learning.x), len(model.classes))) if classes else None
    for number, fold in enumerate(learning.folds):
        alone = replace(
            model, members=jax.tree.map(lambda leaf, n=number: leaf[n : n + 1], model.members)
        )
        rows = fold.validation
        predicted[rows], of_classes = _predict(alone, learning.x[rows])
        if shares is not None:
            shares[rows] = of_classes
    return predicted, shares


def _described(encoder: Encoder) -> str:
    if isinstance(encoder, TableEncoder):
        return f"a table of {len(encoder.columns)} columns, {len(encoder.features)} features"
    if isinstance(encoder, SoundEncoder):
        return f"sounds of {encoder.rate:,} samples per second, as log-mel features"
    height, width, channels = encoder.shape
    return f"images of {width} x {height} pixels" + (" in color" if channels > 1 else "")


def _notes(trained: Trained, rows: int, score: Score) -> tuple[str, ...]:
    """What a reader should know before believing the score."""
    rates = [tried.rate for tried in trained.rates]
    diverged = sum(tried.losses.count(None) for tried in trained.rates)
    cases = {
        f"There are few rows to learn from, {rows}: another division of the rows may give "
        "another score.": rows < FEW_ROWS,
        f"The test has {score.rows} rows: the interval says how little that is.": (
            score.part == "test" and score.rows < FEW_ROWS
        ),
        "No rows were kept for a test: the score is of rows on which training was stopped and "
        "the rate was chosen, and somewhat too good.": score.part == "validation",
        f"The rate chosen, {trained.rate:.2g}, is the "
        f"{'highest' if trained.rate == max(rates) else 'lowest'} that was tried.": (
            trained.rate in (max(rates), min(rates))
        ),
        f"{diverged} trainings diverged; their rates were not chosen.": diverged > 0,
        f"{trained.starts} starts were needed; the best one counts.": trained.starts > 1,
    }
    return tuple(text for text, true in cases.items() if true)
