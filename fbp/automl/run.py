"""A fit, as an introductory article tells it: read the body of `fit_network`."""

import time
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from fbp.automl.encode import Encoder, SoundEncoder, TableEncoder
from fbp.automl.examples import Examples, prepare, strata
from fbp.automl.fitted import Fitted
from fbp.automl.inputs import Table
from fbp.automl.model import Model, predicted_values, probabilities
from fbp.automl.parts import folds
from fbp.automl.plan import Plan, plan_for
from fbp.automl.score import Score, Scored, best_constant, constant_loss, score_of
from fbp.automl.search import FoldedData
from fbp.automl.story import Story, curve_of
from fbp.automl.train import Trained, train_networks
from fbp.data.scaling import mean_and_std
from fbp.data.target import Target, TaskName

FEW_ROWS = 100


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
    """Train a network from the data alone; see `fbp.fit`."""
    begin = time.perf_counter()

    # What is to be predicted, from which numbers? Some rows are left for the test.
    data = prepare(x, y, task, test, seed, target_name, sample_weight)
    target, learning, unseen = data.target, data.learning, data.unseen
    mean, std = _scale(target, learning.weights)

    # Choose a network that suits the data, and how to train it.
    plan = plan_for(len(learning), learning.x.shape[1:], max(1, len(target.classes)))
    folded = _folded(plan, target, learning, mean, std, seed)

    # Find the rate that trains it best; keep the networks trained with it.
    usual = constant_loss(target, learning.weights)
    trained = train_networks(folded, usual, seed, progress)
    parts = (target.task, target_name, target.classes, data.encoder, plan.architecture)
    model = Model(*parts, trained.outcome.members, mean, std)

    # Measure it on rows that it has never seen.
    if len(unseen):
        part, truth, (predicted, shares) = "test", unseen.y, _predict(model, unseen.x)
    else:
        part, truth, (predicted, shares) = "validation", learning.y, _out_of_fold(model, folded)
    constant = best_constant(target)
    score = score_of(target.task, truth, predicted, constant, part, seed, shares)

    story = Story(
        **_facts(model, plan, trained, len(learning)),
        seed=seed,
        constant_loss=usual,
        score=score,
        truth=tuple(truth.tolist()),
        predicted=tuple(predicted.tolist()),
        notes=(*target.notes, *data.notes, *_notes(trained, len(learning), score)),
        seconds=time.perf_counter() - begin,
    )
    scored = None
    if shares is not None and not isinstance(data.scored, Table):
        scored = Scored(data.scored, truth, predicted, shares)
    return Fitted(model, story, scored)


def _facts(model: Model, plan: Plan, trained: Trained, rows: int) -> dict[str, Any]:
    """Return what a story tells of the model and its training."""
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
        task=target.task,
        plan=plan,
        x=learning.x,
        y=((learning.y - mean) / std).astype(np.float32) if regression else learning.y,
        weights=np.asarray(learning.weights, np.float32),
        folds=folds(strata(target), plan.members, np.random.default_rng(seed)),
    )


def _predict(model: Model, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the number of each row's class, or its value; and the probability of each class."""
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
    """Say what a reader should know before believing the score."""
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
